// What all threads together read and multiply at best.
#include <vector>

#include "context.h"

namespace outrider {
namespace {

// A slow core takes fewer parts; a part is long enough that its beginning doesn't count.
constexpr int64_t kPartsPerThread = 4;
constexpr size_t kLineWords = 8;

}  // namespace

uint64_t Context::sum_words(const uint64_t* data, int64_t count) {
  // The memory is the same for all instruction sets: the best one reads.
  const Kernels* best = find_kernels("auto");
  const int64_t num_parts = kPartsPerThread * num_threads();
  std::vector<uint64_t> sums(size_t(num_threads()) * kLineWords);  // a cache line each
  pool_.run(num_parts, [&](int64_t part, int thread) {
    const int64_t begin = count * part / num_parts, end = count * (part + 1) / num_parts;
    sums[size_t(thread) * kLineWords] += best->sum_words(data + begin, end - begin);
  });
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}

int64_t Context::count_products(Product kind, int64_t num_steps) {
  std::vector<int64_t> counts(size_t(num_threads()) * kLineWords);
  pool_.run(num_threads(), [&](int64_t, int thread) {
    counts[size_t(thread) * kLineWords] += kernels_->count_products(kind, num_steps);
  });
  int64_t total = 0;
  for (int64_t count : counts) total += count;
  return total;
}

}  // namespace outrider
