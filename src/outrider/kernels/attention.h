// Softmax attention of up to 16 query rows over the paged cache, one piece of 256 keys at a time.
//
//   s = scale * q . k      [rows, keys]     keys in lanes: k lies as [D, 16] in a block
//   p = exp(s - max(s))                     masked keys are exactly 0
//   o = p . v              [rows, Dp]       head dimensions in lanes: v lies as [16, Dp]
//
// An int8 cache holds k and v divided by a scale per key, which multiplies s and p instead: k' in
// s = scale * (q . k') * k_scale and p * v_scale in front of v'.
//
// Pieces are cut at absolute positions and merged in ascending order, so that a row's result
// depends neither on its batch nor on how pieces were spread over threads (online softmax,
// Milakov & Gimelshein, arXiv:1805.02867).
#pragma once

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

constexpr float kMinusInf = -__builtin_inff();

inline Vf load_kv(const float* p) { return vload(p); }
inline Vf load_kv(const uint16_t* p) { return vload_bf16(p); }
inline Vf load_kv(const int8_t* p) { return vload_int8(p); }

// Rows and key blocks (or 16-value parts of a head) of one pass: their sums stay in registers and
// each broadcast of a row's value serves kTogether vectors.
#if defined(__AVX512F__)
constexpr int kAttendRows = 6, kTogether = 2;
#else
constexpr int kAttendRows = 3, kTogether = 1;
#endif

// Where the blocks of a piece lie, for one key/value head.
template <typename T>
struct PieceBlocks {
  const T* k[kPiece / kBlock];
  const T* v[kPiece / kBlock];
  const uint8_t* k_scale[kPiece / kBlock];  // int8 only
  const uint8_t* v_scale[kPiece / kBlock];
  int64_t count, begin;         // blocks; position of the first one's first key
  int64_t first_key, last_key;  // what some row sees, counted from `begin`
};

// Scores of R rows against the 16 keys of N blocks from block `i`.
template <int R, int N, typename T>
inline void score_blocks(float* scores, const QueryRow* rows, const PieceBlocks<T>& blocks, int64_t i,
                         int64_t head_dim, float scale) {
  Vf acc[N][R];
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) acc[n][r] = vset(0.0f);
  for (int64_t d = 0; d < head_dim; ++d) {
    Vf keys[N];
    for (int n = 0; n < N; ++n) keys[n] = load_kv(blocks.k[i + n] + d * kBlock);
    for (int r = 0; r < R; ++r) {
      const Vf q = vset(rows[r].q[d]);
      for (int n = 0; n < N; ++n) acc[n][r] = vfma(keys[n], q, acc[n][r]);
    }
  }
  for (int n = 0; n < N; ++n) {
    Vf factor = vset(scale);
    if (sizeof(T) == 1) factor = factor * vload_half(blocks.k_scale[i + n]);
    for (int r = 0; r < R; ++r) vstore(scores + r * kPiece + (i + n) * kBlock, acc[n][r] * factor);
  }
}

// acc [N, R] += p [R, keys] . v [keys, 16 N] for keys `first` .. `end` of a block.
template <int R, int N, typename T>
inline void weigh_block(Vf (&acc)[N][R], const float* p, const T* v, int64_t first, int64_t end,
                        int64_t padded_dim) {
  for (int64_t key = first; key < end; ++key) {
    Vf values[N];
    for (int n = 0; n < N; ++n) values[n] = load_kv(v + key * padded_dim + 16 * n);
    for (int r = 0; r < R; ++r) {
      const Vf weight = vset(p[r * kPiece + key]);
      for (int n = 0; n < N; ++n) acc[n][r] = vfma(values[n], weight, acc[n][r]);
    }
  }
}

// out [R, 16 N] = p [R, keys] . v [keys, Dp] from head dimension `d`, keys in ascending order. Keys
// that no row sees have weight 0, but may hold anything (0 * NaN): they are passed over.
template <int R, int N, typename T>
inline void weigh_values(float* out, const float* p, const PieceBlocks<T>& blocks, int64_t d,
                         int64_t padded_dim) {
  Vf acc[N][R];
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) acc[n][r] = vset(0.0f);
  for (int64_t block = 0; block < blocks.count; ++block, p += kBlock) {
    const int64_t first = block == 0 ? blocks.first_key : 0;
    const int64_t end = block + 1 == blocks.count ? blocks.last_key + 1 - block * kBlock : kBlock;
    const T* v = blocks.v[block] + d;
    if (first == 0 && end == kBlock)
      weigh_block<R, N>(acc, p, v, 0, kBlock, padded_dim);
    else
      weigh_block<R, N>(acc, p, v, first, end, padded_dim);
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) vstore(out + r * padded_dim + 16 * n, acc[n][r]);
}

inline void mask_row(float* scores, const QueryRow& row, int64_t begin, int64_t end) {
  for (int64_t key = begin; key < end && key < row.first_key; ++key) scores[key - begin] = kMinusInf;
  for (int64_t key = row.last_key + 1 > begin ? row.last_key + 1 : begin; key < end; ++key)
    scores[key - begin] = kMinusInf;
}

