// Vectors of 16 lanes for the instruction set that this translation unit is compiled for.
//
// `Vf` holds 16 floats and `Vi` 16 int32; kernels are written once against them. Everything here
// is `static inline` and free of the standard library, so that no symbol compiled with a wide
// instruction set can be picked up by the code for a narrower one.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace outrider {
namespace {

inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

inline float bf16_to_float(uint16_t bits) { return bits_to_float(uint32_t(bits) << 16); }

// Nearest even; NaN stays NaN.
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float value = float(mantissa) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  if (exponent == 31) return bits_to_float(sign | 0x7f800000u | (mantissa << 13));
  return bits_to_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

#if defined(__AVX512F__)

struct Vf {
  __m512 v;
};
struct Vi {
  __m512i v;
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
inline Vf vabs(Vf a) { return {_mm512_abs_ps(a.v)}; }
inline Vf vround(Vf a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vi vto_int(Vf a) { return {_mm512_cvtps_epi32(a.v)}; }
inline Vf vto_float(Vi a) { return {_mm512_cvtepi32_ps(a.v)}; }
// a where x >= limit, else 0
inline Vf vkeep_ge(Vf a, Vf x, Vf limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_GE_OQ), a.v)};
}
inline Vf vscale2(Vf a, Vi n) {
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(n.v, 23)))};
}  // a * 2^n
inline Vf vload_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
}
inline Vf vload_half(const uint8_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
inline Vi viset(int32_t a) { return {_mm512_set1_epi32(a)}; }
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
constexpr bool kByteDotIsSigned = false;
// acc[i] += sum of w[i, 0..3] * x[0..3]
inline Vi dot_nibbles(Vi acc, Bytes w, const int8_t* x) {
  int32_t quad;
  memcpy(&quad, x, 4);
  return {_mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(quad))};
}
inline Vi dot_bytes(Vi acc, Bytes w, const int8_t* x) { return dot_nibbles(acc, w, x); }

#elif defined(__AVX2__)

struct Vf {
  __m256 a, b;
};
struct Vi {
  __m256i a, b;
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
inline __m256 scale2_half(__m256 x, __m256i n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(n, 23)));
}
inline Vf vscale2(Vf x, Vi n) { return {scale2_half(x.a, n.a), scale2_half(x.b, n.b)}; }
inline __m256 bf16_half(const uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Vf vload_bf16(const uint16_t* p) { return {bf16_half(p), bf16_half(p + 8)}; }
inline Vf vload_half(const uint8_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 16)))};
}
inline Vi viset(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
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
inline __m256i dot_half(__m256i acc, __m256i w, __m256i x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
inline Vi dot_nibbles(Vi acc, Bytes w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x);
  return {dot_half(acc.a, w.a, quad), dot_half(acc.b, w.b, quad)};
}
// maddubs would saturate on quants up to 255, so the sign of w - 128 moves to x: |w - 128| * ±x
// stays within int16. The result is that of w - 128, which the caller allows for.
constexpr bool kByteDotIsSigned = true;
inline __m256i signed_dot_half(__m256i acc, __m256i w, __m256i x) {
  const __m256i s = _mm256_xor_si256(w, _mm256_set1_epi8(int8_t(-128)));
  return dot_half(acc, _mm256_abs_epi8(s), _mm256_sign_epi8(x, s));
}
inline Vi dot_bytes(Vi acc, Bytes w, const int8_t* x) {
  const __m256i quad = broadcast_quad(x);
  return {signed_dot_half(acc.a, w.a, quad), signed_dot_half(acc.b, w.b, quad)};
}

#else

struct Vf {
  float v[16];
};
struct Vi {
  int32_t v[16];
};
#define OUTRIDER_LANES(expression)                    \
  for (int i = 0; i < 16; ++i) r.v[i] = (expression); \
  return r

inline Vf vload(const float* p) {
  Vf r;
  memcpy(r.v, p, 64);
  return r;
}
inline void vstore(float* p, Vf a) { memcpy(p, a.v, 64); }
inline Vf vset(float a) {
  Vf r;
  OUTRIDER_LANES(a);
}
inline Vf operator+(Vf a, Vf b) {
  Vf r;
  OUTRIDER_LANES(a.v[i] + b.v[i]);
}
inline Vf operator-(Vf a, Vf b) {
  Vf r;
  OUTRIDER_LANES(a.v[i] - b.v[i]);
}
inline Vf operator*(Vf a, Vf b) {
  Vf r;
  OUTRIDER_LANES(a.v[i] * b.v[i]);
}
inline Vf operator/(Vf a, Vf b) {
  Vf r;
  OUTRIDER_LANES(a.v[i] / b.v[i]);
}
inline Vf vfma(Vf a, Vf b, Vf c) {
  Vf r;
  OUTRIDER_LANES(a.v[i] * b.v[i] + c.v[i]);
}
inline Vf vmax(Vf a, Vf b) {
  Vf r;
  OUTRIDER_LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
inline Vf vabs(Vf a) {
  Vf r;
  OUTRIDER_LANES(a.v[i] < 0 ? -a.v[i] : a.v[i]);
}
// Adding and taking away 1.5 * 2^23 rounds to the nearest even integer for |a| < 2^22.
inline Vf vround(Vf a) {
  Vf r;
  OUTRIDER_LANES((a.v[i] + 12582912.0f) - 12582912.0f);
}
inline Vi vto_int(Vf a) {
  const Vf n = vround(a);
  Vi r;
  OUTRIDER_LANES(int32_t(n.v[i]));
}
inline Vf vto_float(Vi a) {
  Vf r;
  OUTRIDER_LANES(float(a.v[i]));
}
inline Vf vkeep_ge(Vf a, Vf x, Vf y) {
  Vf r;
  OUTRIDER_LANES(x.v[i] >= y.v[i] ? a.v[i] : 0.0f);
}
inline Vf vscale2(Vf a, Vi n) {
  Vf r;
  OUTRIDER_LANES(bits_to_float(float_to_bits(a.v[i]) + (uint32_t(n.v[i]) << 23)));
}
inline Vf vload_bf16(const uint16_t* p) {
  Vf r;
  OUTRIDER_LANES(bf16_to_float(p[i]));
}
inline Vf vload_half(const uint8_t* p) {
  uint16_t h[16];
  memcpy(h, p, 32);
  Vf r;
  OUTRIDER_LANES(half_to_float(h[i]));
}
inline Vi viset(int32_t a) {
  Vi r;
  OUTRIDER_LANES(a);
}
inline void vstore_int8(int8_t* p, Vi a) {
  for (int i = 0; i < 16; ++i) p[i] = int8_t(a.v[i]);
}
inline int32_t vsum_int(Vi a) {
  int32_t total = 0;
  for (int i = 0; i < 16; ++i) total += a.v[i];
  return total;
}

struct Bytes {
  uint8_t v[64];
};
inline Bytes bload(const uint8_t* p) {
  Bytes r;
  memcpy(r.v, p, 64);
  return r;
}
inline Bytes low_nibbles(Bytes a) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.v[i] = a.v[i] & 15;
  return r;
}
inline Bytes high_nibbles(Bytes a) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.v[i] = a.v[i] >> 4;
  return r;
}
constexpr bool kByteDotIsSigned = false;
inline Vi dot_nibbles(Vi acc, const Bytes& w, const int8_t* x) {
  Vi r;
  OUTRIDER_LANES(acc.v[i] + w.v[4 * i] * x[0] + w.v[4 * i + 1] * x[1] + w.v[4 * i + 2] * x[2] +
                 w.v[4 * i + 3] * x[3]);
}
inline Vi dot_bytes(Vi acc, const Bytes& w, const int8_t* x) { return dot_nibbles(acc, w, x); }
#undef OUTRIDER_LANES

