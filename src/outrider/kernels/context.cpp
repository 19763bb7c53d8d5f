#include "context.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace outrider {
namespace {

// Rows of one pass: their activations stay in a core's second-level cache while weights stream by.
constexpr int64_t kRowChunkBytes = 384 << 10;
// One row is bound by the weight stream, which a new task interrupts; many rows by arithmetic, which
// more tasks spread more evenly (docs/LOG.md, 2026-11-21).
constexpr int64_t kTasksPerThread = 8, kTasksPerThreadOneRow = 2;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

template <typename T>
T* grow(std::vector<T>& buffer, int64_t size) {
  if (int64_t(buffer.size()) < size) buffer.resize(size_t(size));
  return buffer.data();
}

}  // namespace

Activations Context::convert(const float* x, int64_t num_rows, int64_t cols, bool to_quants, bool to_bf16,
                             bool to_f32) {
  const int64_t stride = (cols + kGroup - 1) / kGroup * kGroup, groups = stride / kGroup;
  Activations form = {};
  form.stride = stride;
  if (to_quants) {
    ActivationTile* tiles = grow(tiles_, (num_rows + kTileRows - 1) / kTileRows * groups);
    for_rows(num_rows, cols, [&](int64_t t) {
      kernels_->quantise_row(tiles + t / kTileRows * groups, t % kTileRows, x + t * cols, cols);
    });
    form.tiles = tiles;
  }
  if (to_bf16) {
    uint16_t* rounded = grow(bf16_, num_rows * stride);
    for_rows(num_rows, cols, [&](int64_t t) {
      kernels_->round_row_to_bf16(rounded + t * stride, x + t * cols, cols, stride);
    });
    form.bf16 = rounded;
  }
  if (to_f32 && stride == cols) {
    form.f32 = x;
  } else if (to_f32) {
    float* padded = grow(padded_, num_rows * stride);
    for (int64_t t = 0; t < num_rows; ++t) {
      std::memcpy(padded + t * stride, x + t * cols, size_t(cols) * sizeof(float));
      std::fill(padded + t * stride + cols, padded + (t + 1) * stride, 0.0f);
    }
    form.f32 = padded;
  }
  return form;
}

void Context::linear(const float* x, int64_t num_rows, int64_t cols, const std::vector<WeightView>& weights,
                     const std::vector<float*>& outs, bool accumulate) {
  bool to_quants = false, to_bf16 = false, to_f32 = false;
  int64_t num_panels = 0;
  for (const WeightView& w : weights) {
    to_quants |= w.format >= kQ8;
    to_bf16 |= w.format == kBf16;
    to_f32 |= w.format == kF32;
    num_panels += w.num_panels;
  }
  const Activations form = convert(x, num_rows, cols, to_quants, to_bf16, to_f32);
  const int64_t row_bytes = form.stride * (to_f32 ? 4 : to_bf16 ? 2 : 1);
  const int64_t row_chunk = std::max<int64_t>(kTileRows, kRowChunkBytes / row_bytes / kTileRows * kTileRows);
  const int64_t num_tasks = (num_rows == 1 ? kTasksPerThreadOneRow : kTasksPerThread) * pool_.num_threads();
  const int64_t panels_per_task = (num_panels + num_tasks - 1) / num_tasks;
  const int64_t tasks_per_chunk = (num_panels + panels_per_task - 1) / panels_per_task;
  const int64_t num_chunks = (num_rows + row_chunk - 1) / row_chunk;
  pool_.run(num_chunks * tasks_per_chunk, [&](int64_t task, int) {
    const int64_t row_begin = task / tasks_per_chunk * row_chunk;
    const int64_t row_end = std::min(num_rows, row_begin + row_chunk);
    int64_t begin = task % tasks_per_chunk * panels_per_task;
    int64_t end = std::min(num_panels, begin + panels_per_task);
    for (size_t i = 0; i < weights.size() && end > 0; ++i) {
      const WeightView& w = weights[i];
      if (begin < w.num_panels)
        kernels_->matmul(outs[i], w.rows, form, w, row_begin, row_end, begin, std::min(end, w.num_panels),
                         accumulate);
      begin = std::max<int64_t>(0, begin - w.num_panels);
      end -= w.num_panels;
    }
  });
}

