// What attention multiplies and adds: 16 lanes of a key or value vector with a row's query or weight.
//
// The lanes are 16 keys in q . k and 16 head dimensions in p . v. A product takes kWidth neighbours
// along the sum: one of an f32 cache, a pair of a bf16 or int8 cache, whose rows are rounded to bf16. A
// row lies as kFloats floats per step: a value, the bits of two bf16, or two rounded values where the
// processor has no instruction for pairs.
#pragma once

#include "simd.h"

namespace outrider {
namespace {

struct OneProduct {
  static constexpr int kWidth = 1, kFloats = 1;
  Vf lanes;

  static Vf row_step(const float* row) { return vset(*row); }
  static void put(float* row, int64_t at, Vf x) { vstore(row + at, x); }
  void load(const float* p) { lanes = vload(p); }
  Vf add(Vf acc, Vf value) const { return vfma(lanes, value, acc); }
};

template <bool kHardware>
struct PairProduct {
  static constexpr int kWidth = 2, kFloats = 2;
  struct Step {
    Vf even, odd;
  };
  Vf even, odd;

  static Step row_step(const float* row) { return {vset(row[0]), vset(row[1])}; }
  static void put(float* row, int64_t at, Vf x) { vstore(row + at, vround_bf16(x)); }
  void load(const uint16_t* p) { vload_bf16_pairs(&even, &odd, p); }
  void load(const int8_t* p) { vload_int8_pairs(&even, &odd, p); }
  Vf add(Vf acc, const Step& pair) const { return vfma(odd, pair.odd, vfma(even, pair.even, acc)); }
};

#if defined(__AVX512BF16__)
template <>
struct PairProduct<true> {
  static constexpr int kWidth = 2, kFloats = 1;
  __m512bh lanes;

  static __m512bh row_step(const float* row) {
    int32_t pair;
    memcpy(&pair, row, 4);
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static void put(float* row, int64_t at, Vf x) {
    _mm256_storeu_si256((__m256i*)(row + at / 2), (__m256i)_mm512_cvtneps_pbh(x.v));
  }
  void load(const uint16_t* p) { lanes = (__m512bh)_mm512_loadu_si512(p); }
  // Whole numbers up to 127 are exact in bf16.
  void load(const int8_t* p) {
    const Vf low = vload_int8(p), high = vload_int8(p + 16);
    lanes = _mm512_cvtne2ps_pbh(high.v, low.v);
  }
  Vf add(Vf acc, __m512bh pair) const { return {_mm512_dpbf16_ps(acc.v, lanes, pair)}; }
};
#endif

}  // namespace
}  // namespace outrider
