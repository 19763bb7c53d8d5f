// Softmax attention of up to 16 query rows over the paged cache, one piece of 256 keys at a time.
//
//   s = scale * q . k      [rows, keys]     keys in lanes: k lies as [D, 16] in a block
//   p = exp(s - max(s))                     masked keys are exactly 0
//   o = p . v              [rows, D]        head dimensions in lanes: v lies as [16, D]
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

// Rows and key blocks (or 16-value parts of a head) of one pass: their sums stay in registers and
// each broadcast of a row's value serves kTogether vectors.
#if defined(__AVX512F__)
constexpr int kAttendRows = 6, kTogether = 2;
#else
constexpr int kAttendRows = 3, kTogether = 1;
#endif

// Scores of R rows against the 16 keys of N blocks.
template <int R, int N, typename T>
inline void score_blocks(float* scores, const QueryRow* rows, const T* const* k, int64_t head_dim,
                         float scale) {
  Vf acc[N][R];
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) acc[n][r] = vset(0.0f);
  for (int64_t d = 0; d < head_dim; ++d) {
    Vf keys[N];
    for (int n = 0; n < N; ++n) keys[n] = load_kv(k[n] + d * kBlock);
    for (int r = 0; r < R; ++r) {
      const Vf q = vset(rows[r].q[d]);
      for (int n = 0; n < N; ++n) acc[n][r] = vfma(keys[n], q, acc[n][r]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) vstore(scores + r * kPiece + n * kBlock, acc[n][r] * vset(scale));
}

// out [R, D] = p [R, keys] . v [keys, D] for 16 N values of the heads, keys in ascending order.
template <int R, int N, typename T>
inline void weigh_values(float* out, const float* p, const T* const* v, int64_t num_blocks,
                         int64_t head_dim) {
  Vf acc[N][R];
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r) acc[n][r] = vset(0.0f);
  for (int64_t block = 0; block < num_blocks; ++block) {
    for (int64_t key = 0; key < kBlock; ++key) {
      Vf values[N];
      for (int n = 0; n < N; ++n) values[n] = load_kv(v[block] + key * head_dim + 16 * n);
      for (int r = 0; r < R; ++r) {
        const Vf weight = vset(p[r * kPiece + block * kBlock + key]);
        for (int n = 0; n < N; ++n) acc[n][r] = vfma(values[n], weight, acc[n][r]);
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) vstore(out + r * head_dim + 16 * n, acc[n][r]);
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

// Where the blocks of a piece lie, for one key/value head.
template <typename T>
struct PieceBlocks {
  const T* k[kPiece / kBlock];
  const T* v[kPiece / kBlock];
  int64_t count, begin;  // blocks; position of the first one's first key
};

template <int R, typename T>
void attend_rows(PartialSoftmax result, float* scores, const QueryRow* rows, const PieceBlocks<T>& blocks,
                 int64_t head_dim, float scale) {
  int64_t i = 0;
  for (; i + kTogether <= blocks.count; i += kTogether)
    score_blocks<R, kTogether>(scores + i * kBlock, rows, blocks.k + i, head_dim, scale);
  for (; i < blocks.count; ++i) score_blocks<R, 1>(scores + i * kBlock, rows, blocks.k + i, head_dim, scale);
  const int64_t num_keys = blocks.count * kBlock;
  for (int r = 0; r < R; ++r) {
    mask_row(scores + r * kPiece, rows[r], blocks.begin, blocks.begin + num_keys);
    exponentiate_row(result.max + r, result.sum + r, scores + r * kPiece, num_keys);
  }
  const T* v[kPiece / kBlock];
  for (int64_t d = 0; d < head_dim;) {
    for (int64_t block = 0; block < blocks.count; ++block) v[block] = blocks.v[block] + d;
    if (d + 16 * kTogether <= head_dim) {
      weigh_values<R, kTogether>(result.out + d, scores, v, blocks.count, head_dim);
      d += 16 * kTogether;
    } else {
      weigh_values<R, 1>(result.out + d, scores, v, blocks.count, head_dim);
      d += 16;
    }
  }
}

template <typename T>
PieceBlocks<T> find_blocks(const QueryRow* rows, int64_t num_rows, const KvView& kv, int64_t piece) {
  int64_t first = rows[0].first_key, last = rows[0].last_key;
  for (int64_t r = 1; r < num_rows; ++r) {
    first = rows[r].first_key < first ? rows[r].first_key : first;
    last = rows[r].last_key > last ? rows[r].last_key : last;
  }
  const int64_t first_block = (first > piece * kPiece ? first : piece * kPiece) / kBlock;
  const int64_t end = last + 1 < (piece + 1) * kPiece ? last + 1 : (piece + 1) * kPiece;
  const int64_t head_values = kv.head_dim * kBlock;
  PieceBlocks<T> blocks;
  blocks.count = (end + kBlock - 1) / kBlock - first_block;
  blocks.begin = first_block * kBlock;
  for (int64_t i = 0; i < blocks.count; ++i) {
    const int64_t at = (kv.block_table[first_block + i] * kv.num_kv_heads + kv.kv_head) * head_values;
    blocks.k[i] = static_cast<const T*>(kv.k) + at;
    blocks.v[i] = static_cast<const T*>(kv.v) + at;
  }
  return blocks;
}

template <typename T>
void attend_piece_typed(PartialSoftmax result, float* scores, const QueryRow* rows, int64_t num_rows,
                        const KvView& kv, int64_t piece, float scale) {
  const PieceBlocks<T> blocks = find_blocks<T>(rows, num_rows, kv, piece);
  for (int64_t r = 0; r < num_rows;) {
    const PartialSoftmax part = {result.max + r, result.sum + r, result.out + r * kv.head_dim};
    const int64_t left = num_rows - r;
    const int64_t now = left < kAttendRows ? left : kAttendRows;
    switch (now) {
#if defined(__AVX512F__)
      case 6:
        attend_rows<6>(part, scores, rows + r, blocks, kv.head_dim, scale);
        break;
      case 5:
        attend_rows<5>(part, scores, rows + r, blocks, kv.head_dim, scale);
        break;
      case 4:
        attend_rows<4>(part, scores, rows + r, blocks, kv.head_dim, scale);
        break;
#endif
      case 3:
        attend_rows<3>(part, scores, rows + r, blocks, kv.head_dim, scale);
        break;
      case 2:
        attend_rows<2>(part, scores, rows + r, blocks, kv.head_dim, scale);
        break;
      default:
        attend_rows<1>(part, scores, rows + r, blocks, kv.head_dim, scale);
        break;
    }
    r += now;
  }
}

void attend_piece(PartialSoftmax result, float* scores, const QueryRow* rows, int64_t num_rows,
                  const KvView& kv, int64_t piece, float scale) {
  if (kv.is_bf16)
    attend_piece_typed<uint16_t>(result, scores, rows, num_rows, kv, piece, scale);
  else
    attend_piece_typed<float>(result, scores, rows, num_rows, kv, piece, scale);
}

void merge_partial(float* max, float* sum, float* out, float piece_max, float piece_sum,
                   const float* piece_out, int64_t head_dim) {
  if (piece_max == kMinusInf) return;
  const float new_max = *max > piece_max ? *max : piece_max;
  float factors[16] = {*max - new_max, piece_max - new_max};
  vstore(factors, vexp(vload(factors)));
  const Vf keep = vset(factors[0]), add = vset(factors[1]);
  for (int64_t d = 0; d < head_dim; d += 16)
    vstore(out + d, vfma(vload(piece_out + d), add, vload(out + d) * keep));
  *sum = *sum * factors[0] + piece_sum * factors[1];
  *max = new_max;
}

}  // namespace
}  // namespace outrider
