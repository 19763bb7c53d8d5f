// One row of activations against packed weights: the product that reading the weights bounds.
//
// A row gets the same bits here as among others (matmul.h): the same operations in the same order.
#pragma once

#include "weight_tiles.h"

namespace outrider {
namespace {

// A single row of floats would wait for each sum before the next addition: four panels hide that.
constexpr int kPanelsOneRow = 4;
// A weight stream is read once: the hint hides the step between the prefetcher's pages.
constexpr int64_t kPrefetchBytes = 4096;

template <bool kFourBits, bool kHasOffset>
void quant_panel_row(float* out, const ActivationTile* tiles, int64_t row, const WeightView& w, int64_t panel,
                     int64_t width, bool accumulate) {
  constexpr int64_t kQuantBytes = kFourBits ? 256 : 512;
  const ActivationTile* x = tiles + row / kTileRows * w.num_groups;
  const int64_t lane = row % kTileRows;
  const uint8_t* tile = w.data + panel * w.num_groups * w.tile_bytes;
  Vf sum = vset(0.0f);
  for (int64_t g = 0; g < w.num_groups; ++g, tile += w.tile_bytes, ++x) {
    for (int64_t line = 0; line < kQuantBytes; line += 64) __builtin_prefetch(tile + kPrefetchBytes + line);
    const int8_t* q = x->q[lane];
    Vi dot = initial_sum<kFourBits, kHasOffset>(x->bias[lane]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Bytes quads[2];
      load_quads<kFourBits>(quads, tile, i);
      dot = dot_quad<kFourBits>(dot, quads[0], q + (kFourBits ? 4 * i : 8 * i));
      dot = dot_quad<kFourBits>(dot, quads[1], q + (kFourBits ? 4 * i + 16 : 8 * i + 4));
    }
    sum = vfma(final_sum<kFourBits, kHasOffset>(dot, x->bias[lane]),
               vload_half(tile + kQuantBytes) * vset(x->scale[lane]), sum);
    if (kHasOffset) sum = vfma(vload_half(tile + kQuantBytes + 32), vset(x->sum[lane]), sum);
  }
  add_rows<1>(out, 0, &sum, width, accumulate);
}

template <int P>
void f32_panels_row(float* out, const float* x, int64_t stride, const WeightView& w, int64_t panel,
                    int64_t width, bool accumulate) {
  const int64_t panel_values = stride * kPanel;
  const float* tile = reinterpret_cast<const float*>(w.data) + panel * panel_values;
  Vf sums[P];
  for (int p = 0; p < P; ++p) sums[p] = vset(0.0f);
  for (int64_t k = 0; k < stride; ++k, tile += kPanel)
    for (int p = 0; p < P; ++p) sums[p] = vfma(vload(tile + p * panel_values), vset(x[k]), sums[p]);
  for (int p = 0; p < P; ++p) add_rows<1>(out + p * kPanel, 0, &sums[p], width - p * kPanel, accumulate);
}

template <bool kHardware, int P>
void bf16_panels_row(float* out, const uint16_t* x, int64_t stride, const WeightView& w, int64_t panel,
                     int64_t width, bool accumulate) {
  const int64_t panel_values = stride * kPanel;
  const uint16_t* tile = reinterpret_cast<const uint16_t*>(w.data) + panel * panel_values;
  Vf sums[P];
  for (int p = 0; p < P; ++p) sums[p] = vset(0.0f);
  for (int64_t k = 0; k < stride; k += 2, tile += 2 * kPanel) {
    Pairs<kHardware> weights[P];
    for (int p = 0; p < P; ++p) weights[p].load(tile + p * panel_values);
    for (int p = 0; p < P; ++p) sums[p] = weights[p].dot(x + k, sums[p]);
  }
  for (int p = 0; p < P; ++p) add_rows<1>(out + p * kPanel, 0, &sums[p], width - p * kPanel, accumulate);
}

// P panels from `panel` on, those of quants one by one: a single panel keeps its weights one stream.
template <bool kBf16Hardware, int P>
void panels_row(float* out, const Activations& x, const WeightView& w, int64_t row, int64_t panel,
                bool accumulate) {
  const int64_t width = w.rows - panel * kPanel;
  out += panel * kPanel;
  switch (w.format) {
    case kF32:
      return f32_panels_row<P>(out, x.f32 + row * x.stride, x.stride, w, panel, width, accumulate);
    case kBf16:
      return bf16_panels_row<kBf16Hardware, P>(out, x.bf16 + row * x.bf16_stride, x.stride, w, panel, width,
                                               accumulate);
    case kQ8:
      return quant_panel_row<false, false>(out, x.tiles, row, w, panel, width, accumulate);
    case kQ8Offset:
      return quant_panel_row<false, true>(out, x.tiles, row, w, panel, width, accumulate);
    case kQ4:
      return quant_panel_row<true, false>(out, x.tiles, row, w, panel, width, accumulate);
    case kQ4Offset:
      return quant_panel_row<true, true>(out, x.tiles, row, w, panel, width, accumulate);
  }
}

// out[n] (+)= sum_k x[row, k] w[n, k] for n in the panels [panel_begin, panel_end).
template <bool kBf16Hardware>
void matvec(float* out, const Activations& x, const WeightView& w, int64_t row, int64_t panel_begin,
            int64_t panel_end, bool accumulate) {
  int64_t panel = panel_begin;
  if (w.format <= kBf16)
    for (; panel + kPanelsOneRow <= panel_end; panel += kPanelsOneRow)
      panels_row<kBf16Hardware, kPanelsOneRow>(out, x, w, row, panel, accumulate);
  for (; panel < panel_end; ++panel) panels_row<kBf16Hardware, 1>(out, x, w, row, panel, accumulate);
}

}  // namespace
}  // namespace outrider
