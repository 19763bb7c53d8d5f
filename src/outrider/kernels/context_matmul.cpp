// How matmuls are cut into tasks: rows of x converted once, then panels of the weights they meet.
//
// `linear` is a `grouped_linear` of one expert, so both give a row the same bits.
#include <algorithm>
#include <cstring>

#include "context.h"

namespace outrider {
namespace {

// Rows of one pass: their activations stay in a core's second-level cache while weights stream by.
// Floats are cut along K as well, so that they may come from the third-level cache.
constexpr int64_t kRowChunkBytes = 384 << 10, kFloatRowChunkBytes = 1 << 20;
// One row is bound by the weight stream, which a new task interrupts; many rows by arithmetic, which
// more tasks spread more evenly (docs/LOG.md, 2026-11-21).
constexpr int64_t kTasksPerThread = 8, kTasksPerThreadOneRow = 2;
// A core quantises so many values in about the time that waking another takes.
constexpr int64_t kMinQuantiseValues = 16384;
// What a kernel of several rows takes at once (matmul_quants.h, matmul_floats.h).
constexpr int64_t kPanelsTogether = 2, kFloatPanelsTogether = 4;
// Reading an expert's weights takes about as long as multiplying them with this many rows.
constexpr int64_t kStreamRows = 8;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of bf16 that begin at odd multiples of 4 cache lines: a kernel reads 4 lines of each of many rows,
// and even multiples of 4 would bring them into a few sets of the first-level cache.
int64_t spread_rows(int64_t stride) { return (divide_up(stride, 128) | 1) * 128; }

}  // namespace

void Context::linear(const Matmul& call) {
  groups_.assign(1, {0, 0, call.num_rows, 0});
  run_groups(call);
}

void Context::grouped_linear(const Matmul& call, const int32_t* cu_rows, int64_t num_experts) {
  groups_.clear();
  int64_t first_tile = 0;
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    const int64_t begin = cu_rows[expert], end = cu_rows[expert + 1];
    if (begin == end) continue;
    groups_.push_back({expert, begin, end, first_tile});
    first_tile += divide_up(end - begin, kTileRows);
  }
  run_groups(call);
}

void Context::run_groups(const Matmul& call) {
  if (call.num_rows == 0) return;
  const Activations form = convert(call);
  int64_t num_panels = 0;
  for (const WeightView& w : call.weights) num_panels += w.num_panels;
  const int64_t most_rows = form.f32 || form.bf16 ? kFloatRowChunkBytes / (form.stride * (form.f32 ? 4 : 2))
                                                  : kRowChunkBytes / form.stride;
  plan_tasks(num_panels, std::max<int64_t>(kTileRows, most_rows / kTileRows * kTileRows),
             form.f32 || form.bf16 ? kFloatPanelsTogether : kPanelsTogether);
  pool_.run(int64_t(tasks_.size()), [&](int64_t i, int) { run_task(tasks_[size_t(i)], call, form); });
}

Activations Context::convert(const Matmul& call) {
  const float* x = call.x;
  const int64_t cols = call.cols, stride = divide_up(cols, kGroup) * kGroup, groups = stride / kGroup;
  bool to_quants = false, to_bf16 = false, to_f32 = false;
  for (const WeightView& w : call.weights) {
    to_quants |= w.format >= kQ8 && !keeps_bf16_;
    to_bf16 |= w.format == kBf16 || (w.format >= kQ8 && keeps_bf16_);
    to_f32 |= w.format == kF32;
  }
  Activations form = {};
  form.stride = stride;
  if (to_quants) {
    form.tiles = quantise(call, groups);
  }
  if (to_bf16) {
    form.bf16_stride = spread_rows(stride);
    uint16_t* rounded = grow(bf16_, call.num_rows * form.bf16_stride);
    float* sums = keeps_bf16_ ? grow(bf16_sums_, call.num_rows * groups) : nullptr;
    for_rows(call.num_rows, cols, [&](int64_t t) {
      kernels_->round_row_to_bf16(rounded + t * form.bf16_stride, sums ? sums + t * groups : nullptr,
                                  x + t * cols, cols, stride);
    });
    form.bf16 = rounded;
    form.bf16_sums = sums;
  }
  if (to_f32 && stride == cols) {
    form.f32 = x;
  } else if (to_f32) {
    float* padded = grow(padded_, call.num_rows * stride);
    for_rows(call.num_rows, cols, [&](int64_t t) {
      std::memcpy(padded + t * stride, x + t * cols, size_t(cols) * sizeof(float));
      std::fill(padded + t * stride + cols, padded + (t + 1) * stride, 0.0f);
    });
    form.f32 = padded;
  }
  return form;
}

