// How a program runs, and what threads that wait do meanwhile: read on in the next product's weights.
#include "program.h"

#include <algorithm>

#include "context.h"

namespace outrider {
namespace {

// What a thread fetches ahead at most: half of a second-level cache of 1 MiB has room for it.
constexpr int64_t kMostAheadBytes = 384 << 10;

}  // namespace

void Program::run(Context& context) const {
  const auto read_ahead = [&](size_t next) {
    while (next < calls_.size() && calls_[next].reads.empty()) ++next;
    if (next < calls_.size()) context.read_ahead(calls_[next].reads);
  };
  read_ahead(0);
  for (size_t i = 0; i < calls_.size(); ++i) {
    if (!calls_[i].reads.empty()) read_ahead(i + 1);
    calls_[i].run(context);
  }
  context.stop_reading_ahead();
}

void Context::read_ahead(const std::vector<WeightView>& weights) {
  int64_t num_panels = 0;
  for (const WeightView& w : weights) num_panels += w.num_panels;
  const int num_threads = pool_.num_threads();
  for (int thread = 0; thread < num_threads; ++thread) {
    // About the thread's share of the panels, as far as it lies in one weight.
    int64_t first = num_panels * thread / num_threads;
    const int64_t count = num_panels * (thread + 1) / num_threads - first;
    size_t i = 0;
    for (; first >= weights[i].num_panels; ++i) first -= weights[i].num_panels;
    const int64_t panel_bytes = weights[i].num_groups * weights[i].tile_bytes;
    const int64_t size = std::min(count, weights[i].num_panels - first) * panel_bytes;
    const uint8_t* begin = weights[i].data + first * panel_bytes;
    pool_.set_ahead(thread, begin, begin + std::min(size, kMostAheadBytes));
  }
}

void Context::stop_reading_ahead() {
  for (int thread = 0; thread < pool_.num_threads(); ++thread) pool_.set_ahead(thread, nullptr, nullptr);
}

}  // namespace outrider
