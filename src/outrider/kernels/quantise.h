// Rows of activations in the form that a weight format needs: int8 with a scale per group, or bf16.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

// Tiles that stay in the first-level cache while their 16 rows are filled in one by one.
constexpr int64_t kTilesTogether = 16;

inline void quantise_group(ActivationTile* tile, int64_t lane, const float* group) {
  const Vf low = vload(group), high = vload(group + 16);
  const float largest = vmax_lane(vmax(vabs(low), vabs(high)));
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  const Vi q_low = vto_int(low * vset(inverse)), q_high = vto_int(high * vset(inverse));
  vstore_int8(tile->q[lane], q_low);
  vstore_int8(tile->q[lane] + 16, q_high);
  const int32_t total = vsum_int(q_low + q_high);
  tile->scale[lane] = largest / 127.0f;
  tile->sum[lane] = tile->scale[lane] * float(total);
  tile->bias[lane] = -8 * total;
}

void quantise_tile(ActivationTile* tiles, const float* x, int64_t num_rows, int64_t cols, int64_t group_begin,
                   int64_t group_end) {
  for (int64_t begin = group_begin; begin < group_end; begin += kTilesTogether) {
    const int64_t end = begin + kTilesTogether < group_end ? begin + kTilesTogether : group_end;
    for (int64_t row = 0; row < num_rows; ++row) {
      const float* values = x + row * cols;
      for (int64_t g = begin; g < end; ++g) {
        if ((g + 1) * kGroup <= cols) {
          quantise_group(tiles + g, row, values + g * kGroup);
          continue;
        }
        float padded[kGroup] = {};
        memcpy(padded, values + g * kGroup, size_t(cols - g * kGroup) * 4);
        quantise_group(tiles + g, row, padded);
      }
    }
  }
}

void round_row_to_bf16(uint16_t* out, float* sums, const float* x, int64_t cols, int64_t stride) {
  int64_t k = 0;
  for (; k + 16 <= cols; k += 16) vstore_bf16(out + k, vload(x + k));
  for (; k < cols; ++k) out[k] = float_to_bf16(x[k]);
  for (; k < stride; ++k) out[k] = 0;
  for (k = 0; sums && k < stride; k += kGroup)
    sums[k / kGroup] = vsum(vload_bf16(out + k) + vload_bf16(out + k + 16));
}

}  // namespace
}  // namespace outrider
