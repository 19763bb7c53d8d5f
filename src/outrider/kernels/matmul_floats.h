// Several rows against panels of f32 or bf16 weights.
//
// Weights are cut along K into blocks that stay in the first-level cache while all rows pass; the
// sums wait in memory meanwhile. They are f32 there as in registers, so cutting changes no bit.
#pragma once

#include "weight_tiles.h"

namespace outrider {
namespace {

// 6 x 4 sums fill the registers of AVX-512 and make few loads per product; AVX2 has half as many of
// half the width.
#if defined(__AVX512F__)
constexpr int kFloatRows = 6, kFloatPanels = 4;
#else
constexpr int kFloatRows = 4, kFloatPanels = 1;
#endif
constexpr int64_t kBlockValues = 128;  // values along K of a block
constexpr int64_t kMostFloatRows = 96;

template <int P>
using FloatSums = Vf[kMostFloatRows][P];

// R rows of f32 from x[0] on against a block of P panels.
template <int R, int P>
void f32_block(Vf (*sums)[P], const float* x, int64_t stride, const float* tile, int64_t panel_values,
               int64_t count) {
  Vf acc[R][P];
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) acc[r][p] = sums[r][p];
  for (int64_t k = 0; k < count; ++k, tile += kPanel) {
    Vf weights[P];
    for (int p = 0; p < P; ++p) weights[p] = vload(tile + p * panel_values);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vf value = vset(x[r * stride + k]);
      for (int p = 0; p < P; ++p) acc[r][p] = vfma(weights[p], value, acc[r][p]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) sums[r][p] = acc[r][p];
}

template <bool kHardware, int R, int P>
void bf16_block(Vf (*sums)[P], const uint16_t* x, int64_t stride, const uint16_t* tile, int64_t panel_values,
                int64_t count) {
  Vf acc[R][P];
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) acc[r][p] = sums[r][p];
  for (int64_t k = 0; k < count; k += 2, tile += 2 * kPanel) {
    Pairs<kHardware> weights[P];
    for (int p = 0; p < P; ++p) weights[p].load(tile + p * panel_values);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) acc[r][p] = weights[p].dot(x + r * stride + k, acc[r][p]);
  }
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) sums[r][p] = acc[r][p];
}

// One block of rows, R at most, whatever the format.
template <bool kBf16Hardware, int P, int R = kFloatRows>
inline void float_block(int64_t num_rows, Vf (*sums)[P], const Activations& x, int64_t row,
                        const WeightView& w, int64_t panel, int64_t k, int64_t count) {
  if constexpr (R > 1) {
    if (num_rows < R) return float_block<kBf16Hardware, P, R - 1>(num_rows, sums, x, row, w, panel, k, count);
  }
  const int64_t panel_values = x.stride * kPanel;
  const int64_t tile = panel * panel_values + k * kPanel;
  if (w.format == kF32)
    return f32_block<R, P>(sums, x.f32 + row * x.stride + k, x.stride,
                           reinterpret_cast<const float*>(w.data) + tile, panel_values, count);
  bf16_block<kBf16Hardware, R, P>(sums, x.bf16 + row * x.bf16_stride + k, x.bf16_stride,
                                  reinterpret_cast<const uint16_t*>(w.data) + tile, panel_values, count);
}

// Ask for the share of rows [row, row + kFloatRows) in the block from k on: it is far away when the rows
// get there, and too short for the processor to notice that it is a stream.
template <int P>
inline void fetch_next_block(const WeightView& w, int64_t panel, int64_t k, int64_t stride, int64_t row,
                             int64_t num_rows) {
  if (k >= stride) return;
  const int64_t value_bytes = w.format == kF32 ? 4 : 2,
                count = k + kBlockValues < stride ? kBlockValues : stride - k;
  const int64_t lines = count * kPanel * value_bytes / 64;
  const int64_t first = lines * row / num_rows, last = lines * (row + kFloatRows) / num_rows;
  for (int p = 0; p < P; ++p) {
    const uint8_t* block = w.data + ((panel + p) * stride + k) * kPanel * value_bytes;
    for (int64_t line = first; line < last && line < lines; ++line)
      __builtin_prefetch(block + line * 64, 0, 2);
  }
}

// Up to kMostFloatRows rows from `begin` on against P panels.
template <bool kBf16Hardware, int P>
void float_rows(float* out, int64_t out_stride, const Activations& x, const WeightView& w, int64_t begin,
                int64_t end, int64_t panel, bool accumulate) {
  FloatSums<P> sums;
  for (int64_t row = 0; row < end - begin; ++row)
    for (int p = 0; p < P; ++p) sums[row][p] = vset(0.0f);
  for (int64_t k = 0; k < x.stride; k += kBlockValues) {
    const int64_t count = k + kBlockValues < x.stride ? kBlockValues : x.stride - k;
    for (int64_t row = begin; row < end;) {
      fetch_next_block<P>(w, panel, k + kBlockValues, x.stride, row - begin, end - begin);
      const int64_t passes = (end - row + kFloatRows - 1) / kFloatRows,
                    rows = (end - row + passes - 1) / passes;
      float_block<kBf16Hardware, P>(rows, sums + row - begin, x, row, w, panel, k, count);
      row += rows;
    }
  }
  for (int64_t row = begin; row < end; ++row)
    for (int p = 0; p < P; ++p)
      add_rows<1>(out + row * out_stride + (panel + p) * kPanel, 0, &sums[row - begin][p],
                  w.rows - (panel + p) * kPanel, accumulate);
}

template <bool kBf16Hardware>
void float_matmul(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                  const MatmulPart& part) {
  for (int64_t row = part.row_begin; row < part.row_end; row += kMostFloatRows) {
    const int64_t end = row + kMostFloatRows < part.row_end ? row + kMostFloatRows : part.row_end;
    int64_t panel = part.panel_begin;
    for (; panel + kFloatPanels <= part.panel_end; panel += kFloatPanels)
      float_rows<kBf16Hardware, kFloatPanels>(out, out_stride, x, w, row, end, panel, part.accumulate);
    for (; panel < part.panel_end; ++panel)
      float_rows<kBf16Hardware, 1>(out, out_stride, x, w, row, end, panel, part.accumulate);
  }
}

}  // namespace
}  // namespace outrider