#endif

// Sum and maximum over the lanes, halving each time (i with i + 8, then + 4, + 2, + 1): the same
// order, and so the same bits, on every instruction set.
#if defined(__AVX2__)
inline __m256 lower_half(Vf a) {
#if defined(__AVX512F__)
  return _mm512_castps512_ps256(a.v);
#else
  return a.a;
#endif
}
inline __m256 upper_half(Vf a) {
#if defined(__AVX512F__)
  return _mm512_extractf32x8_ps(a.v, 1);
#else
  return a.b;
#endif
}
inline float vsum(Vf a) {
  const __m256 eight = _mm256_add_ps(lower_half(a), upper_half(a));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float vmax_lane(Vf a) {
  const __m256 eight = _mm256_max_ps(lower_half(a), upper_half(a));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
#else
inline float vsum(Vf a) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  return a.v[0];
}
inline float vmax_lane(Vf a) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
  return a.v[0];
}
#endif

// e^x for x <= 88, relative error below 2e-7; 0 for x < -87 (so e^-inf is exactly 0).
// Range reduction and polynomial as in Cephes' expf (S. Moshier).
inline Vf vexp(Vf x) {
  const Vf floor_x = vset(-87.0f);
  const Vf clamped = vmax(x, floor_x);
  const Vf n = vround(clamped * vset(1.44269504088896341f));
  const Vf r = vfma(n, vset(2.12194440e-4f), vfma(n, vset(-0.693359375f), clamped));
  Vf p = vset(1.9875691500e-4f);
  p = vfma(p, r, vset(1.3981999507e-3f));
  p = vfma(p, r, vset(8.3334519073e-3f));
  p = vfma(p, r, vset(4.1665795894e-2f));
  p = vfma(p, r, vset(1.6666665459e-1f));
  p = vfma(p, r, vset(5.0000001201e-1f));
  const Vf y = vfma(p, r * r, r + vset(1.0f));
  return vkeep_ge(vscale2(y, vto_int(n)), x, floor_x);
}

}  // namespace
}  // namespace outrider
