// Quantised weights against rows of bf16 activations.
//
//   out[t, n] = sum_g scale[n, g] sum_k (q[n, k] - zero) x[t, k] + offset[n, g] sum_k x[t, k]
//
// bf16 holds every integer of 8 bits, so quants become pairs of bf16 without rounding: the weights are
// those of the packed file, and only x is rounded. Blocks of them stay in the first-level cache while
// all rows pass; a row that comes alone takes the same way.
#pragma once

#include "weight_tiles.h"

namespace outrider {
namespace {

#if defined(__AVX512F__)
constexpr int kWideRows = 6, kWidePanels = 2;
#else
constexpr int kWideRows = 4, kWidePanels = 1;
#endif
constexpr int64_t kWideGroups = 4;  // groups along K of a block
constexpr int64_t kMostWideRows = 96;

// Some groups of P panels.
template <int P>
struct WideBlock {
  alignas(64) uint16_t pairs[kWideGroups][P][kGroup * kPanel];  // as tiles of bf16 weights
  Vf scale[kWideGroups][P], offset[kWideGroups][P];
};

// A tile's quants minus their zero.
template <bool kFourBits, bool kHasOffset>
void unpack_quants(uint16_t* pairs, const uint8_t* tile) {
  constexpr int32_t kZero = kHasOffset ? 0 : (kFourBits ? 8 : 128);
  for (int quad = 0; quad < 8; ++quad)
    for (int half = 0; half < 2; ++half, pairs += 2 * kPanel)
      for (int64_t lane = 0; lane < kPanel; ++lane) {
        uint32_t quants;
        memcpy(&quants, tile + 4 * ((kFourBits ? quad % 4 : quad) * kPanel + lane), 4);
        if (kFourBits) quants = (quants >> (quad / 4 * 4)) & 0x0f0f0f0fu;
        const float even = float(int32_t(quants >> (16 * half) & 255) - kZero);
        const float odd = float(int32_t(quants >> (16 * half + 8) & 255) - kZero);
        const uint32_t pair = float_to_bits(even) >> 16 | (float_to_bits(odd) & 0xffff0000u);
        memcpy(pairs + 2 * lane, &pair, 4);
      }
}

template <bool kFourBits, bool kHasOffset, int P>
void unpack_block(WideBlock<P>* block, const uint8_t* tile, int64_t panel_bytes, int64_t num_groups) {
  constexpr int64_t kQuantBytes = kFourBits ? 256 : 512, kTileBytes = kQuantBytes + (kHasOffset ? 64 : 32);
  for (int64_t g = 0; g < num_groups; ++g, tile += kTileBytes)
    for (int p = 0; p < P; ++p) {
      const uint8_t* of_panel = tile + p * panel_bytes;
      unpack_quants<kFourBits, kHasOffset>(block->pairs[g][p], of_panel);
      block->scale[g][p] = vload_half(of_panel + kQuantBytes);
      if (kHasOffset) block->offset[g][p] = vload_half(of_panel + kQuantBytes + 32);
    }
}

// R rows from `row` on, their groups from `group` on, against a block.
template <bool kHardware, bool kHasOffset, int R, int P>
void wide_rows(Vf (*sums)[P], const Activations& form, int64_t row, int64_t group, const WideBlock<P>& block,
               int64_t num_groups) {
  const int64_t stride = form.bf16_stride, row_groups = form.stride / kGroup;
  const uint16_t* x = form.bf16 + row * stride + group * kGroup;
  const float* x_sums = form.bf16_sums + row * row_groups + group;
  Vf acc[R][P];
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) acc[r][p] = sums[r][p];
  for (int64_t g = 0; g < num_groups; ++g, x += kGroup) {
    Vf dot[R][P];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) dot[r][p] = vset(0.0f);
    for (int64_t k = 0; k < kGroup; k += 2) {
      Pairs<kHardware> weights[P];
      for (int p = 0; p < P; ++p) weights[p].load(block.pairs[g][p] + k * kPanel);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) dot[r][p] = weights[p].dot(x + r * stride + k, dot[r][p]);
    }
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) {
        acc[r][p] = vfma(dot[r][p], block.scale[g][p], acc[r][p]);
        if (kHasOffset) acc[r][p] = vfma(block.offset[g][p], vset(x_sums[r * row_groups + g]), acc[r][p]);
      }
  }
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) sums[r][p] = acc[r][p];
}

