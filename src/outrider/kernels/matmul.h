// out[t, n] = sum_k x[t, k] w[n, k], for packed weights of every format.
//
// A panel or two of 16 outputs against a few rows at a time: a tile's weights are loaded (and their
// nibbles unpacked) once per group of 32 and multiplied with every row while they sit in registers.
// Order of additions for one output: groups of k in ascending order, whatever the number of rows. A
// row that comes alone has kernels of its own (matvec.h), which give it the same bits.
#pragma once

#include "matvec.h"

namespace outrider {
namespace {

// Rows and panels of one pass: 6 x 2 sums of floats and of integers, 4 weight vectors and the
// operands in flight fill the 32 registers of AVX-512; AVX2 has half as many of half the width.
#if defined(__AVX512F__)
constexpr int kMostRows = 6, kPanelsTogether = 2;
#else
constexpr int kMostRows = 4, kPanelsTogether = 1;
#endif

void quantise_row(ActivationTile* tiles, int64_t lane, const float* x, int64_t cols) {
  for (int64_t k = 0; k < cols; k += kGroup, ++tiles) {
    float padded[kGroup] = {};
    const float* group = x + k;
    if (k + kGroup > cols) {
      memcpy(padded, group, size_t(cols - k) * 4);
      group = padded;
    }
    const Vf low = vload(group), high = vload(group + 16);
    const float largest = vmax_lane(vmax(vabs(low), vabs(high)));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    const Vi q_low = vto_int(low * vset(inverse)), q_high = vto_int(high * vset(inverse));
    vstore_int8(tiles->q[lane], q_low);
    vstore_int8(tiles->q[lane] + 16, q_high);
    const int32_t total = vsum_int(q_low) + vsum_int(q_high);
    tiles->scale[lane] = largest / 127.0f;
    tiles->sum[lane] = tiles->scale[lane] * float(total);
    tiles->bias[lane] = -8 * total;
  }
}

void round_row_to_bf16(uint16_t* out, const float* x, int64_t cols, int64_t stride) {
  for (int64_t k = 0; k < cols; ++k) out[k] = float_to_bf16(x[k]);
  for (int64_t k = cols; k < stride; ++k) out[k] = 0;
}

// R rows against P panels: each broadcast of four activations meets P weight vectors.
template <bool kFourBits, bool kHasOffset, int R, int P>
void quant_panels(float* out, int64_t out_stride, const Activations& x, int64_t row, const WeightView& w,
                  int64_t panel, int64_t width, bool accumulate) {
  constexpr int64_t kQuantBytes = kFourBits ? 256 : 512;
  const int64_t panel_bytes = w.num_groups * w.tile_bytes;
  const uint8_t* tile = w.data + panel * panel_bytes;
  const ActivationTile* rows = x.tiles + row / kTileRows * w.num_groups;
  const int64_t lane = row % kTileRows;
  Vf acc[P][R];
  for (int p = 0; p < P; ++p)
    for (int r = 0; r < R; ++r) acc[p][r] = vset(0.0f);
  for (int64_t g = 0; g < w.num_groups; ++g, tile += w.tile_bytes, ++rows) {
    Vi dot[P][R];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) dot[p][r] = initial_sum<kFourBits, kHasOffset>(rows->bias[lane + r]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Bytes quads[P][2];
      for (int p = 0; p < P; ++p) load_quads<kFourBits>(quads[p], tile + p * panel_bytes, i);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const int8_t* q = rows->q[lane + r];
        for (int p = 0; p < P; ++p)
          dot[p][r] = dot_quad<kFourBits>(dot[p][r], quads[p][0], q + (kFourBits ? 4 * i : 8 * i));
        for (int p = 0; p < P; ++p)
          dot[p][r] = dot_quad<kFourBits>(dot[p][r], quads[p][1], q + (kFourBits ? 4 * i + 16 : 8 * i + 4));
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const uint8_t* plane = tile + p * panel_bytes + kQuantBytes;
      const Vf scale = vload_half(plane);
      const Vf offset = kHasOffset ? vload_half(plane + 32) : vset(0.0f);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        acc[p][r] = vfma(vto_float(dot[p][r]), scale * vset(rows->scale[lane + r]), acc[p][r]);
        if (kHasOffset) acc[p][r] = vfma(offset, vset(rows->sum[lane + r]), acc[p][r]);
      }
    }
  }
  for (int p = 0; p < P; ++p)
    add_rows<R>(out + p * kPanel, out_stride, acc[p], width - p * kPanel, accumulate);
}

