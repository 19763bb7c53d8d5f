// Softmax attention of some query rows over the paged cache, one piece of 256 keys at a time.
//
//   s = scale * log2(e) * q . k     [rows, keys]    keys in lanes
//   p = 2^(s - max(s))              [rows, keys]    unseen keys are exactly 0
//   o = p . v                       [rows, Dp]      head dimensions in lanes
//
// An f32 cache is computed in f32. With a bf16 cache q and p are rounded to bf16 where they meet k and
// v; sums are f32. An int8 cache holds k and v divided by a scale per key, which multiplies s and p
// instead: its whole numbers are bf16 values.
//
// Pieces are cut at absolute positions and merged in ascending order, so that a row's result depends
// neither on its batch nor on how pieces were spread over threads (online softmax, Milakov &
// Gimelshein, arXiv:1805.02867).
#pragma once

#include "attention_products.h"
#include "kernels.h"

namespace outrider {
namespace {

constexpr float kInf = __builtin_inff();
constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kPieceBlocks = kPiece / kBlock;

// Rows and vectors of one pass: their sums stay in registers, each vector meets all rows and each
// value of a row all vectors.
#if defined(__AVX512F__)
constexpr int kRowsTogether = 6, kVectorsTogether = 4;
#else
constexpr int kRowsTogether = 4, kVectorsTogether = 1;
#endif

template <int N>
struct Count {
  static constexpr int value = N;
};

// body(Count<R>, first row) for groups of rows.
template <typename Body>
inline void for_row_groups(int64_t num_rows, const Body& body) {
  int64_t r = 0;
  for (; r + kRowsTogether <= num_rows; r += kRowsTogether) body(Count<kRowsTogether>(), r);
  switch (num_rows - r) {
#if defined(__AVX512F__)
    case 5:
      return body(Count<5>(), r);
    case 4:
      return body(Count<4>(), r);
#endif
    case 3:
      return body(Count<3>(), r);
    case 2:
      return body(Count<2>(), r);
    case 1:
      return body(Count<1>(), r);
  }
}

// body(Count<N>, first vector) for groups of vectors.
template <typename Body>
inline void for_vector_groups(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kVectorsTogether <= count; i += kVectorsTogether) body(Count<kVectorsTogether>(), i);
#if defined(__AVX512F__)
  for (; i + 2 <= count; i += 2) body(Count<2>(), i);
  for (; i < count; ++i) body(Count<1>(), i);
#endif
}

// Where the blocks of a piece lie, for one key/value head.
template <typename T>
struct PieceBlocks {
  const T* k[kPieceBlocks];
  const T* v[kPieceBlocks];
  const uint8_t* k_scale[kPieceBlocks];  // int8 only
  const uint8_t* v_scale[kPieceBlocks];
  int64_t count, begin;        // blocks; position of the first one's first key
  int64_t first_key, end_key;  // what some row sees, counted from `begin`
};

// What a tile needs beside its result.
struct AttendScratch {
  float* scores;    // [rows, 256]: scores, then weights as the product wants them
  float* queries;   // [rows, Dp], likewise
  uint16_t* edges;  // two blocks of values [8, Dp, 2]
  uint16_t* wide;   // the blocks of a piece, [256, Dp]

