// What the files of the Python module share: array types and how a wrong argument is refused.
//
// Arrays must be C-contiguous and of the exact type; nothing is converted or copied. Shapes and types
// are checked in the bindings, once. What remains is a call without Python, which checks the values
// of indices and runs a kernel: `perform` runs it and, if the context records, keeps it.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "context.h"

namespace nb = nanobind;

namespace outrider {

template <typename T, typename... Shape>
using Array = nb::ndarray<T, nb::numpy, nb::device::cpu, nb::c_contig, Shape...>;
using Vector = Array<float, nb::ndim<1>>;
using ConstVector = Array<const float, nb::ndim<1>>;
using Matrix = Array<float, nb::ndim<2>>;
using ConstMatrix = Array<const float, nb::ndim<2>>;
using Heads = Array<float, nb::ndim<3>>;
using ConstHeads = Array<const float, nb::ndim<3>>;
using Ids = Array<const int32_t, nb::ndim<1>>;
using Bytes = Array<const uint8_t, nb::ndim<1>>;

inline void require(bool condition, const char* message) {
  if (!condition) throw nb::value_error(message);
}

template <typename A, typename B>
bool same_shape(const A& a, const B& b) {
  for (size_t i = 0; i < a.ndim(); ++i)
    if (a.shape(i) != b.shape(i)) return false;
  return a.ndim() == b.ndim();
}

// `call` has captured its arrays by value, which keeps them alive; it is given the context.
template <typename Call>
void perform(Context& context, Call call, std::vector<WeightView> reads = {}) {
  {
    nb::gil_scoped_release release;
    call(context);
  }
  if (Program* program = context.recorder()) program->add(std::move(call), std::move(reads));
}

void bind_matmul(nb::module_& m);
void bind_rows(nb::module_& m);
void bind_attention(nb::module_& m);
void bind_sampling(nb::module_& m);
void bind_limits(nb::module_& m);

}  // namespace outrider
