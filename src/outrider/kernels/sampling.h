// What sampling does to a row of logits and reads of it: masks, the maxima of its chunks and the sums
// of their weights.
//
// A weight is exp((x - max) * scale), so the best token has 1. Nothing is fused and every sum has a
// fixed order: a seed has to give the same tokens on every instruction set, so the bits are equal.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

// The first `count` of 16 logits; what is missing is as impossible as -inf.
inline Vf load_logits(const float* x, int64_t count) {
  if (count >= 16) return vload(x);
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = i < count ? x[i] : -INFINITY;
  return vload(lanes);
}

// As vexp: range reduction and polynomial of Cephes' expf (S. Moshier), 0 below -87. The product of
// n with the first constant is exact, so that little is lost without fused additions.
inline Vf exp_unfused(Vf x) {
  const Vf floor_x = vset(-87.0f);
  const Vf clamped = vmax(x, floor_x);
  const Vf n = vround(clamped * vset(1.44269504088896341f));
  const Vf r = (clamped - n * vset(0.693359375f)) + n * vset(2.12194440e-4f);
  Vf p = vset(1.9875691500e-4f);
  p = p * r + vset(1.3981999507e-3f);
  p = p * r + vset(8.3334519073e-3f);
  p = p * r + vset(4.1665795894e-2f);
  p = p * r + vset(1.6666665459e-1f);
  p = p * r + vset(5.0000001201e-1f);
  const Vf y = p * (r * r) + (r + vset(1.0f));
  return vkeep_ge(vscale2(y, vto_int(n)), x, floor_x);
}

inline Vf weight_lanes(const float* x, int64_t count, Vf max, Vf scale) {
  return exp_unfused((load_logits(x, count) - max) * scale);
}

void chunk_maxima(float* out, const float* x, int64_t count) {
  const Vf one = vset(1.0f);
  Vf numbers = one;  // 0 in the lanes that met a NaN, which a maximum can lose
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = begin + kChunk < count ? begin + kChunk : count;
    Vf max = vset(-INFINITY);
    for (int64_t i = begin; i < end; i += 16) {
      const Vf values = load_logits(x + i, end - i);
      max = vmax(values, max);
      numbers = vmin(numbers, vkeep_ge(one, values, values));
    }
    out[begin / kChunk] = vmax_lane(max);
  }
  if (vsum(numbers) < 16.0f) out[0] = NAN;
}

float mask_maxima(float* out, float* x, const uint32_t* bits, int64_t count) {
  const Vf one = vset(1.0f), never = vset(-INFINITY);
  Vf numbers = one, unmasked = never;
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = begin + kChunk < count ? begin + kChunk : count;
    Vf max = never;
    for (int64_t i = begin; i < end; i += 16) {
      const Vf values = load_logits(x + i, end - i);
      unmasked = vmax(values, unmasked);
      numbers = vmin(numbers, vkeep_ge(one, values, values));
      const uint32_t lanes = bits[i / 32] >> (i % 32) & 0xffff;
      const Vf kept = vselect(lanes, values, never);
      max = vmax(kept, max);
      // Most masks let nearly all tokens through or nearly none.
      if (lanes != 0xffff) vstore_part(x + i, kept, end - i);
    }
    out[begin / kChunk] = vmax_lane(max);
  }
  return vsum(numbers) < 16.0f ? NAN : vmax_lane(unmasked);
}

// parts [kFloors] += the weights that are at least kFloor[f], lane by lane.
inline void add_above(Vf* parts, const Vf* weights, int64_t count) {
  Vf max = vset(0.0f);
  for (int64_t i = 0; i < count; ++i) max = vmax(weights[i], max);
  if (vmax_lane(max) < kFloor[kFloors - 1]) return;  // as in most chunks of a row of a trained model
  for (int64_t i = 0; i < count; ++i)
    for (int64_t f = 0; f < kFloors; ++f)
      parts[f] = parts[f] + vkeep_ge(weights[i], weights[i], vset(kFloor[f]));
}

void chunk_sums(float* out, float* above, const float* x, float max, float scale, int64_t count) {
  const Vf maxima = vset(max), scales = vset(scale);
  Vf parts[kFloors], weights[kChunk / 16];
  for (int64_t f = 0; f < kFloors; ++f) parts[f] = vset(0.0f);
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t size = count - begin < kChunk ? count - begin : kChunk, num_vectors = (size + 15) / 16;
    Vf sum = vset(0.0f);
    for (int64_t i = 0; i < num_vectors; ++i) {
      weights[i] = weight_lanes(x + begin + 16 * i, size - 16 * i, maxima, scales);
      sum = sum + weights[i];
    }
    out[begin / kChunk] = vsum(sum);
    if (above) add_above(parts, weights, num_vectors);
  }
  for (int64_t f = 0; above && f < kFloors; ++f) above[f] = vsum(parts[f]);
}

void token_weights(float* out, const float* x, float max, float scale, int64_t count) {
  for (int64_t i = 0; i < count; i += 16)
    vstore_part(out + i, weight_lanes(x + i, count - i, vset(max), vset(scale)), count - i);
}

void keep_weights(double* sums, float* weights, float floor, int64_t num_chunks) {
  const Vf floors = vset(floor);
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk, weights += kChunk) {
    Vd sum = vzero_wide();
    for (int64_t i = 0; i < kChunk; i += 16) {
      const Vf values = vload(weights + i), kept = vkeep_ge(values, values, floors);
      vstore(weights + i, kept);
      sum = vadd_wide(sum, kept);
    }
    sums[chunk] = vsum_wide(sum);
  }
}

int64_t split_weights(float* rest, double* above, const float* weights, float low, float high,
                      int64_t num_chunks) {
  const Vf lows = vset(low), highs = vset(high);
  Vd sum = vzero_wide();
  int64_t count = 0;
  for (int64_t i = 0; i < num_chunks * kChunk; i += 16) {
    const Vf values = vload(weights + i);
    sum = vadd_wide(sum, vkeep_ge(values, values, highs));
    // Few are between, so going from one to the next costs less than moving all.
    for (uint32_t lanes = vlanes_ge(values, lows) & ~vlanes_ge(values, highs); lanes; lanes &= lanes - 1)
      rest[count++] = weights[i + __builtin_ctz(lanes)];
  }
  *above = vsum_wide(sum);
  return count;
}

}  // namespace
}  // namespace outrider