  AttendScratch(float* memory, int64_t padded_dim)
      : scores(memory),
        queries(scores + kQueryRows * kPiece),
        edges(reinterpret_cast<uint16_t*>(queries + kQueryRows * padded_dim)),
        wide(edges + 2 * kBlock * padded_dim) {}
};

// Scores of R rows against the 16 keys of N blocks from block `i`.
template <typename Products, int R, int N, typename T>
inline void score_blocks(float* scores, const float* queries, const PieceBlocks<T>& blocks, int64_t i,
                         const KvView& cache, float factor) {
  Vf acc[N][R];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[n][r] = vset(0.0f);
  const int64_t steps = cache.head_dim / Products::kWidth, stride = cache.padded_dim;
  for (int64_t step = 0; step < steps; ++step) {
    Products keys[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) keys[n].load(blocks.k[i + n] + step * kBlock * Products::kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto q = Products::row_step(queries + r * stride + step * Products::kFloats);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) acc[n][r] = keys[n].add(acc[n][r], q);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    Vf factors = vset(factor);
    if (sizeof(T) == 1) factors = factors * vload_half(blocks.k_scale[i + n]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) vstore(scores + r * kPiece + (i + n) * kBlock, acc[n][r] * factors);
  }
}

// out [R, 16 N] = p [R, keys] . v [keys, Dp] from head dimension `d`, keys in ascending order. Steps
// that no row sees have weight 0, but may hold anything (0 * NaN): they are passed over.
template <typename Products, int R, int N, typename T>
inline void weigh_values(float* out, const float* weights, const PieceBlocks<T>& blocks, int64_t d,
                         int64_t padded_dim) {
  constexpr int64_t kSteps = kBlock / Products::kWidth;
  Vf acc[N][R];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[n][r] = vset(0.0f);
  const int64_t last = blocks.count - 1;
  for (int64_t block = 0; block <= last; ++block) {
    const int64_t begin = block == 0 ? blocks.first_key / Products::kWidth : 0;
    const int64_t end_key = block == last ? blocks.end_key - block * kBlock : kBlock;
    const int64_t end = (end_key + Products::kWidth - 1) / Products::kWidth;
    const T* v = blocks.v[block] + d * Products::kWidth;
    const float* p = weights + block * kSteps * Products::kFloats;
    for (int64_t step = begin; step < end; ++step) {
      Products values[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) values[n].load(v + (step * padded_dim + 16 * n) * Products::kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const auto weight = Products::row_step(p + r * kPiece + step * Products::kFloats);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) acc[n][r] = values[n].add(acc[n][r], weight);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) vstore(out + r * padded_dim + 16 * n, acc[n][r]);
}

inline int64_t clamp_lane(int64_t lane) { return lane < 0 ? 0 : lane > kBlock ? kBlock : lane; }

#define OUTRIDER_16(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
constexpr float kSeen[48] = {OUTRIDER_16(-kInf), OUTRIDER_16(kInf), OUTRIDER_16(-kInf)};
#undef OUTRIDER_16

// The keys that a row sees, counted from the first block's first.
struct SeenKeys {
  int64_t first, end;

  bool has_all_of(int64_t block) const { return first <= block * kBlock && (block + 1) * kBlock <= end; }
  // inf where a key of the block is seen, else -inf.
  Vf lanes_of(int64_t block) const {
    const int64_t from = clamp_lane(first - block * kBlock), until = clamp_lane(end - block * kBlock);
    return vmin(vload(kSeen + 16 - from), vload(kSeen + 32 - until));
  }
};

// Turn a row of scores into weights 2^(s - max), times the values' scales; gives max and sum.
template <typename Products, typename T>
void exponentiate_row(float* max, float* sum, float* row, SeenKeys seen, const PieceBlocks<T>& blocks) {
  Vf largest = vset(-kInf);
  for (int64_t i = 0; i < blocks.count; ++i) {
    Vf s = vload(row + i * kBlock);
    if (!seen.has_all_of(i)) {
      s = vmin(s, seen.lanes_of(i));
      vstore(row + i * kBlock, s);
    }
    largest = vmax(largest, s);
  }
  *max = vmax_lane(largest);
  // A row that sees none of these keys: -inf - 0 makes every weight 0.
  const Vf shift = vset(*max == -kInf ? 0.0f : *max);
  Vf total = vset(0.0f);
  for (int64_t i = 0; i < blocks.count; ++i) {
    Vf p = vpower2(vload(row + i * kBlock) - shift);
    total = total + p;
    if (sizeof(T) == 1) {
      p = p * vload_half(blocks.v_scale[i]);
      // Where no key was written the scale may be anything.
      if (!seen.has_all_of(i)) p = vkeep_ge(p, seen.lanes_of(i), vset(0.0f));
    }
    Products::put(row, i * kBlock, p);
  }
  *sum = vsum(total);
}

template <typename T>
PieceBlocks<T> find_blocks(const QueryTile& tile, const KvHead& kv, int64_t piece) {
  int64_t first = tile.rows[0].first_key, last = tile.rows[0].last_key;
  for (int64_t r = 1; r < tile.num_rows; ++r) {
    first = tile.rows[r].first_key < first ? tile.rows[r].first_key : first;
    last = tile.rows[r].last_key > last ? tile.rows[r].last_key : last;
  }
  first = first > piece * kPiece ? first : piece * kPiece;
  last = last < (piece + 1) * kPiece ? last : (piece + 1) * kPiece - 1;
  const int64_t first_block = first / kBlock;
  PieceBlocks<T> blocks;
  blocks.count = last / kBlock + 1 - first_block;
  blocks.begin = first_block * kBlock;
  blocks.first_key = first - blocks.begin;
  blocks.end_key = last + 1 - blocks.begin;
  for (int64_t i = 0; i < blocks.count; ++i) {
    const int64_t at = kv.block_table[first_block + i] * kv.cache.num_kv_heads + kv.head;
    blocks.k[i] = static_cast<const T*>(kv.cache.k) + at * kv.cache.head_dim * kBlock;
    blocks.v[i] = static_cast<const T*>(kv.cache.v) + at * kv.cache.padded_dim * kBlock;
    if (sizeof(T) > 1) continue;
    blocks.k_scale[i] = reinterpret_cast<const uint8_t*>(kv.cache.k_scale + at * kBlock);
    blocks.v_scale[i] = reinterpret_cast<const uint8_t*>(kv.cache.v_scale + at * kBlock);
  }
  return blocks;
}

// A copy of a block of value pairs up to key `end`, in which key `unseen` is 0: a pair may hold one that
// is seen and one that was never written.
inline const uint16_t* copy_without(uint16_t* out, const uint16_t* v, int64_t unseen, int64_t end,
                                    int64_t padded_dim) {
  memcpy(out, v, size_t((end + 1) / 2 * 2 * padded_dim) * sizeof(uint16_t));
  uint16_t* pairs = out + unseen / 2 * 2 * padded_dim + unseen % 2;
  for (int64_t d = 0; d < padded_dim; ++d) pairs[2 * d] = 0;
  return out;
}

inline void cover_unseen(PieceBlocks<uint16_t>& blocks, uint16_t* edges, int64_t padded_dim) {
  const int64_t last = blocks.count - 1, end = blocks.end_key - last * kBlock;
  if (blocks.first_key % 2)
    blocks.v[0] = copy_without(edges, blocks.v[0], blocks.first_key - 1, kBlock, padded_dim);
  if (end % 2)
    blocks.v[last] = copy_without(edges + kBlock * padded_dim, blocks.v[last], end, end, padded_dim);
}

template <typename T>
inline void cover_unseen(PieceBlocks<T>&, uint16_t*, int64_t) {}

template <typename Products, typename T>
void score_rows(const AttendScratch& scratch, int64_t num_rows, const PieceBlocks<T>& blocks,
                const KvView& cache, float factor) {
  for_vector_groups(blocks.count, [&](auto vectors, int64_t i) {
    for_row_groups(num_rows, [&](auto rows, int64_t r) {
      score_blocks<Products, decltype(rows)::value, decltype(vectors)::value>(
          scratch.scores + r * kPiece, scratch.queries + r * cache.padded_dim, blocks, i, cache, factor);
    });
  });
}

template <typename Products, typename T>
void weigh_rows(float* out, const AttendScratch& scratch, int64_t num_rows, const PieceBlocks<T>& blocks,
                int64_t padded_dim) {
  for_vector_groups(padded_dim / 16, [&](auto vectors, int64_t i) {
    for_row_groups(num_rows, [&](auto rows, int64_t r) {
      weigh_values<Products, decltype(rows)::value, decltype(vectors)::value>(
          out + r * padded_dim + 16 * i, scratch.scores + r * kPiece, blocks, 16 * i, padded_dim);
    });
  });
}

template <typename Products, typename T>
void attend_typed(PartialSoftmax result, float* memory, const QueryTile& tile, const KvHead& kv,
                  int64_t piece) {
  const KvView& cache = kv.cache;
  const AttendScratch scratch(memory, cache.padded_dim);
  PieceBlocks<T> blocks = find_blocks<T>(tile, kv, piece);
  for (int64_t r = 0; r < tile.num_rows; ++r)
    for (int64_t d = 0; d < cache.head_dim; d += 16)
      Products::put(scratch.queries + r * cache.padded_dim, d,
                    vload_part(tile.rows[r].q + d, cache.head_dim - d));
  score_rows<Products>(scratch, tile.num_rows, blocks, cache, tile.scale * kLog2E);
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    const SeenKeys seen = {tile.rows[r].first_key - blocks.begin, tile.rows[r].last_key + 1 - blocks.begin};
    exponentiate_row<Products>(result.max + r, result.sum + r, scratch.scores + r * kPiece, seen, blocks);
  }
  cover_unseen(blocks, scratch.edges, cache.padded_dim);
  weigh_rows<Products>(result.out, scratch, tile.num_rows, blocks, cache.padded_dim);
}

template <bool kHardware>
void attend_piece(PartialSoftmax result, float* memory, const QueryTile& tile, const KvHead& kv,
                  int64_t piece) {
  switch (kv.cache.type) {
    case kKvF32:
      return attend_typed<OneProduct, float>(result, memory, tile, kv, piece);
    case kKvBf16:
      return attend_typed<PairProduct<kHardware>, uint16_t>(result, memory, tile, kv, piece);
    case kKvInt8:
      return attend_typed<PairProduct<kHardware>, int8_t>(result, memory, tile, kv, piece);
  }
}

void merge_partial(PartialSoftmax total, PartialSoftmax part, int64_t num_rows, int64_t padded_dim) {
  for (int64_t r = 0; r < num_rows; ++r, total.out += padded_dim, part.out += padded_dim) {
    if (part.max[r] == -kInf) continue;
    const float max = total.max[r] > part.max[r] ? total.max[r] : part.max[r];
    float factors[16] = {total.max[r] - max, part.max[r] - max};
    vstore(factors, vpower2(vload(factors)));
    const Vf keep = vset(factors[0]), add = vset(factors[1]);
    for (int64_t d = 0; d < padded_dim; d += 16)
      vstore(total.out + d, vfma(vload(part.out + d), add, vload(total.out + d) * keep));
    total.sum[r] = total.sum[r] * factors[0] + part.sum[r] * factors[1];
    total.max[r] = max;
  }
}

void finish_rows(const QueryTile& tile, PartialSoftmax total, int64_t head_dim, int64_t padded_dim) {
  for (int64_t r = 0; r < tile.num_rows; ++r, total.out += padded_dim) {
    const Vf sum = vset(total.sum[r]);
    for (int64_t d = 0; d < head_dim; d += 16)
      vstore_part(tile.rows[r].out + d, vload(total.out + d) / sum, head_dim - d);
  }
}

}  // namespace
}  // namespace outrider