template <int R, int P>
void f32_panels(float* out, int64_t out_stride, const Activations& x, int64_t row, const WeightView& w,
                int64_t panel, int64_t width, bool accumulate) {
  const int64_t panel_values = x.stride * kPanel;
  const float* tile = reinterpret_cast<const float*>(w.data) + panel * panel_values;
  const float* rows = x.f32 + row * x.stride;
  Vf acc[P][R];
  for (int p = 0; p < P; ++p)
    for (int r = 0; r < R; ++r) acc[p][r] = vset(0.0f);
  for (int64_t k = 0; k < x.stride; ++k, tile += kPanel) {
    Vf weights[P];
    for (int p = 0; p < P; ++p) weights[p] = vload(tile + p * panel_values);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vf value = vset(rows[r * x.stride + k]);
      for (int p = 0; p < P; ++p) acc[p][r] = vfma(weights[p], value, acc[p][r]);
    }
  }
  for (int p = 0; p < P; ++p)
    add_rows<R>(out + p * kPanel, out_stride, acc[p], width - p * kPanel, accumulate);
}

template <bool kHardware, int R, int P>
void bf16_panels(float* out, int64_t out_stride, const Activations& x, int64_t row, const WeightView& w,
                 int64_t panel, int64_t width, bool accumulate) {
  const int64_t panel_values = x.stride * kPanel;
  const uint16_t* tile = reinterpret_cast<const uint16_t*>(w.data) + panel * panel_values;
  const uint16_t* rows = x.bf16 + row * x.stride;
  Vf acc[P][R];
  for (int p = 0; p < P; ++p)
    for (int r = 0; r < R; ++r) acc[p][r] = vset(0.0f);
  for (int64_t k = 0; k < x.stride; k += 2, tile += 2 * kPanel) {
    Pairs<kHardware> weights[P];
    for (int p = 0; p < P; ++p) weights[p].load(tile + p * panel_values);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) acc[p][r] = weights[p].dot(rows + r * x.stride + k, acc[p][r]);
  }
  for (int p = 0; p < P; ++p)
    add_rows<R>(out + p * kPanel, out_stride, acc[p], width - p * kPanel, accumulate);
}

template <bool kBf16Hardware, int R, int P>
void panel_rows(float* out, int64_t out_stride, const Activations& x, int64_t row, const WeightView& w,
                int64_t panel, bool accumulate) {
  const int64_t begin = panel * kPanel, width = w.rows - begin;
  float* at = out + row * out_stride + begin;
  switch (w.format) {
    case kF32:
      return f32_panels<R, P>(at, out_stride, x, row, w, panel, width, accumulate);
    case kBf16:
      return bf16_panels<kBf16Hardware, R, P>(at, out_stride, x, row, w, panel, width, accumulate);
    case kQ8:
      return quant_panels<false, false, R, P>(at, out_stride, x, row, w, panel, width, accumulate);
    case kQ8Offset:
      return quant_panels<false, true, R, P>(at, out_stride, x, row, w, panel, width, accumulate);
    case kQ4:
      return quant_panels<true, false, R, P>(at, out_stride, x, row, w, panel, width, accumulate);
    case kQ4Offset:
      return quant_panels<true, true, R, P>(at, out_stride, x, row, w, panel, width, accumulate);
  }
}

// As many times R rows against P panels as there are rows left before `end`.
template <bool kBf16Hardware, int R, int P>
inline int64_t steps_of(float* out, int64_t out_stride, const Activations& x, int64_t row, int64_t end,
                        const WeightView& w, int64_t panel, bool accumulate) {
  for (; row + R <= end; row += R)
    panel_rows<kBf16Hardware, R, P>(out, out_stride, x, row, w, panel, accumulate);
  return row;
}

// All rows against P panels. Blocks of rows stay within the activation tiles of 16.
template <bool kBf16Hardware, int P>
void all_rows(float* out, int64_t out_stride, const Activations& x, const WeightView& w, int64_t row_begin,
              int64_t row_end, int64_t panel, bool accumulate) {
  for (int64_t row = row_begin; row < row_end;) {
    const int64_t tile_end = (row / kTileRows + 1) * kTileRows, end = tile_end < row_end ? tile_end : row_end;
    row = steps_of<kBf16Hardware, kMostRows, P>(out, out_stride, x, row, end, w, panel, accumulate);
    if (kMostRows > 4)
      row = steps_of<kBf16Hardware, 4, P>(out, out_stride, x, row, end, w, panel, accumulate);
    row = steps_of<kBf16Hardware, 2, P>(out, out_stride, x, row, end, w, panel, accumulate);
    row = steps_of<kBf16Hardware, 1, P>(out, out_stride, x, row, end, w, panel, accumulate);
  }
}

template <bool kBf16Hardware>
void matmul(float* out, int64_t out_stride, const Activations& x, const WeightView& w, int64_t row_begin,
            int64_t row_end, int64_t panel_begin, int64_t panel_end, bool accumulate) {
  if (row_end - row_begin == 1)
    return matvec<kBf16Hardware>(out + row_begin * out_stride, x, w, row_begin, panel_begin, panel_end,
                                 accumulate);
  int64_t panel = panel_begin;
  for (; panel + kPanelsTogether <= panel_end; panel += kPanelsTogether)
    all_rows<kBf16Hardware, kPanelsTogether>(out, out_stride, x, w, row_begin, row_end, panel, accumulate);
  for (; panel < panel_end; ++panel)
    all_rows<kBf16Hardware, 1>(out, out_stride, x, w, row_begin, row_end, panel, accumulate);
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
