// A thread pool, one instruction set's kernels and the scratch memory they need.
//
// Context splits each operation into tasks of fixed shape and runs them on the pool. It is used
// by one thread at a time; two contexts are independent.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"
#include "thread_pool.h"

namespace outrider {

// Names of the instruction sets this machine can run, best first; "scalar" is always there.
std::vector<std::string> supported_isas();

// "auto" or a name; nullptr when this machine or build doesn't have it.
const Kernels* find_kernels(const std::string& isa);

// A batch of sequences for attention; every array is borrowed.
struct AttentionBatch {
  const float* q;                // [T, H, D]
  float* out;                    // [T, H, D]
  const int32_t* block_tables;   // [S, max_blocks]
  const int32_t* cu_query_lens;  // [S + 1]
  const int32_t* seq_lens;       // [S] context length, this step's tokens included
  int64_t num_seqs, max_blocks, num_heads;
  int64_t chunk_size;  // keys of earlier chunks are invisible; 0: no chunks
  float scale;
};

class Context {
 public:
  Context(int num_threads, const Kernels* kernels) : pool_(num_threads), kernels_(kernels) {}

  int num_threads() const { return pool_.num_threads(); }
  const Kernels& kernels() const { return *kernels_; }

  // outs[i] [T, N_i] (+)= x [T, K] . weights[i]^T; x is converted once per form needed.
  void linear(const float* x, int64_t num_rows, int64_t cols, const std::vector<WeightView>& weights,
              const std::vector<float*>& outs, bool accumulate);
  // KV pointers and sizes come from `kv`; its head and table are filled in per task.
  void attend(const AttentionBatch& batch, const KvView& kv);

  // body(row) for every row, in parallel when there are enough values to pay for it.
  template <typename Body>
  void for_rows(int64_t num_rows, int64_t values_per_row, const Body& body) {
    const int64_t values = values_per_row > 0 ? values_per_row : 1;
    const int64_t rows_per_task = values >= kMinTaskValues ? 1 : kMinTaskValues / values;
    const int64_t num_tasks = (num_rows + rows_per_task - 1) / rows_per_task;
    pool_.run(num_tasks, [&](int64_t task, int) {
      const int64_t end = (task + 1) * rows_per_task < num_rows ? (task + 1) * rows_per_task : num_rows;
      for (int64_t row = task * rows_per_task; row < end; ++row) body(row);
    });
  }

 private:
  static constexpr int64_t kMinTaskValues = 8192;

  Activations convert(const float* x, int64_t num_rows, int64_t cols, bool to_quants, bool to_bf16,
                      bool to_f32);

  ThreadPool pool_;
  const Kernels* kernels_;
  std::vector<ActivationTile> tiles_;
  std::vector<float> padded_, attention_;
  std::vector<uint16_t> bf16_;
};

}  // namespace outrider
