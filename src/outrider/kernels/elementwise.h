// The row-wise kernels: RMSNorm, RoPE, SwiGLU and writing keys and values into the cache.
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
  int64_t i = 0;
  for (; i + 16 <= cols; i += 16) vstore(out + i, swiglu_lanes(vload(gate + i), vload(up + i)));
  if (i == cols) return;
  float g[16] = {}, u[16] = {}, y[16];
  memcpy(g, gate + i, size_t(cols - i) * 4);
  memcpy(u, up + i, size_t(cols - i) * 4);
  vstore(y, swiglu_lanes(vload(g), vload(u)));
  memcpy(out + i, y, size_t(cols - i) * 4);
}

inline void put(float* cache, int64_t index, float value) { cache[index] = value; }
inline void put(uint16_t* cache, int64_t index, float value) { cache[index] = float_to_bf16(value); }

// k goes to [block, head, D, offset] and v to [block, head, offset, D].
template <typename T>
void store_kv(T* k_cache, T* v_cache, const float* k, const float* v, int64_t slot, int64_t num_kv_heads,
              int64_t head_dim) {
  const int64_t block = slot / kBlock, offset = slot % kBlock;
  for (int64_t head = 0; head < num_kv_heads; ++head) {
    const int64_t base = (block * num_kv_heads + head) * head_dim * kBlock;
    for (int64_t d = 0; d < head_dim; ++d) {
      put(k_cache, base + d * kBlock + offset, k[head * head_dim + d]);
      put(v_cache, base + offset * head_dim + d, v[head * head_dim + d]);
    }
  }
}

void store_kv_row(void* k_cache, void* v_cache, bool is_bf16, const float* k, const float* v, int64_t slot,
                  int64_t num_kv_heads, int64_t head_dim) {
  if (is_bf16)
    store_kv(static_cast<uint16_t*>(k_cache), static_cast<uint16_t*>(v_cache), k, v, slot, num_kv_heads,
             head_dim);
  else
    store_kv(static_cast<float*>(k_cache), static_cast<float*>(v_cache), k, v, slot, num_kv_heads, head_dim);
}

}  // namespace
}  // namespace outrider
