// Several rows of int8 activations against panels of quantised weights.
//
// Each broadcast of four activations meets the weights of two panels, and weights whose nibbles are
// unpacked once meet several rows while they sit in registers. Products and two scalings share the
// two multipliers of Zen 5, so 8 of 10 operations are products at best (9 of 12 with offsets).
#pragma once

#include "weight_tiles.h"

namespace outrider {
namespace {

// Rows and panels of one pass: 6 x 2 sums of floats and of integers, the weights and operands in
// flight fill the 32 registers of AVX-512; AVX2 has half as many of half the width.
#if defined(__AVX512F__)
constexpr int kQuantRows = 6, kQuantPanels = 2;
#else
constexpr int kQuantRows = 4, kQuantPanels = 1;
#endif

// Some rows of a tile against some panels, and the weights that come after them.
struct QuantPass {
  float* out;  // of the first row and panel
  int64_t out_stride;
  int64_t width;  // columns of the output from there on
  bool accumulate;
  const ActivationTile* rows;
  int64_t lane;
  const uint8_t* tile;
  int64_t panel_bytes, num_groups;
  const uint8_t* ahead;  // what to fetch meanwhile, ahead_bytes per group of k
  int64_t ahead_bytes;
};

template <bool kFourBits, bool kHasOffset, int R, int P>
void quant_panels(const QuantPass& pass) {
  constexpr int64_t kQuantBytes = kFourBits ? 256 : 512, kTileBytes = kQuantBytes + (kHasOffset ? 64 : 32);
  const uint8_t *tile = pass.tile, *ahead = pass.ahead;
  const ActivationTile* rows = pass.rows;
  const int64_t lane = pass.lane, panel_bytes = pass.panel_bytes;
  // What this pass and the next one write: they would wait for each line otherwise.
  for (int r = 0; r < 2 * R; ++r)
    for (int p = 0; p < P; ++p) __builtin_prefetch(pass.out + r * pass.out_stride + p * kPanel, 1);
  Vf acc[P][R];
  for (int p = 0; p < P; ++p)
    for (int r = 0; r < R; ++r) acc[p][r] = vset(0.0f);
  for (int64_t g = 0; g < pass.num_groups; ++g, tile += kTileBytes, ++rows) {
    for (const uint8_t* end = ahead + pass.ahead_bytes; ahead < end; ahead += 64)
      __builtin_prefetch(ahead, 0, 2);
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
        const Vf sum = final_sum<kFourBits, kHasOffset>(dot[p][r], rows->bias[lane + r]);
        acc[p][r] = vfma(sum, scale * vset(rows->scale[lane + r]), acc[p][r]);
        if (kHasOffset) acc[p][r] = vfma(offset, vset(rows->sum[lane + r]), acc[p][r]);
      }
    }
  }
  for (int p = 0; p < P; ++p)
    add_rows<R>(pass.out + p * kPanel, pass.out_stride, acc[p], pass.width - p * kPanel, pass.accumulate);
}

template <bool kFourBits, bool kHasOffset, int P, int R = kQuantRows>
inline void quant_rows(int64_t num_rows, const QuantPass& pass) {
  if constexpr (R > 1) {
    if (num_rows < R) return quant_rows<kFourBits, kHasOffset, P, R - 1>(num_rows, pass);
  }
  quant_panels<kFourBits, kHasOffset, R, P>(pass);
}

// The most rows of a pass when those left before the end of a tile are shared out evenly: passes of
// one or two rows would wait for their sums.
inline int64_t rows_of_pass(int64_t row, int64_t end, int64_t most) {
  const int64_t tile_end = (row / kTileRows + 1) * kTileRows, left = (tile_end < end ? tile_end : end) - row;
  const int64_t passes = (left + most - 1) / most;
  return (left + passes - 1) / passes;
}

// All rows of `part` against P panels, while the next P are fetched in equal shares per pass.
template <bool kFourBits, bool kHasOffset, int P>
void quant_all_rows(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                    const MatmulPart& part, int64_t panel) {
  const int64_t panel_bytes = w.num_groups * w.tile_bytes;
  QuantPass pass = {};
  pass.out_stride = out_stride;
  pass.width = w.rows - panel * kPanel;
  pass.accumulate = part.accumulate;
  pass.tile = w.data + panel * panel_bytes;
  pass.panel_bytes = panel_bytes;
  pass.num_groups = w.num_groups;
  // Beyond the part as well: the thread's next part begins where this one ends.
  if (panel + P < w.num_panels) {
    int64_t passes = 0;
    for (int64_t row = part.row_begin; row < part.row_end; ++passes)
      row += rows_of_pass(row, part.row_end, kQuantRows);
    const int64_t tiles = passes * w.num_groups;
    pass.ahead = pass.tile + P * panel_bytes;
    pass.ahead_bytes = (P * panel_bytes + 64 * tiles - 1) / (64 * tiles) * 64;
  }
  for (int64_t row = part.row_begin; row < part.row_end;) {
    const int64_t num_rows = rows_of_pass(row, part.row_end, kQuantRows);
    pass.out = out + row * out_stride + panel * kPanel;
    pass.rows = x.tiles + row / kTileRows * w.num_groups;
    pass.lane = row % kTileRows;
    quant_rows<kFourBits, kHasOffset, P>(num_rows, pass);
    row += num_rows;
    if (pass.ahead) pass.ahead += pass.ahead_bytes * w.num_groups;
  }
}

template <bool kFourBits, bool kHasOffset>
void quant_matmul(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                  const MatmulPart& part) {
  int64_t panel = part.panel_begin;
  for (; panel + kQuantPanels <= part.panel_end; panel += kQuantPanels)
    quant_all_rows<kFourBits, kHasOffset, kQuantPanels>(out, out_stride, x, w, part, panel);
  for (; panel < part.panel_end; ++panel)
    quant_all_rows<kFourBits, kHasOffset, 1>(out, out_stride, x, w, part, panel);
}

}  // namespace
}  // namespace outrider