template <bool kHardware, bool kHasOffset, int P, int R = kWideRows>
inline void wide_pass(int64_t num_rows, Vf (*sums)[P], const Activations& x, int64_t row, int64_t group,
                      const WideBlock<P>& block, int64_t num_groups) {
  if constexpr (R > 1) {
    if (num_rows < R)
      return wide_pass<kHardware, kHasOffset, P, R - 1>(num_rows, sums, x, row, group, block, num_groups);
  }
  wide_rows<kHardware, kHasOffset, R, P>(sums, x, row, group, block, num_groups);
}

// Up to kMostWideRows rows of `part` from `begin` on against P panels.
template <bool kHardware, bool kFourBits, bool kHasOffset, int P>
void wide_panels(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                 const MatmulPart& part, int64_t begin, int64_t panel) {
  const int64_t end = begin + kMostWideRows < part.row_end ? begin + kMostWideRows : part.row_end;
  const int64_t panel_bytes = w.num_groups * w.tile_bytes;
  const uint8_t* tiles = w.data + panel * panel_bytes;
  Vf sums[kMostWideRows][P];
  for (int64_t row = 0; row < end - begin; ++row)
    for (int p = 0; p < P; ++p) sums[row][p] = vset(0.0f);
  for (int64_t group = 0; group < w.num_groups; group += kWideGroups) {
    const int64_t left = w.num_groups - group, count = left < kWideGroups ? left : kWideGroups;
    WideBlock<P> block;
    unpack_block<kFourBits, kHasOffset>(&block, tiles + group * w.tile_bytes, panel_bytes, count);
    for (int64_t row = begin; row < end;) {
      const int64_t passes = (end - row + kWideRows - 1) / kWideRows,
                    rows = (end - row + passes - 1) / passes;
      wide_pass<kHardware, kHasOffset, P>(rows, sums + row - begin, x, row, group, block, count);
      row += rows;
    }
  }
  for (int64_t row = begin; row < end; ++row)
    for (int p = 0; p < P; ++p)
      add_rows<1>(out + row * out_stride + (panel + p) * kPanel, 0, &sums[row - begin][p],
                  w.rows - (panel + p) * kPanel, part.accumulate);
}

template <bool kHardware, bool kFourBits, bool kHasOffset>
void wide_format(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                 const MatmulPart& part) {
  for (int64_t row = part.row_begin; row < part.row_end; row += kMostWideRows) {
    int64_t panel = part.panel_begin;
    for (; panel + kWidePanels <= part.panel_end; panel += kWidePanels)
      wide_panels<kHardware, kFourBits, kHasOffset, kWidePanels>(out, out_stride, x, w, part, row, panel);
    for (; panel < part.panel_end; ++panel)
      wide_panels<kHardware, kFourBits, kHasOffset, 1>(out, out_stride, x, w, part, row, panel);
  }
}

template <bool kHardware>
void wide_matmul(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                 const MatmulPart& part) {
  const bool has_offset = w.format == kQ4Offset || w.format == kQ8Offset;
  if (w.format == kQ4 || w.format == kQ4Offset)
    return has_offset ? wide_format<kHardware, true, true>(out, out_stride, x, w, part)
                      : wide_format<kHardware, true, false>(out, out_stride, x, w, part);
  return has_offset ? wide_format<kHardware, false, true>(out, out_stride, x, w, part)
                    : wide_format<kHardware, false, false>(out, out_stride, x, w, part);
}

}  // namespace
}  // namespace outrider
