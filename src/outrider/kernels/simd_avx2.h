// 16 lanes as two registers of AVX2; what each function does stands in simd_scalar.h.
#pragma once

#include <immintrin.h>

#include "floats.h"

namespace outrider {
namespace {

struct Vf {
  __m256 a, b;
};
struct Vi {
  __m256i a, b;
};
struct Vd {
  __m256d parts[4];
};

inline Vf vload(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void vstore(float* p, Vf x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline Vf vset(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vf operator+(Vf x, Vf y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vf operator-(Vf x, Vf y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vf operator*(Vf x, Vf y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vf operator/(Vf x, Vf y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Vf vfma(Vf x, Vf y, Vf z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline Vf vmax(Vf x, Vf y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vf vmin(Vf x, Vf y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Vf vabs(Vf x) {
  const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}
inline Vf vround(Vf x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
inline Vi vto_int(Vf x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline Vf vto_float(Vi x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline Vf vkeep_ge(Vf v, Vf x, Vf y) {
  return {_mm256_and_ps(v.a, _mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)),
          _mm256_and_ps(v.b, _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))};
}
inline uint32_t vlanes_ge(Vf x, Vf y) {
  return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ))) |
         uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))) << 8;
}
inline __m256 select_half(uint32_t bits, __m256 x, __m256 other) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(int32_t(bits)), lanes);
  return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, lanes)));
}
inline Vf vselect(uint32_t bits, Vf x, Vf other) {
  return {select_half(bits, x.a, other.a), select_half(bits >> 8, x.b, other.b)};
}
inline __m256 scale2_half(__m256 x, __m256i n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(n, 23)));
}
inline Vf vscale2(Vf x, Vi n) { return {scale2_half(x.a, n.a), scale2_half(x.b, n.b)}; }
inline Vd vzero_wide() {
  const __m256d zero = _mm256_setzero_pd();
  return {{zero, zero, zero, zero}};
}
inline Vd vadd_wide(Vd x, Vf y) {
  return {{_mm256_add_pd(x.parts[0], _mm256_cvtps_pd(_mm256_castps256_ps128(y.a))),
           _mm256_add_pd(x.parts[1], _mm256_cvtps_pd(_mm256_extractf128_ps(y.a, 1))),
           _mm256_add_pd(x.parts[2], _mm256_cvtps_pd(_mm256_castps256_ps128(y.b))),
           _mm256_add_pd(x.parts[3], _mm256_cvtps_pd(_mm256_extractf128_ps(y.b, 1)))}};
}
inline void vstore_wide(double* p, Vd x) {
  for (int i = 0; i < 4; ++i) _mm256_storeu_pd(p + 4 * i, x.parts[i]);
}
inline __m256 bf16_half(const uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Vf vload_bf16(const uint16_t* p) { return {bf16_half(p), bf16_half(p + 8)}; }
inline void bf16_pairs_half(__m256* even, __m256* odd, const uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256((const __m256i*)p);
  *even = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  *odd = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(int32_t(0xffff0000u))));
}
// The even and the odd ones of 32 bf16.
inline void vload_bf16_pairs(Vf* even, Vf* odd, const uint16_t* p) {
  bf16_pairs_half(&even->a, &odd->a, p);
  bf16_pairs_half(&even->b, &odd->b, p + 16);
}
inline void int8_pairs_half(__m256* even, __m256* odd, const int8_t* p) {
  const __m256i pairs = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  *even = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pairs, 24), 24));
  *odd = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pairs, 16), 24));
}
// The same of 32 int8.
inline void vload_int8_pairs(Vf* even, Vf* odd, const int8_t* p) {
  int8_pairs_half(&even->a, &odd->a, p);
  int8_pairs_half(&even->b, &odd->b, p + 16);
}
inline __m256 round_bf16_half(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
  const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
  return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(int32_t(0xffff0000u))));
}
// The nearest bf16 (ties to even), as floats.
inline Vf vround_bf16(Vf x) { return {round_bf16_half(x.a), round_bf16_half(x.b)}; }
inline __m256i bf16_bits_half(__m256 x) {
  const __m256i rounded = _mm256_srli_epi32(_mm256_castps_si256(round_bf16_half(x)), 16);
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), is_nan);
}
// The same as 16 bits each; NaN becomes 0x7fc0.
inline void vstore_bf16(uint16_t* p, Vf x) {
  const __m256i mixed = _mm256_packus_epi32(bf16_bits_half(x.a), bf16_bits_half(x.b));
  _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(mixed, 0xd8));
}
inline Vf vload_half(const uint8_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 16)))};
}
inline __m256 int8_half(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
inline Vf vload_int8(const int8_t* p) { return {int8_half(p), int8_half(p + 8)}; }
inline Vi viset(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Vi operator+(Vi x, Vi y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline void vstore_int8(int8_t* p, Vi x) {
  int32_t lanes[16];
  _mm256_storeu_si256((__m256i*)lanes, x.a);
  _mm256_storeu_si256((__m256i*)(lanes + 8), x.b);
  for (int i = 0; i < 16; ++i) p[i] = int8_t(lanes[i]);
}
inline int32_t vsum_int(Vi x) {
  int32_t lanes[8], total = 0;
  _mm256_storeu_si256((__m256i*)lanes, _mm256_add_epi32(x.a, x.b));
  for (int i = 0; i < 8; ++i) total += lanes[i];
  return total;
}

struct Bytes {
  __m256i a, b;
};
inline Bytes bload(const uint8_t* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline Bytes low_nibbles(Bytes x) {
  const __m256i m = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
inline Bytes high_nibbles(Bytes x) {
  return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
inline __m256i broadcast_quad(const int8_t* x) {
  int32_t quad;
  memcpy(&quad, x, 4);
  return _mm256_set1_epi32(quad);
}
// Nibbles times int8 fit 16 bits over a whole group: 2 x 15 x 127 per product, 8 of them. So they are
// added up there, and pairs of sums only once, at its end.
inline Vi start_nibbles(int32_t) { return viset(0); }
inline Vi dot_nibbles(Vi acc, Bytes w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x);
  return {_mm256_add_epi16(acc.a, _mm256_maddubs_epi16(w.a, quad)),
          _mm256_add_epi16(acc.b, _mm256_maddubs_epi16(w.b, quad))};
}
inline Vi finish_nibbles(Vi acc, int32_t bias) {
  const __m256i ones = _mm256_set1_epi16(1), start = _mm256_set1_epi32(bias);
  return {_mm256_add_epi32(start, _mm256_madd_epi16(acc.a, ones)),
          _mm256_add_epi32(start, _mm256_madd_epi16(acc.b, ones))};
}
// maddubs would saturate on quants up to 255, so the sign of w - 128 moves to x: |w - 128| * ±x
// stays within int16. The result is that of w - 128, which the caller allows for.
constexpr bool kByteDotIsSigned = true;
inline __m256i signed_dot_half(__m256i acc, __m256i w, __m256i x) {
  const __m256i s = _mm256_xor_si256(w, _mm256_set1_epi8(int8_t(-128)));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(s), _mm256_sign_epi8(x, s));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Vi dot_bytes(Vi acc, Bytes w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x);
  return {signed_dot_half(acc.a, w.a, quad), signed_dot_half(acc.b, w.b, quad)};
}

}  // namespace
}  // namespace outrider
