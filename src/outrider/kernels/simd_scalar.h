// 16 lanes as plain loops: the meaning of every function that simd_avx2.h and simd_avx512.h repeat.
#pragma once

#include "floats.h"

namespace outrider {
namespace {

struct Vf {
  float v[16];
};
struct Vi {
  int32_t v[16];
};
struct Vd {  // 16 doubles
  double v[16];
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
inline Vf vmin(Vf a, Vf b) {
  Vf r;
  OUTRIDER_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
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
inline uint32_t vlanes_ge(Vf x, Vf y) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= uint32_t(x.v[i] >= y.v[i]) << i;
  return bits;
}
inline Vf vselect(uint32_t bits, Vf a, Vf other) {
  Vf r;
  OUTRIDER_LANES(bits >> i & 1 ? a.v[i] : other.v[i]);
}
inline Vf vscale2(Vf a, Vi n) {
  Vf r;
  OUTRIDER_LANES(bits_to_float(float_to_bits(a.v[i]) + (uint32_t(n.v[i]) << 23)));
}
inline Vd vzero_wide() { return {}; }
inline Vd vadd_wide(Vd a, Vf x) {
  for (int i = 0; i < 16; ++i) a.v[i] += double(x.v[i]);
  return a;
}
inline void vstore_wide(double* p, Vd a) { memcpy(p, a.v, sizeof a.v); }
inline Vf vload_bf16(const uint16_t* p) {
  Vf r;
  OUTRIDER_LANES(bf16_to_float(p[i]));
}
// The even and the odd ones of 32 bf16.
inline void vload_bf16_pairs(Vf* even, Vf* odd, const uint16_t* p) {
  for (int i = 0; i < 16; ++i) even->v[i] = bf16_to_float(p[2 * i]);
  for (int i = 0; i < 16; ++i) odd->v[i] = bf16_to_float(p[2 * i + 1]);
}
// The same of 32 int8.
inline void vload_int8_pairs(Vf* even, Vf* odd, const int8_t* p) {
  for (int i = 0; i < 16; ++i) even->v[i] = float(p[2 * i]);
  for (int i = 0; i < 16; ++i) odd->v[i] = float(p[2 * i + 1]);
}
// The nearest bf16 (ties to even), as floats.
inline Vf vround_bf16(Vf a) {
  Vf r;
  OUTRIDER_LANES(bf16_to_float(float_to_bf16(a.v[i])));
}
// The same as 16 bits each; NaN becomes 0x7fc0.
inline void vstore_bf16(uint16_t* p, Vf a) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_bf16(a.v[i]);
}
inline Vf vload_half(const uint8_t* p) {
  uint16_t h[16];
  memcpy(h, p, 32);
  Vf r;
  OUTRIDER_LANES(half_to_float(h[i]));
}
inline Vf vload_int8(const int8_t* p) {
  Vf r;
  OUTRIDER_LANES(float(p[i]));
}
inline Vi viset(int32_t a) {
  Vi r;
  OUTRIDER_LANES(a);
}
inline Vi operator+(Vi a, Vi b) {
  Vi r;
  OUTRIDER_LANES(a.v[i] + b.v[i]);
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
// The sum of a group of nibbles is that of its products and of the bias, wherever that comes in.
inline Vi start_nibbles(int32_t bias) { return viset(bias); }
inline Vi finish_nibbles(Vi acc, int32_t) { return acc; }
constexpr bool kByteDotIsSigned = false;
inline Vi dot_nibbles(Vi acc, const Bytes& w, const int8_t* x) {
  Vi r;
  OUTRIDER_LANES(acc.v[i] + w.v[4 * i] * x[0] + w.v[4 * i + 1] * x[1] + w.v[4 * i + 2] * x[2] +
                 w.v[4 * i + 3] * x[3]);
}
inline Vi dot_bytes(Vi acc, const Bytes& w, const int8_t* x) { return dot_nibbles(acc, w, x); }
#undef OUTRIDER_LANES

}  // namespace
}  // namespace outrider
