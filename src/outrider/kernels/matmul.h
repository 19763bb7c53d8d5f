// out[t, n] = sum_k x[t, k] w[n, k], for packed weights of every format, and single rows of weights.
//
// Order of additions for one output: groups of k in ascending order, whatever the number of rows. A
// row that comes alone has kernels of its own (matvec.h), which give it the same bits.
#pragma once

#include "matmul_bf16.h"
#include "matmul_floats.h"
#include "matmul_quants.h"
#include "matvec.h"

namespace outrider {
namespace {

template <bool kBf16Hardware>
void matmul(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
            const MatmulPart& part) {
  if (w.format >= kQ8 && !x.tiles) return wide_matmul<kBf16Hardware>(out, out_stride, x, w, part);
  if (part.row_end - part.row_begin == 1)
    return matvec<kBf16Hardware>(out + part.row_begin * out_stride, x, w, part.row_begin, part.panel_begin,
                                 part.panel_end, part.accumulate);
  switch (w.format) {
    case kF32:
    case kBf16:
      return float_matmul<kBf16Hardware>(out, out_stride, x, w, part);
    case kQ8:
      return quant_matmul<false, false>(out, out_stride, x, w, part);
    case kQ8Offset:
      return quant_matmul<false, true>(out, out_stride, x, w, part);
    case kQ4:
      return quant_matmul<true, false>(out, out_stride, x, w, part);
    case kQ4Offset:
      return quant_matmul<true, true>(out, out_stride, x, w, part);
  }
}

void weight_row(float* out, const WeightView& w, int64_t index) {
  const int64_t panel = index / kPanel, lane = index % kPanel;
  for (int64_t g = 0; g < w.num_groups; ++g) {
    const uint8_t* tile = w.data + (panel * w.num_groups + g) * w.tile_bytes;
    const bool four_bits = w.format == kQ4 || w.format == kQ4Offset;
    const bool has_offset = w.format == kQ4Offset || w.format == kQ8Offset;
    const int64_t quant_bytes = four_bits ? 256 : 512;
    uint16_t scale = 0, offset = 0;
    if (w.format >= kQ8) memcpy(&scale, tile + quant_bytes + 2 * lane, 2);
    if (has_offset) memcpy(&offset, tile + quant_bytes + 32 + 2 * lane, 2);
    const int64_t end = w.cols - g * kGroup < kGroup ? w.cols - g * kGroup : kGroup;
    for (int64_t k = 0; k < end; ++k) {
      float value;
      if (w.format == kF32) {
        memcpy(&value, tile + 4 * (k * kPanel + lane), 4);
      } else if (w.format == kBf16) {
        uint16_t bits;
        memcpy(&bits, tile + 2 * ((k / 2 * kPanel + lane) * 2 + k % 2), 2);
        value = bf16_to_float(bits);
      } else {
        const int64_t quad = k / 4;
        int quant = tile[((four_bits ? quad % 4 : quad) * kPanel + lane) * 4 + k % 4];
        if (four_bits) quant = quad < 4 ? quant & 15 : quant >> 4;
        const int zero = has_offset ? 0 : (four_bits ? 8 : 128);
        value = half_to_float(scale) * float(quant - zero) + half_to_float(offset);
      }
      out[g * kGroup + k] = value;
    }
  }
}

}  // namespace
}  // namespace outrider
