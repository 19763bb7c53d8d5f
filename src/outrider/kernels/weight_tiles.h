// What reads a tile of packed weights and multiplies it with activations, shared by products of one
// row (matvec.h) and of several (matmul.h), and what adds sums to an output row.
//
// Tiles are drawn in layout.py. One output's groups of k are added in ascending order everywhere.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

template <int R>
inline void add_rows(float* out, int64_t out_stride, const Vf* acc, int64_t width, bool accumulate) {
  for (int r = 0; r < R; ++r) {
    float* row = out + r * out_stride;
    if (width >= kPanel) {
      vstore(row, accumulate ? vload(row) + acc[r] : acc[r]);
      continue;
    }
    float lanes[kPanel];
    vstore(lanes, acc[r]);
    for (int64_t i = 0; i < width; ++i) row[i] = accumulate ? row[i] + lanes[i] : lanes[i];
  }
}

// The integer sum of a group starts at what turns u8 quants into signed ones.
template <bool kFourBits, bool kHasOffset>
inline Vi initial_sum(int32_t bias) {
  if (kFourBits) return start_nibbles(kHasOffset ? 0 : bias);
  if (kByteDotIsSigned) return viset(kHasOffset ? -16 * bias : 0);
  return viset(kHasOffset ? 0 : 16 * bias);
}
template <bool kFourBits, bool kHasOffset>
inline Vf final_sum(Vi sum, int32_t bias) {
  return vto_float(kFourBits ? finish_nibbles(sum, kHasOffset ? 0 : bias) : sum);
}

// Quads `2 i` and `2 i + 1` in the order of the tile: nibbles come as (j, j + 4), bytes as (j, j + 1).
template <bool kFourBits>
inline void load_quads(Bytes* pair, const uint8_t* tile, int i) {
  if (kFourBits) {
    const Bytes loaded = bload(tile + 64 * i);
    pair[0] = low_nibbles(loaded);
    pair[1] = high_nibbles(loaded);
  } else {
    pair[0] = bload(tile + 128 * i);
    pair[1] = bload(tile + 128 * i + 64);
  }
}

template <bool kFourBits>
inline Vi dot_quad(Vi acc, Bytes w, const int8_t* x) {
  return kFourBits ? dot_nibbles(acc, w, x) : dot_bytes(acc, w, x);
}

// A tile's 16 pairs along K: acc + w[n, k] x[k] + w[n, k + 1] x[k + 1].
template <bool kHardware>
struct Pairs {
  Vf even, odd;

  void load(const uint16_t* tile) { vload_bf16_pairs(&even, &odd, tile); }
  Vf dot(const uint16_t* x, Vf acc) const {
    return vfma(odd, vset(bf16_to_float(x[1])), vfma(even, vset(bf16_to_float(x[0])), acc));
  }
};

#if defined(__AVX512BF16__)
template <>
struct Pairs<true> {
  __m512bh pairs;

  void load(const uint16_t* tile) { pairs = (__m512bh)_mm512_loadu_si512(tile); }
  Vf dot(const uint16_t* x, Vf acc) const {
    int32_t pair;
    memcpy(&pair, x, 4);
    return {_mm512_dpbf16_ps(acc.v, pairs, (__m512bh)_mm512_set1_epi32(pair))};
  }
};
#endif

}  // namespace
}  // namespace outrider
