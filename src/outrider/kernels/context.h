// A thread pool, one instruction set's kernels and the scratch memory they need.
//
// Context splits each operation into tasks of fixed shape and runs them on the pool. It is used
// by one thread at a time; two contexts are independent.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels.h"
#include "program.h"
#include "thread_pool.h"

namespace outrider {

// Names of the instruction sets this machine can run, best first; "scalar" is always there.
std::vector<std::string> supported_isas();

// "auto" or a name; nullptr when this machine or build doesn't have it.
const Kernels* find_kernels(const std::string& isa);

// The first and the last position that a query sees.
struct SeenRange {
  int64_t first_key, last_key;
};

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
  bool is_causal;  // else every query sees all keys of its sequence

  SeenRange seen_by(int64_t seq, int64_t token) const;
};

// Up to 24 query rows of one sequence that read the same key/value head.
struct AttentionTile {
  int64_t seq, kv_head, first_row, num_rows;
  int64_t first_piece, num_pieces;
  int64_t first_task;  // pieces of earlier tiles
};

// What rows of activations are multiplied with. With experts, `weights` are those of expert 0 and
// the others follow them at equal distances.
struct Matmul {
  const float* x;  // [T, K]
  int64_t num_rows, cols;
  std::vector<WeightView> weights;
  std::vector<float*> outs;  // [T, N_i]
  bool accumulate;
};

// Where the routing of a step goes: each token has a row per expert that it meets.
struct Routing {
  int32_t* rows;     // [T top_k] the token of each row, sorted by expert and then by token
  float* factors;    // [T top_k] what the row's input is multiplied by
  int32_t* cu_rows;  // [E + 1] expert e has the rows cu[e] .. cu[e + 1]
};

// Rows of logits [R, V]; with `rows` only those, in its order.
struct LogitRows {
  float* x;  // written where there is a mask
  const int32_t* rows;
  int64_t num_rows, vocab_size;

  float* row(int64_t r) const { return x + (rows ? rows[r] : r) * vocab_size; }
};

// How a row becomes a token. The filters are applied in this order; each sees what the former left.
struct SamplingRule {
  double temperature;  // 0: the best token
  double count;        // keep so many of the best; 0: all
  double share;        // … the best that reach this share of the sum; 1: all
  double least;        // … those of at least this share of the best one's probability
  double square;       // … those of at least this multiple of its square
  double uniform;      // which of the rest: a random number in [0, 1)
};

// Masks of tokens for some rows of logits: bit t % 32 of word t / 32 lets token t through.
struct TokenMasks {
  const uint32_t* bits;    // [masks, num_words]
  const int32_t* of_rows;  // [R] which of them; -1: none. nullptr: none for any row
  int64_t num_words;

  const uint32_t* row(int64_t r) const {
    return of_rows && of_rows[r] >= 0 ? bits + of_rows[r] * num_words : nullptr;
  }
};

// A token whose logit is changed before it is sampled.
struct TokenPenalty {
  float bias;
  float is_seen;  // in prompt or output: 1, else 0
  float count;    // in the output
};

// Tokens that are penalised in a row, each once.
struct PenaltyTable {
  const int32_t* token_ids;       // [size]
  const TokenPenalty* penalties;  // [size]
  int64_t size;
};

// What a token that was seen loses.
struct PenaltyFactors {
  float repetition;  // positive logits are divided by it, others multiplied
  float frequency;   // for each time in the output
  float presence;    // for any time in the output
};

// Change a row of logits by its table; before [size] = what they were.
void penalise(float* before, float* logits, const PenaltyTable& table, const PenaltyFactors& factors);

constexpr int32_t kNoneAllowed = -2;
constexpr int64_t kDigits = 256, kBinSets = 4;
// A cut among so many chunks is guessed by one of so many of them.
constexpr int64_t kManyChunks = 128, kSampledChunk = 16;
constexpr int kCoarseShift = 18;  // bits of a weight that coarse bins leave off
constexpr int64_t kCoarseDigits = (int64_t(0x3f800000) >> kCoarseShift) + 1;  // no weight exceeds 1

// What one thread needs to choose among the tokens of a row.
struct SamplingScratch {
  std::vector<int32_t> chunks;                     // of the row, that are looked into
  std::vector<float> weights;                      // [chunks, 128]
  std::vector<float> rest;                         // a copy of some values
  std::vector<std::pair<float, int32_t>> ranking;  // logits and their tokens
  std::vector<double> masses;                      // [chunks] sums of weights
  double bins[kBinSets][kDigits];
  double coarse_bins[kCoarseDigits];
};

class Context {
 public:
  // With `keeps_bf16` activations are rounded to bf16 where they meet quantised weights, not to int8.
  Context(int num_threads, const Kernels* kernels, bool keeps_bf16)
      : pool_(num_threads), kernels_(kernels), keeps_bf16_(keeps_bf16) {}

  int num_threads() const { return pool_.num_threads(); }
  const Kernels& kernels() const { return *kernels_; }
  bool keeps_bf16() const { return keeps_bf16_; }

