// Vectors of 16 lanes for the instruction set that this translation unit is compiled for.
//
// `Vf` holds 16 floats and `Vi` 16 int32; kernels are written once against them. Everything here
// has internal linkage and is free of the standard library, so that no symbol compiled with a wide
// instruction set can be picked up by the code for a narrower one.
#pragma once

#if defined(__AVX512F__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#else
#include "simd_scalar.h"
#endif

namespace outrider {
namespace {

// The first `count` of 16 values, the other lanes 0; and the way back.
#if defined(__AVX512F__)
inline __mmask16 first_lanes(int64_t count) { return __mmask16((1 << count) - 1); }
#endif
inline Vf vload_part(const float* p, int64_t count) {
  if (count >= 16) return vload(p);
#if defined(__AVX512F__)
  return {_mm512_maskz_loadu_ps(first_lanes(count), p)};
#else
  float lanes[16] = {};
  memcpy(lanes, p, size_t(count) * 4);
  return vload(lanes);
#endif
}
inline void vstore_part(float* p, Vf a, int64_t count) {
  if (count >= 16) return vstore(p, a);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, first_lanes(count), a.v);
#else
  float lanes[16];
  vstore(lanes, a);
  memcpy(p, lanes, size_t(count) * 4);
#endif
}

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

// The same halving of 16 doubles.
inline double vsum_wide(Vd a) {
  double lanes[16];
  vstore_wide(lanes, a);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

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

// 2^x for x <= 0, relative error below 2e-7; exactly 0 below -126.
// 2^(x - n) for the nearest n is a polynomial fitted to the least largest relative error (1e-7), with
// exactly 1 at 0.
inline Vf vpower2(Vf x) {
#if defined(__AVX512F__)
  const Vf clamped = x;  // what is below is masked
#else
  const Vf clamped = vmax(x, vset(-126.0f));
#endif
  const Vf n = vround(clamped), r = clamped - n;
  Vf p = vset(1.326472684e-3f);
  p = vfma(p, r, vset(9.671512665e-3f));
  p = vfma(p, r, vset(5.550733744e-2f));
  p = vfma(p, r, vset(2.402224208e-1f));
  p = vfma(p, r, vset(6.931469776e-1f));
  p = vfma(p, r, vset(1.0f));
#if defined(__AVX512F__)
  const __mmask16 kept = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
  return {_mm512_maskz_scalef_ps(kept, p.v, n.v)};
#else
  return vkeep_ge(vscale2(p, vto_int(n)), x, vset(-126.0f));
#endif
}

}  // namespace
}  // namespace outrider