// A task takes part of K, so that a tile's 16 rows are filled in while it is in a core's cache.
const ActivationTile* Context::quantise(const Matmul& call, int64_t groups) {
  row_tiles_.clear();
  for (const RowGroup& group : groups_)
    for (int64_t row = group.begin; row < group.end; row += kTileRows)
      row_tiles_.push_back({row, std::min(group.end, row + kTileRows) - row});
  const int64_t num_tiles = int64_t(row_tiles_.size());
  ActivationTile* tiles = grow(tiles_, num_tiles * groups);
  const int64_t pieces = std::max<int64_t>(1, call.num_rows * call.cols / num_tiles / kMinQuantiseValues);
  const int64_t groups_per_task = divide_up(groups, pieces);
  const int64_t tiles_per_task =
      std::max<int64_t>(1, kMinQuantiseValues * num_tiles / (call.num_rows * call.cols));
  const int64_t tasks_along = divide_up(groups, groups_per_task);
  pool_.run(divide_up(num_tiles, tiles_per_task) * tasks_along, [&](int64_t task, int) {
    const int64_t first = task / tasks_along * tiles_per_task, begin = task % tasks_along * groups_per_task;
    for (int64_t i = first; i < std::min(num_tiles, first + tiles_per_task); ++i)
      kernels_->quantise_tile(tiles + i * groups, call.x + row_tiles_[size_t(i)].begin * call.cols,
                              row_tiles_[size_t(i)].count, call.cols, begin,
                              std::min(groups, begin + groups_per_task));
  });
  return tiles;
}

void Context::plan_tasks(int64_t num_panels, int64_t row_chunk, int64_t panels_together) {
  int64_t total_cost = 0, most_rows = 0;
  for (const RowGroup& group : groups_) {
    total_cost += group.end - group.begin + kStreamRows;
    most_rows = std::max(most_rows, group.end - group.begin);
  }
  const int64_t wanted = (most_rows == 1 ? kTasksPerThreadOneRow : kTasksPerThread) * pool_.num_threads();
  tasks_.clear();
  for (const RowGroup& group : groups_) {
    const int64_t cost = group.end - group.begin + kStreamRows;
    const int64_t tasks = divide_up(wanted * cost, total_cost);
    int64_t panels_per_task = divide_up(num_panels, tasks);
    // Several rows take some panels at a time; many short tasks are shared out more evenly than few.
    if (most_rows > 1)
      panels_per_task = std::max<int64_t>(1, num_panels / tasks / panels_together) * panels_together;
    for (int64_t row = group.begin; row < group.end; row += row_chunk)
      for (int64_t panel = 0; panel < num_panels; panel += panels_per_task)
        tasks_.push_back({&group, row, std::min(group.end, row + row_chunk), panel,
                          std::min(num_panels, panel + panels_per_task)});
  }
}

void Context::run_task(const MatmulTask& task, const Matmul& call, const Activations& form) {
  // The kernel counts rows from the group's first.
  const RowGroup& group = *task.group;
  Activations rows = form;
  if (form.f32) rows.f32 += group.begin * form.stride;
  if (form.bf16) rows.bf16 += group.begin * form.bf16_stride;
  if (form.bf16_sums) rows.bf16_sums += group.begin * (form.stride / kGroup);
  if (form.tiles) rows.tiles += group.first_tile * (form.stride / kGroup);
  int64_t begin = task.panel_begin, end = task.panel_end;
  for (size_t i = 0; i < call.weights.size() && end > 0; ++i) {
    WeightView w = call.weights[i];
    if (begin < w.num_panels) {
      w.data += group.expert * w.num_panels * w.num_groups * w.tile_bytes;
      kernels_->matmul(call.outs[i] + group.begin * w.rows, w.rows, rows, w,
                       {task.row_begin - group.begin, task.row_end - group.begin, begin,
                        std::min(end, w.num_panels), call.accumulate});
    }
    begin = std::max<int64_t>(0, begin - w.num_panels);
    end -= w.num_panels;
  }
}

}  // namespace outrider