  // Where calls are kept as they are run; nullptr: nowhere.
  Program* recorder() const { return recorder_; }
  void set_recorder(Program* program) { recorder_ = program; }

  // outs[i] (+)= x . weights[i]^T; x is converted once per form needed.
  void linear(const Matmul& call);
  // The same, but rows cu_rows[e] .. cu_rows[e + 1] of x meet expert e. Experts without rows are
  // not read; a row's result is that of `linear` with its expert.
  void grouped_linear(const Matmul& call, const int32_t* cu_rows, int64_t num_experts);
  // Tell the threads which weights `linear` will read next, so that they fetch them while they wait.
  void read_ahead(const std::vector<WeightView>& weights);
  void stop_reading_ahead();
  // Choose the `top_k` experts of every token from its logits, and sort the rows [T top_k] by expert.
  void route(const Routing& out, const float* logits, int64_t num_tokens, int64_t num_experts, int64_t top_k);
  // out[rows[r]] += y[r] for r in ascending order; y [R, C].
  void scatter_add(float* out, const float* y, const int32_t* rows, int64_t num_rows, int64_t cols);
  void attend(const AttentionBatch& batch, const KvView& cache);
  // One token per row of those that its mask lets through; -1 where the best logit isn't finite or
  // any isn't a number, with or without a mask; else kNoneAllowed where the mask leaves nothing.
  void choose_tokens(int32_t* token_ids, const LogitRows& logits, const TokenMasks& masks,
                     const SamplingRule* rules);
  // The `count` best tokens of each row, best first, then -1, and the sum of exp(x - max). Rows as
  // above have no tokens and the sum NaN.
  void rank_tokens(int32_t* token_ids, double* totals, const LogitRows& logits, int64_t count);
  // Sums and counts of limits.h on all threads at once.
  uint64_t sum_words(const uint64_t* data, int64_t count);
  int64_t count_products(Product kind, int64_t num_steps);

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

  // Rows [begin, end) of x meet one expert. Their activation tiles start at `first_tile`: no tile has
  // rows of two experts.
  struct RowGroup {
    int64_t expert, begin, end, first_tile;
  };
  // Up to 16 rows of x that share a tile.
  struct RowTile {
    int64_t begin, count;
  };
  // Part of a group's rows against part of the panels, counted through all weights.
  struct MatmulTask {
    const RowGroup* group;
    int64_t row_begin, row_end, panel_begin, panel_end;
  };

  // At least `size` elements of a buffer; what they held is lost.
  template <typename T>
  static T* grow(std::vector<T>& buffer, int64_t size) {
    if (int64_t(buffer.size()) < size) buffer.resize(size_t(size));
    return buffer.data();
  }

  // The same, at the beginning of a cache line.
  static float* grow_aligned(std::vector<float>& buffer, int64_t size) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(grow(buffer, size + 16));
    return reinterpret_cast<float*>((address + 63) / 64 * 64);
  }

  void plan_tiles(const AttentionBatch& batch, int64_t num_kv_heads);
  // A task is a tile, or a piece of one.
  void attend_by_tile(const AttentionBatch& batch, const KvView& cache);
  void attend_by_piece(const AttentionBatch& batch, const KvView& cache, int64_t num_pieces);

  void run_groups(const Matmul& call);
  Activations convert(const Matmul& call);
  const ActivationTile* quantise(const Matmul& call, int64_t groups);
  void plan_tasks(int64_t num_panels, int64_t row_chunk, int64_t panels_together);
  void run_task(const MatmulTask& task, const Matmul& call, const Activations& form);

  // What is known of a row of logits before its weights are.
  struct Peak {
    float max;         // NaN if a logit is
    int32_t token_id;  // the first with that maximum
  };
  // x [size] and the maxima of its chunks → the first that is the largest, if that is finite.
  static Peak find_peak(const float* x, const float* maxima, int64_t size);
  void find_peaks(const LogitRows& logits, const TokenMasks& masks);
  // Which sums of a row's weights are wanted.
  struct WeightSums {
    bool are_needed, with_floors;
    float scale;
  };
  // Add up the weights of each chunk as row_sums(row) wants them.
  template <typename RowSums>
  void add_chunks(const LogitRows& logits, const RowSums& row_sums);

  ThreadPool pool_;
  const Kernels* kernels_;
  const bool keeps_bf16_;
  Program* recorder_ = nullptr;
  std::vector<RowGroup> groups_;
  std::vector<MatmulTask> tasks_;
  std::vector<RowTile> row_tiles_;
  std::vector<ActivationTile> tiles_;
  std::vector<AttentionTile> attention_tiles_;
  std::vector<float> padded_, attention_, bf16_sums_;
  std::vector<uint16_t> bf16_;
  std::vector<int32_t> chosen_;  // [T, top_k] experts of each token
  std::vector<Peak> peaks_;
  std::vector<float> chunk_maxima_, chunk_sums_;  // [R, chunks]
  std::vector<float> floor_sums_;                 // [R, pieces, kFloors]
  std::vector<float> unmasked_maxima_;            // [R, pieces], of rows with a mask
  std::vector<SamplingScratch> sampling_;         // one per thread
};

}  // namespace outrider