// Turn a row of scores into exp(s - max); gives max and sum. Lanes beyond the range hold -inf.
inline void exponentiate_row(float* max, float* sum, float* scores, int64_t num_keys) {
  Vf largest = vset(kMinusInf);
  for (int64_t i = 0; i < num_keys; i += 16) largest = vmax(largest, vload(scores + i));
  *max = vmax_lane(largest);
  // A row that sees none of these keys: -inf - 0 makes every weight 0.
  const Vf shift = vset(*max == kMinusInf ? 0.0f : *max);
  Vf total = vset(0.0f);
  for (int64_t i = 0; i < num_keys; i += 16) {
    const Vf p = vexp(vload(scores + i) - shift);
    vstore(scores + i, p);
    total = total + p;
  }
  *sum = vsum(total);
}

template <int R, typename T>
void attend_rows(PartialSoftmax result, float* scores, const QueryRow* rows, const PieceBlocks<T>& blocks,
                 const KvView& cache, float scale) {
  int64_t i = 0;
  for (; i + kTogether <= blocks.count; i += kTogether)
    score_blocks<R, kTogether>(scores, rows, blocks, i, cache.head_dim, scale);
  for (; i < blocks.count; ++i) score_blocks<R, 1>(scores, rows, blocks, i, cache.head_dim, scale);
  const int64_t num_keys = blocks.count * kBlock;
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kPiece;
    mask_row(row, rows[r], blocks.begin, blocks.begin + num_keys);
    exponentiate_row(result.max + r, result.sum + r, row, num_keys);
    if (sizeof(T) == 1)
      for (i = 0; i < blocks.count; ++i)
        vstore(row + i * kBlock, vload(row + i * kBlock) * vload_half(blocks.v_scale[i]));
  }
  int64_t d = 0;
  for (; d + 16 * kTogether <= cache.padded_dim; d += 16 * kTogether)
    weigh_values<R, kTogether>(result.out + d, scores, blocks, d, cache.padded_dim);
  for (; d < cache.padded_dim; d += 16)
    weigh_values<R, 1>(result.out + d, scores, blocks, d, cache.padded_dim);
}

template <typename T>
PieceBlocks<T> find_blocks(const QueryRow* rows, int64_t num_rows, const KvHead& kv, int64_t piece) {
  int64_t first = rows[0].first_key, last = rows[0].last_key;
  for (int64_t r = 1; r < num_rows; ++r) {
    first = rows[r].first_key < first ? rows[r].first_key : first;
    last = rows[r].last_key > last ? rows[r].last_key : last;
  }
  first = first > piece * kPiece ? first : piece * kPiece;
  last = last < (piece + 1) * kPiece ? last : (piece + 1) * kPiece - 1;
  const int64_t first_block = first / kBlock;
  PieceBlocks<T> blocks;
  blocks.count = last / kBlock + 1 - first_block;
  blocks.begin = first_block * kBlock;
  blocks.first_key = first - blocks.begin;
  blocks.last_key = last - blocks.begin;
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

template <typename T>
void attend_piece_typed(PartialSoftmax result, float* scores, const QueryRow* rows, int64_t num_rows,
                        const KvHead& kv, int64_t piece, float scale) {
  const PieceBlocks<T> blocks = find_blocks<T>(rows, num_rows, kv, piece);
  for (int64_t r = 0; r < num_rows;) {
    const PartialSoftmax part = {result.max + r, result.sum + r, result.out + r * kv.cache.padded_dim};
    const int64_t left = num_rows - r;
    const int64_t now = left < kAttendRows ? left : kAttendRows;
    switch (now) {
#if defined(__AVX512F__)
      case 6:
        attend_rows<6>(part, scores, rows + r, blocks, kv.cache, scale);
        break;
      case 5:
        attend_rows<5>(part, scores, rows + r, blocks, kv.cache, scale);
        break;
      case 4:
        attend_rows<4>(part, scores, rows + r, blocks, kv.cache, scale);
        break;
#endif
      case 3:
        attend_rows<3>(part, scores, rows + r, blocks, kv.cache, scale);
        break;
      case 2:
        attend_rows<2>(part, scores, rows + r, blocks, kv.cache, scale);
        break;
      default:
        attend_rows<1>(part, scores, rows + r, blocks, kv.cache, scale);
        break;
    }
    r += now;
  }
}

void attend_piece(PartialSoftmax result, float* scores, const QueryRow* rows, int64_t num_rows,
                  const KvHead& kv, int64_t piece, float scale) {
  switch (kv.cache.type) {
    case kKvF32:
      return attend_piece_typed<float>(result, scores, rows, num_rows, kv, piece, scale);
    case kKvBf16:
      return attend_piece_typed<uint16_t>(result, scores, rows, num_rows, kv, piece, scale);
    case kKvInt8:
      return attend_piece_typed<int8_t>(result, scores, rows, num_rows, kv, piece, scale);
  }
}

void merge_partial(float* max, float* sum, float* out, float piece_max, float piece_sum,
                   const float* piece_out, int64_t padded_dim) {
  if (piece_max == kMinusInf) return;
  const float new_max = *max > piece_max ? *max : piece_max;
  float factors[16] = {*max - new_max, piece_max - new_max};
  vstore(factors, vexp(vload(factors)));
  const Vf keep = vset(factors[0]), add = vset(factors[1]);
  for (int64_t d = 0; d < padded_dim; d += 16)
    vstore(out + d, vfma(vload(piece_out + d), add, vload(out + d) * keep));
  *sum = *sum * factors[0] + piece_sum * factors[1];
  *max = new_max;
}

}  // namespace
}  // namespace outrider