namespace {

// Up to 16 query rows of one sequence that read the same key/value head.
struct Tile {
  int64_t seq, kv_head, num_rows, first_piece, last_piece;
  QueryRow rows[kTileRows];
};

std::vector<Tile> make_tiles(const AttentionBatch& batch, int64_t num_kv_heads, int64_t head_dim) {
  std::vector<Tile> tiles;
  const int64_t group = batch.num_heads / num_kv_heads;
  for (int64_t seq = 0; seq < batch.num_seqs; ++seq) {
    const int64_t begin = batch.cu_query_lens[seq], end = batch.cu_query_lens[seq + 1];
    for (int64_t kv_head = 0; kv_head < num_kv_heads; ++kv_head) {
      // Rows in the order (token, head of the group), cut every 16.
      for (int64_t row = 0; row < (end - begin) * group; row += kTileRows) {
        Tile tile = {seq, kv_head, std::min(kTileRows, (end - begin) * group - row), 0, 0, {}};
        int64_t first_key = std::numeric_limits<int64_t>::max(), last_key = 0;
        for (int64_t r = 0; r < tile.num_rows; ++r) {
          const int64_t token = begin + (row + r) / group;
          const int64_t head = kv_head * group + (row + r) % group;
          const int64_t at = (token * batch.num_heads + head) * head_dim;
          const int64_t position = batch.seq_lens[seq] - (end - token);
          const int64_t first = batch.chunk_size ? position / batch.chunk_size * batch.chunk_size : 0;
          tile.rows[r] = {batch.q + at, batch.out + at, first, position};
          first_key = std::min(first_key, first);
          last_key = std::max(last_key, position);
        }
        tile.first_piece = first_key / kPiece;
        tile.last_piece = last_key / kPiece;
        tiles.push_back(tile);
      }
    }
  }
  return tiles;
}

// A tile's partial results live in one flat buffer: max [16], sum [16], out [16, D].
PartialSoftmax partial_at(float* buffer) { return {buffer, buffer + kTileRows, buffer + 2 * kTileRows}; }

}  // namespace

void Context::attend(const AttentionBatch& batch, const KvView& kv) {
  std::vector<Tile> tiles = make_tiles(batch, kv.num_kv_heads, kv.head_dim);
  // Task i covers piece (i - begin of its tile) of a tile: long contexts spread over threads.
  std::vector<int64_t> first_task(1, 0);
  for (const Tile& tile : tiles)
    first_task.push_back(first_task.back() + tile.last_piece - tile.first_piece + 1);
  const bool by_piece = int64_t(tiles.size()) < 4 * pool_.num_threads();
  const int64_t partial_size = kTileRows * (2 + kv.head_dim);
  const int64_t num_partials = by_piece ? first_task.back() : pool_.num_threads();
  const int64_t num_tiles = int64_t(tiles.size());
  float* partials = grow(attention_, (num_partials + pool_.num_threads()) * partial_size +
                                         pool_.num_threads() * kTileRows * kPiece);
  float* running = partials + num_partials * partial_size;
  float* scores = running + pool_.num_threads() * partial_size;

  const auto compute = [&](const Tile& tile, int64_t piece, float* partial, int thread) {
    KvView view = kv;
    view.kv_head = tile.kv_head;
    view.block_table = batch.block_tables + tile.seq * batch.max_blocks;
    kernels_->attend_piece(partial_at(partial), scores + thread * kTileRows * kPiece, tile.rows,
                           tile.num_rows, view, piece, batch.scale);
  };
  const auto finish = [&](const Tile& tile, int thread, const auto& partial_of_piece) {
    PartialSoftmax total = partial_at(running + thread * partial_size);
    std::fill(total.max, total.max + kTileRows, kMinusInfinity);
    std::fill(total.sum, total.out + kTileRows * kv.head_dim, 0.0f);
    for (int64_t piece = tile.first_piece; piece <= tile.last_piece; ++piece) {
      const PartialSoftmax part = partial_at(partial_of_piece(piece));
      for (int64_t r = 0; r < tile.num_rows; ++r)
        kernels_->merge_partial(total.max + r, total.sum + r, total.out + r * kv.head_dim, part.max[r],
                                part.sum[r], part.out + r * kv.head_dim, kv.head_dim);
    }
    for (int64_t r = 0; r < tile.num_rows; ++r)
      for (int64_t d = 0; d < kv.head_dim; ++d)
        tile.rows[r].out[d] = total.out[r * kv.head_dim + d] / total.sum[r];
  };

  if (!by_piece) {
    pool_.run(num_tiles, [&](int64_t i, int thread) {
      float* partial = partials + thread * partial_size;
      // Late tiles of a prompt are the longest: starting with them evens out the threads.
      const Tile& tile = tiles[size_t(num_tiles - 1 - i)];
      finish(tile, thread, [&](int64_t piece) {
        compute(tile, piece, partial, thread);
        return partial;
      });
    });
    return;
  }
  pool_.run(first_task.back(), [&](int64_t task, int thread) {
    const auto after = std::upper_bound(first_task.begin(), first_task.end(), task);
    const int64_t i = after - first_task.begin() - 1;
    const Tile& tile = tiles[size_t(i)];
    compute(tile, tile.first_piece + task - first_task[size_t(i)], partials + task * partial_size, thread);
  });
  for (int64_t i = 0; i < num_tiles; ++i) {
    const Tile& tile = tiles[size_t(i)];
    float* first = partials + first_task[size_t(i)] * partial_size;
    finish(tile, 0, [&](int64_t piece) { return first + (piece - tile.first_piece) * partial_size; });
  }
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni"))
    names.push_back("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");
#endif
  names.push_back("scalar");
  return names;
}

const Kernels* find_kernels(const std::string& isa) {
  const std::vector<std::string> names = supported_isas();
  const std::string& name = isa == "auto" ? names.front() : isa;
  if (std::find(names.begin(), names.end(), name) == names.end()) return nullptr;
#if defined(__x86_64__)
  if (name == "avx512") return avx512_kernels(__builtin_cpu_supports("avx512bf16"));
  if (name == "avx2") return avx2_kernels();
#endif
  return scalar_kernels();
}

}  // namespace outrider
