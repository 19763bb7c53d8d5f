// The row-wise kernels: norms, RoPE, activation functions, sums of rows and writing keys and values
// into the cache.
#pragma once

#include <cmath>

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

// y = x / sqrt(mean(x^2) + eps) * gain (Zhang & Sennrich, arXiv:1910.07467)
void rmsnorm_row(float* out, const float* x, const float* gain, float eps, int64_t cols) {
  Vf squares = vset(0.0f);
  int64_t i = 0;
  for (; i + 16 <= cols; i += 16) squares = vfma(vload(x + i), vload(x + i), squares);
  float total = vsum(squares);
  for (int64_t j = i; j < cols; ++j) total += x[j] * x[j];
  const float inverse = 1.0f / sqrtf(total / float(cols) + eps);
  for (i = 0; i + 16 <= cols; i += 16) vstore(out + i, vload(x + i) * vset(inverse) * vload(gain + i));
  for (; i < cols; ++i) out[i] = x[i] * inverse * gain[i];
}

// (a + bi) (cos + i sin) per interleaved pair (Su et al., arXiv:2104.09864)
void rope_row(float* x, const float* cosines, const float* sines, int64_t num_heads, int64_t head_dim) {
  for (int64_t head = 0; head < num_heads; ++head, x += head_dim) {
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cosines[i] - b * sines[i];
      x[2 * i + 1] = a * sines[i] + b * cosines[i];
    }
  }
}

inline Vf swiglu_lanes(Vf gate, Vf up) {
  // e^-g overflows below -88; silu is 0 there to f32 precision anyway.
  const Vf exponent = vmax(gate, vset(-87.0f));
  return gate / (vset(1.0f) + vexp(vset(0.0f) - exponent)) * up;
}

// silu(gate) * up (Shazeer, arXiv:2002.05202)
void swiglu_row(float* out, const float* gate, const float* up, int64_t cols) {
  for (int64_t i = 0; i < cols; i += 16)
    vstore_part(out + i, swiglu_lanes(vload_part(gate + i, cols - i), vload_part(up + i, cols - i)),
                cols - i);
}

// (x - mean) / sqrt(variance + eps) * gain + bias (Ba et al., arXiv:1607.06450); the variance from the
// differences, since E[x^2] - E[x]^2 cancels where the mean is large.
void layernorm_row(float* out, const float* x, const float* gain, const float* bias, float eps,
                   int64_t cols) {
  Vf sum = vset(0.0f), squares = vset(0.0f);
  for (int64_t i = 0; i < cols; i += 16) sum = sum + vload_part(x + i, cols - i);
  const float mean = vsum(sum) / float(cols);
  int64_t i = 0;
  for (; i + 16 <= cols; i += 16) {
    const Vf difference = vload(x + i) - vset(mean);
    squares = vfma(difference, difference, squares);
  }
  float total = vsum(squares);
  for (; i < cols; ++i) total += (x[i] - mean) * (x[i] - mean);
  const float inverse = 1.0f / sqrtf(total / float(cols) + eps);
  for (i = 0; i < cols; i += 16) {
    const int64_t left = cols - i;
    const Vf normal = (vload_part(x + i, left) - vset(mean)) * vset(inverse);
    vstore_part(out + i, normal * vload_part(gain + i, left) + vload_part(bias + i, left), left);
  }
}

// x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2 (Hendrycks & Gimpel, arXiv:1606.08415).
//
// Both sides come from Phi(-|x|) = erfc(z) / 2 with z = |x| / sqrt 2, which doesn't cancel. As in
// Shepherd & Laframboise (Math. Comp. 36, 1981) the smooth part erfc(z) e^(z^2) is a polynomial in a
// variable that maps 0 .. infinity to a finite range: here t = 1 / (1 + 0.4 z), fitted by least
// squares at Chebyshev nodes up to z = 10 with a relative error of 1e-8.
inline Vf gelu_lanes(Vf x) {
  const Vf z = vmin(vabs(x) * vset(0.70710678118654752f), vset(10.0f));
  const Vf t = vset(1.0f) / vfma(z, vset(0.4f), vset(1.0f));
  Vf p = vset(-0.0152149478f);
  p = vfma(p, t, vset(0.1011855909f));
  p = vfma(p, t, vset(-0.254307815f));
  p = vfma(p, t, vset(0.279946535f));
  p = vfma(p, t, vset(-0.1470981581f));
  p = vfma(p, t, vset(0.1385248308f));
  p = vfma(p, t, vset(0.06402976687f));
  p = vfma(p, t, vset(0.1076221197f));
  p = vfma(p, t, vset(0.1124577517f));
  p = vfma(p, t, vset(0.1128543289f));
  const Vf zero = vset(0.0f), tail = p * t * vexp(zero - z * z);
  // One of the two terms is exactly 0.
  return x * (vkeep_ge(vset(1.0f) - tail, x, zero) + (tail - vkeep_ge(tail, x, zero)));
}

void gelu_row(float* out, const float* x, int64_t cols) {
  for (int64_t i = 0; i < cols; i += 16)
    vstore_part(out + i, gelu_lanes(vload_part(x + i, cols - i)), cols - i);
}

void add_row(float* out, const float* x, int64_t cols) {
  for (int64_t i = 0; i < cols; ++i) out[i] += x[i];
}

void scale_row(float* out, const float* x, float factor, int64_t cols) {
  for (int64_t i = 0; i < cols; ++i) out[i] = factor * x[i];
}

}  // namespace
}  // namespace outrider
