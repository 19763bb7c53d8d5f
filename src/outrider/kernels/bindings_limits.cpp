// The limits of the machine: work to be timed, words and steps in, sums and counts out.
#include "bindings.h"

namespace outrider {
namespace {

// More steps don't fit: a sum of f32 counts exactly up to 2^24, and bf16 adds two per step.
constexpr int64_t kMaxSteps = 1 << 23;

uint64_t sum_words(Context& context, const Array<const uint64_t, nb::ndim<1>>& data) {
  const uint64_t* words = data.data();
  const int64_t count = int64_t(data.shape(0));
  nb::gil_scoped_release release;
  return context.sum_words(words, count);
}

int64_t count_products(Context& context, int32_t kind, int64_t num_steps) {
  require(kind >= int32_t(Product::kInt8) && kind <= int32_t(Product::kF32), "kind must be 0, 1 or 2");
  require(num_steps >= 0 && num_steps <= kMaxSteps, "num_steps must be 0 to 2^23");
  nb::gil_scoped_release release;
  return context.count_products(Product(kind), num_steps);
}

}  // namespace

void bind_limits(nb::module_& m) {
  using namespace nb::literals;
  m.def("sum_words", &sum_words, "context"_a, "data"_a.noconvert());
  m.def("count_products", &count_products, "context"_a, "kind"_a, "num_steps"_a);
}

}  // namespace outrider
