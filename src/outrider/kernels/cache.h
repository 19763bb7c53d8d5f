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

// Where the values of one key or value go: value d to begin + (d / group) * step + d % group.
struct Places {
  int64_t begin, group, step;

  int64_t of(int64_t d) const { return begin + d / group * step + d % group; }
};

template <typename T>
inline Places key_places(const KvView& cache, int64_t at, int64_t offset) {
  constexpr int64_t kWidth = sizeof(T) == 4 ? 1 : 2;
  return {at * cache.head_dim * kBlock + offset * kWidth, kWidth, kBlock * kWidth};
}

template <typename T>
inline Places value_places(const KvView& cache, int64_t at, int64_t offset) {
  constexpr int64_t kWidth = sizeof(T) == 4 ? 1 : 2;
  const int64_t row = at * kBlock / kWidth + offset / kWidth;
  return {row * cache.padded_dim * kWidth + offset % kWidth, 1, kWidth};
}

inline void put_vector(float* out, Places places, const float* x, int64_t count) {
  for (int64_t d = 0; d < count; ++d) out[places.of(d)] = x[d];
}

inline void put_vector(uint16_t* out, Places places, const float* x, int64_t count) {
  for (int64_t d = 0; d < count; ++d) out[places.of(d)] = float_to_bf16(x[d]);
}

// A vector that isn't finite has no scale, and mustn't become an ordinary one.
inline uint16_t put_nan(int8_t* out, Places places, int64_t count) {
  for (int64_t d = 0; d < count; ++d) out[places.of(d)] = 0;
  return 0x7e00;
}

// Quantises x and gives the scale as f16.
inline uint16_t put_quants(int8_t* out, Places places, const float* x, int64_t count) {
  Vf largest = vset(0.0f), zero = vset(0.0f);
  for (int64_t d = 0; d < count; d += 16) {
    const Vf values = vload_part(x + d, count - d);
    largest = vmax(largest, vabs(values));
    zero = vfma(values, vset(0.0f), zero);
  }
  if (vsum(zero) != 0.0f) return put_nan(out, places, count);
  const float exact = vmax_lane(largest) / 127.0f;
  const uint16_t scale = float_to_half(exact < 65504.0f ? exact : 65504.0f);
  // The quants are those of the scale that is kept. A tiny one may be off by half of itself: hence
  // the bounds.
  const float inverse = scale ? 1.0f / half_to_float(scale) : 0.0f;
  for (int64_t d = 0; d < count; d += 16) {
    const Vf q = vload_part(x + d, count - d) * vset(inverse);
    int8_t lanes[16];
    vstore_int8(lanes, vto_int(vmin(vmax(q, vset(-127.0f)), vset(127.0f))));
    for (int64_t i = 0; i < 16 && d + i < count; ++i) out[places.of(d + i)] = lanes[i];
  }
  return scale;
}

template <typename T>
void store_kv_typed(const KvView& cache, const float* k, const float* v, int64_t slot) {
  const int64_t block = slot / kBlock, offset = slot % kBlock, d = cache.head_dim;
  T *keys = static_cast<T*>(cache.k), *values = static_cast<T*>(cache.v);
  for (int64_t head = 0; head < cache.num_kv_heads; ++head, k += d, v += d) {
    const int64_t at = block * cache.num_kv_heads + head;
    const Places to_keys = key_places<T>(cache, at, offset), to_values = value_places<T>(cache, at, offset);
    if constexpr (sizeof(T) == 1) {
      cache.k_scale[at * kBlock + offset] = put_quants(keys, to_keys, k, d);
      cache.v_scale[at * kBlock + offset] = put_quants(values, to_values, v, d);
    } else {
      put_vector(keys, to_keys, k, d);
      put_vector(values, to_values, v, d);
    }
    for (int64_t i = d; i < cache.padded_dim; ++i) values[to_values.of(i)] = 0;
  }
}

void store_kv_row(const KvView& cache, const float* k, const float* v, int64_t slot) {
  switch (cache.type) {
    case kKvF32:
      return store_kv_typed<float>(cache, k, v, slot);
    case kKvBf16:
      return store_kv_typed<uint16_t>(cache, k, v, slot);
    case kKvInt8:
      return store_kv_typed<int8_t>(cache, k, v, slot);
  }
}

}  // namespace
}  // namespace outrider
