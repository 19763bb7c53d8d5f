// How attention is cut into tasks: up to 16 query rows that share a key/value head, by pieces of keys.
#include <algorithm>
#include <limits>

#include "context.h"

namespace outrider {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

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
          const int64_t last = batch.is_causal ? position : batch.seq_lens[seq] - 1;
          tile.rows[r] = {batch.q + at, batch.out + at, first, last};
          first_key = std::min(first_key, first);
          last_key = std::max(last_key, last);
        }
        tile.first_piece = first_key / kPiece;
        tile.last_piece = last_key / kPiece;
        tiles.push_back(tile);
      }
    }
  }
  return tiles;
}

// A tile's partial results live in one flat buffer: max [16], sum [16], out [16, Dp].
PartialSoftmax partial_at(float* buffer) { return {buffer, buffer + kTileRows, buffer + 2 * kTileRows}; }

}  // namespace

void Context::attend(const AttentionBatch& batch, const KvView& cache) {
  const int64_t dp = cache.padded_dim;
  std::vector<Tile> tiles = make_tiles(batch, cache.num_kv_heads, cache.head_dim);
  // Task i covers piece (i - begin of its tile) of a tile: long contexts spread over threads.
  std::vector<int64_t> first_task(1, 0);
  for (const Tile& tile : tiles)
    first_task.push_back(first_task.back() + tile.last_piece - tile.first_piece + 1);
  const bool by_piece = int64_t(tiles.size()) < 4 * pool_.num_threads();
  const int64_t partial_size = kTileRows * (2 + dp);
  const int64_t num_partials = by_piece ? first_task.back() : pool_.num_threads();
  const int64_t num_tiles = int64_t(tiles.size());
  float* partials = grow(attention_, (num_partials + pool_.num_threads()) * partial_size +
                                         pool_.num_threads() * kTileRows * kPiece);
  float* running = partials + num_partials * partial_size;
  float* scores = running + pool_.num_threads() * partial_size;

  const auto compute = [&](const Tile& tile, int64_t piece, float* partial, int thread) {
    const KvHead head = {cache, tile.kv_head, batch.block_tables + tile.seq * batch.max_blocks};
    kernels_->attend_piece(partial_at(partial), scores + thread * kTileRows * kPiece, tile.rows,
                           tile.num_rows, head, piece, batch.scale);
  };
  const auto finish = [&](const Tile& tile, int thread, const auto& partial_of_piece) {
    PartialSoftmax total = partial_at(running + thread * partial_size);
    std::fill(total.max, total.max + kTileRows, kMinusInfinity);
    std::fill(total.sum, total.out + kTileRows * dp, 0.0f);
    for (int64_t piece = tile.first_piece; piece <= tile.last_piece; ++piece) {
      const PartialSoftmax part = partial_at(partial_of_piece(piece));
      for (int64_t r = 0; r < tile.num_rows; ++r)
        kernels_->merge_partial(total.max + r, total.sum + r, total.out + r * dp, part.max[r], part.sum[r],
                                part.out + r * dp, dp);
    }
    for (int64_t r = 0; r < tile.num_rows; ++r)
      for (int64_t d = 0; d < cache.head_dim; ++d) tile.rows[r].out[d] = total.out[r * dp + d] / total.sum[r];
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

}  // namespace outrider
