// Writing a token's keys and values into the paged cache.
//
//   k [KV, D]  →  [block, head, D, offset]      keys in lanes when scores are computed
//   v [KV, D]  →  [block, head, offset, Dp]     head dimensions in lanes; 0 beyond D
//
// bf16 and int8 lie in pairs: k [block, head, D / 2, offset, 2], v [block, head, offset / 2, Dp, 2].
//
// int8: one scale per token and head, q = round(x / scale) with scale = max|x| / 127 as f16, so that
// value = q * scale.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

inline void convert(float* out, Vf x) { vstore(out, x); }
inline void convert(uint16_t* out, Vf x) { vstore_bf16(out, x); }
inline void convert(int8_t* out, Vf x) {
  vstore_int8(out, vto_int(vmin(vmax(x, vset(-127.0f)), vset(127.0f))));
}

// Write factor * x [count] and 0 up to `padded`; neighbours of kTogether stay side by side, `step` apart
// from the next ones.
template <int kTogether, typename T>
inline void scatter(T* out, int64_t step, const float* x, float factor, int64_t count, int64_t padded) {
  T lanes[16];
  for (; padded >= 16; padded -= 16, count -= 16, x += 16, out += 16 / kTogether * step) {
    convert(lanes, vload_part(x, count) * vset(factor));
#pragma GCC unroll 16
    for (int i = 0; i < 16 / kTogether; ++i)
      memcpy(out + i * step, lanes + i * kTogether, kTogether * sizeof(T));
  }
  if (padded <= 0) return;
  convert(lanes, vload_part(x, count) * vset(factor));
  for (int i = 0; i < padded / kTogether; ++i)
    memcpy(out + i * step, lanes + i * kTogether, kTogether * sizeof(T));
}

// The scale of a vector in an int8 cache, as f16, and what its values are multiplied with.
struct Scale {
  uint16_t half;
  float inverse;
};

inline Scale find_scale(const float* x, int64_t count) {
  Vf largest = vset(0.0f), zero = vset(0.0f);
  for (int64_t d = 0; d < count; d += 16) {
    const Vf values = vload_part(x + d, count - d);
    largest = vmax(largest, vabs(values));
    zero = vfma(values, vset(0.0f), zero);
  }
  // A vector that isn't finite has no scale, and mustn't become an ordinary one: NaN.
  if (vsum(zero) != 0.0f) return {0x7e00, 0.0f};
  const float exact = vmax_lane(largest) / 127.0f;
  const uint16_t half = float_to_half(exact < 65504.0f ? exact : 65504.0f);
  // The quants are those of the scale that is kept. A tiny one may be off by half of itself: hence
  // the bounds in `convert`.
  return {half, half ? 1.0f / half_to_float(half) : 0.0f};
}

// One head's key and value of a token, at head and block `at`.
template <typename T>
inline void store_head(const KvView& cache, const float* k, const float* v, int64_t at, int64_t offset) {
  constexpr int64_t kWidth = sizeof(T) == 4 ? 1 : 2;
  const int64_t d = cache.head_dim, dp = cache.padded_dim;
  T* keys = static_cast<T*>(cache.k) + at * d * kBlock + offset * kWidth;
  T* values = static_cast<T*>(cache.v) + at * dp * kBlock + offset / kWidth * dp * kWidth + offset % kWidth;
  Scale of_k = {0, 1.0f}, of_v = {0, 1.0f};
  if (sizeof(T) == 1) {
    of_k = find_scale(k, d);
    of_v = find_scale(v, d);
    cache.k_scale[at * kBlock + offset] = of_k.half;
    cache.v_scale[at * kBlock + offset] = of_v.half;
  }
  scatter<kWidth>(keys, kBlock * kWidth, k, of_k.inverse, d, d);
  scatter<1>(values, kWidth, v, of_v.inverse, d, dp);
}

// Head by head, because tokens of one block write to the same cache lines.
template <typename T>
void store_kv_typed(const KvView& cache, const float* k, const float* v, const int32_t* slots,
                    int64_t num_rows) {
  const int64_t heads = cache.num_kv_heads, d = cache.head_dim;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t t = 0; t < num_rows; ++t) {
      const int64_t from = (t * heads + head) * d, at = slots[t] / kBlock * heads + head;
      store_head<T>(cache, k + from, v + from, at, slots[t] % kBlock);
    }
}

void store_kv_rows(const KvView& cache, const float* k, const float* v, const int32_t* slots,
                   int64_t num_rows) {
  switch (cache.type) {
    case kKvF32:
      return store_kv_typed<float>(cache, k, v, slots, num_rows);
    case kKvBf16:
      return store_kv_typed<uint16_t>(cache, k, v, slots, num_rows);
    case kKvInt8:
      return store_kv_typed<int8_t>(cache, k, v, slots, num_rows);
  }
}

}  // namespace
}  // namespace outrider
