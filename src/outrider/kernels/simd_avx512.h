// 16 lanes as one register of AVX-512; what each function does stands in simd_scalar.h.
#pragma once

#include <immintrin.h>

#include "floats.h"

namespace outrider {
namespace {

struct Vf {
  __m512 v;
};
struct Vi {
  __m512i v;
};
struct Vd {
  __m512d a, b;
};

inline Vf vload(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void vstore(float* p, Vf a) { _mm512_storeu_ps(p, a.v); }
inline Vf vset(float a) { return {_mm512_set1_ps(a)}; }
inline Vf operator+(Vf a, Vf b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vf operator-(Vf a, Vf b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vf operator*(Vf a, Vf b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vf operator/(Vf a, Vf b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vf vfma(Vf a, Vf b, Vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }  // a * b + c
inline Vf vmax(Vf a, Vf b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vf vmin(Vf a, Vf b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vf vabs(Vf a) { return {_mm512_abs_ps(a.v)}; }
inline Vf vround(Vf a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vi vto_int(Vf a) { return {_mm512_cvtps_epi32(a.v)}; }
inline Vf vto_float(Vi a) { return {_mm512_cvtepi32_ps(a.v)}; }
// a where x >= limit, else 0
inline Vf vkeep_ge(Vf a, Vf x, Vf limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_GE_OQ), a.v)};
}
// The lanes where x >= limit, a bit each.
inline uint32_t vlanes_ge(Vf x, Vf limit) { return _mm512_cmp_ps_mask(x.v, limit.v, _CMP_GE_OQ); }
// a in the lanes whose bits are set, else other
inline Vf vselect(uint32_t bits, Vf a, Vf other) {
  return {_mm512_mask_mov_ps(other.v, __mmask16(bits), a.v)};
}
inline Vf vscale2(Vf a, Vi n) {
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(n.v, 23)))};
}  // a * 2^n
inline Vf vload_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
}
// The even and the odd ones of 32 bf16.
inline void vload_bf16_pairs(Vf* even, Vf* odd, const uint16_t* p) {
  const __m512i bits = _mm512_loadu_si512(p);
  even->v = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  odd->v = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(int32_t(0xffff0000u))));
}
// The same of 32 int8.
inline void vload_int8_pairs(Vf* even, Vf* odd, const int8_t* p) {
  const __m512i pairs = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  even->v = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(pairs, 24), 24));
  odd->v = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(pairs, 16), 24));
}
inline Vd vzero_wide() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
inline Vd vadd_wide(Vd a, Vf x) {
  return {_mm512_add_pd(a.a, _mm512_cvtps_pd(_mm512_castps512_ps256(x.v))),
          _mm512_add_pd(a.b, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1)))};
}
inline void vstore_wide(double* p, Vd a) {
  _mm512_storeu_pd(p, a.a);
  _mm512_storeu_pd(p + 8, a.b);
}
// The nearest bf16 (ties to even), as floats.
inline Vf vround_bf16(Vf a) {
  const __m512i bits = _mm512_castps_si512(a.v), one = _mm512_set1_epi32(1);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
  return {_mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(int32_t(0xffff0000u))))};
}
// The same as 16 bits each; NaN becomes 0x7fc0.
inline void vstore_bf16(uint16_t* p, Vf a) {
  const __m512i rounded = _mm512_srli_epi32(_mm512_castps_si512(vround_bf16(a).v), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i bits = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0));
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(bits));
}
inline Vf vload_half(const uint8_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
inline Vf vload_int8(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))};
}
inline Vi viset(int32_t a) { return {_mm512_set1_epi32(a)}; }
inline Vi operator+(Vi a, Vi b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline void vstore_int8(int8_t* p, Vi a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(a.v)); }
inline int32_t vsum_int(Vi a) { return _mm512_reduce_add_epi32(a.v); }

struct Bytes {
  __m512i v;
};  // 16 rows x 4 unsigned quants
inline Bytes bload(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline Bytes low_nibbles(Bytes a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
inline Bytes high_nibbles(Bytes a) {
  return {_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))};
}
// The sum of a group of nibbles is that of its products and of the bias, wherever that comes in.
inline Vi start_nibbles(int32_t bias) { return viset(bias); }
inline Vi finish_nibbles(Vi acc, int32_t) { return acc; }
constexpr bool kByteDotIsSigned = false;
// acc[i] += sum of w[i, 0..3] * x[0..3]
inline Vi dot_nibbles(Vi acc, Bytes w, const int8_t* x) {
  int32_t quad;
  memcpy(&quad, x, 4);
  return {_mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(quad))};
}
inline Vi dot_bytes(Vi acc, Bytes w, const int8_t* x) { return dot_nibbles(acc, w, x); }

}  // namespace
}  // namespace outrider
