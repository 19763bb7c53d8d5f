// How attention is cut into tasks: up to 24 query rows that share a key/value head, by pieces of keys.
#include <algorithm>
#include <atomic>
#include <limits>

#include "context.h"

namespace outrider {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Fewer tiles per thread than this are cut into pieces, so that no thread waits for a long one.
constexpr int64_t kTilesPerThread = 16;

// The partial result of a tile in one piece of memory: max, sum, out [rows, Dp].
PartialSoftmax partial_at(float* memory) { return {memory, memory + kQueryRows, memory + 2 * kQueryRows}; }
int64_t partial_floats(int64_t num_rows, int64_t padded_dim) {
  return 2 * kQueryRows + num_rows * padded_dim;
}

// The rows of a tile, spelled out while a thread works on it.
struct TileRows {
  QueryRow rows[kQueryRows];
  QueryTile tile;
  KvHead kv;

  TileRows(const AttentionBatch& batch, const KvView& cache, const AttentionTile& of)
      : tile{rows, of.num_rows, batch.scale},
        kv{cache, of.kv_head, batch.block_tables + of.seq * batch.max_blocks} {
    const int64_t group = batch.num_heads / cache.num_kv_heads;
    for (int64_t r = 0; r < of.num_rows; ++r) {
      const int64_t token = batch.cu_query_lens[of.seq] + (of.first_row + r) / group;
      const int64_t head = of.kv_head * group + (of.first_row + r) % group;
      const int64_t at = (token * batch.num_heads + head) * cache.head_dim;
      const SeenRange seen = batch.seen_by(of.seq, token);
      rows[r] = {batch.q + at, batch.out + at, seen.first_key, seen.last_key};
    }
  }
};

}  // namespace

SeenRange AttentionBatch::seen_by(int64_t seq, int64_t token) const {
  const int64_t position = seq_lens[seq] - (cu_query_lens[seq + 1] - token);
  return {chunk_size ? position / chunk_size * chunk_size : 0, is_causal ? position : seq_lens[seq] - 1};
}

// Rows in the order (token, head of the group), cut every 24.
void Context::plan_tiles(const AttentionBatch& batch, int64_t num_kv_heads) {
  const int64_t group = batch.num_heads / num_kv_heads;
  attention_tiles_.clear();
  int64_t first_task = 0;
  for (int64_t seq = 0; seq < batch.num_seqs; ++seq) {
    const int64_t begin = batch.cu_query_lens[seq], rows = (batch.cu_query_lens[seq + 1] - begin) * group;
    for (int64_t row = 0; row < rows; row += kQueryRows) {
      AttentionTile tile = {seq, 0, row, std::min(kQueryRows, rows - row), 0, 0, 0};
      tile.first_piece = batch.seen_by(seq, begin + row / group).first_key / kPiece;
      const int64_t last_token = begin + (row + tile.num_rows - 1) / group;
      tile.num_pieces = batch.seen_by(seq, last_token).last_key / kPiece + 1 - tile.first_piece;
      for (tile.kv_head = 0; tile.kv_head < num_kv_heads; ++tile.kv_head) {
        tile.first_task = first_task;
        first_task += tile.num_pieces;
        attention_tiles_.push_back(tile);
      }
    }
  }
}

void Context::attend(const AttentionBatch& batch, const KvView& cache) {
  plan_tiles(batch, cache.num_kv_heads);
  if (attention_tiles_.empty()) return;
  const int64_t num_tiles = int64_t(attention_tiles_.size());
  const AttentionTile& last = attention_tiles_.back();
  const int64_t num_pieces = last.first_task + last.num_pieces;
  if (num_pieces > num_tiles && num_tiles < kTilesPerThread * pool_.num_threads())
    attend_by_piece(batch, cache, num_pieces);
  else
    attend_by_tile(batch, cache);
}

void Context::attend_by_tile(const AttentionBatch& batch, const KvView& cache) {
  const int64_t dp = cache.padded_dim, num_tiles = int64_t(attention_tiles_.size());
  const int64_t partial_size = partial_floats(kQueryRows, dp), scratch_size = attend_scratch_floats(dp);
  float* memory = grow_aligned(attention_, pool_.num_threads() * (2 * partial_size + scratch_size));
  pool_.run(num_tiles, [&](int64_t i, int thread) {
    // Late tiles of a prompt are the longest: starting with them evens out the threads.
    const AttentionTile& tile = attention_tiles_[size_t(num_tiles - 1 - i)];
    const TileRows rows(batch, cache, tile);
    float* scratch = memory + thread * (2 * partial_size + scratch_size);
    const PartialSoftmax total = partial_at(scratch + scratch_size);
    const PartialSoftmax part = partial_at(scratch + scratch_size + partial_size);
    kernels_->attend_piece(total, scratch, rows.tile, rows.kv, tile.first_piece);
    for (int64_t piece = 1; piece < tile.num_pieces; ++piece) {
      kernels_->attend_piece(part, scratch, rows.tile, rows.kv, tile.first_piece + piece);
      kernels_->merge_partial(total, part, tile.num_rows, dp);
    }
    kernels_->finish_rows(rows.tile, total, cache.head_dim, dp);
  });
}

void Context::attend_by_piece(const AttentionBatch& batch, const KvView& cache, int64_t num_pieces) {
  const int64_t dp = cache.padded_dim, num_tiles = int64_t(attention_tiles_.size());
  int64_t most_rows = 0;
  for (const AttentionTile& tile : attention_tiles_) most_rows = std::max(most_rows, tile.num_rows);
  const int64_t partial_size = partial_floats(most_rows, dp), scratch_size = attend_scratch_floats(dp);
  float* partials = grow_aligned(attention_, num_pieces * partial_size + pool_.num_threads() * scratch_size);
  float* scratches = partials + num_pieces * partial_size;
  std::vector<std::atomic<int64_t>> num_left(static_cast<size_t>(num_tiles));
  for (int64_t i = 0; i < num_tiles; ++i)
    num_left[size_t(i)].store(attention_tiles_[size_t(i)].num_pieces, std::memory_order_relaxed);
  pool_.run(num_pieces, [&](int64_t task, int thread) {
    const auto after =
        std::upper_bound(attention_tiles_.begin(), attention_tiles_.end(), task,
                         [](int64_t t, const AttentionTile& tile) { return t < tile.first_task; });
    const AttentionTile& tile = *(after - 1);
    const TileRows rows(batch, cache, tile);
    kernels_->attend_piece(partial_at(partials + task * partial_size), scratches + thread * scratch_size,
                           rows.tile, rows.kv, tile.first_piece + task - tile.first_task);
    // Who computes a tile's last piece puts them together, in ascending order.
    if (num_left[size_t(after - 1 - attention_tiles_.begin())].fetch_sub(1) > 1) return;
    float* first = partials + tile.first_task * partial_size;
    const PartialSoftmax total = partial_at(first);
    for (int64_t piece = 1; piece < tile.num_pieces; ++piece)
      kernels_->merge_partial(total, partial_at(first + piece * partial_size), tile.num_rows, dp);
    kernels_->finish_rows(rows.tile, total, cache.head_dim, dp);
  });
}

}  // namespace outrider
