// The Python module: its context of threads and the parts that the other bindings add.
#include "bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>

namespace outrider {
namespace {

std::unique_ptr<Context> make_context(int num_threads, const std::string& isa) {
  require(num_threads >= 1 && num_threads <= 1024, "num_threads must be 1 to 1024");
  const Kernels* kernels = find_kernels(isa);
  if (!kernels) throw nb::value_error(("isa: this machine has no " + isa).c_str());
  return std::make_unique<Context>(num_threads, kernels);
}

}  // namespace
}  // namespace outrider

NB_MODULE(_kernels, m) {
  using namespace outrider;
  using namespace nb::literals;
  m.doc() = "Outrider's compute kernels; shapes in kernels.h, meaning in reference.py.";
  nb::class_<Context>(m, "Context", "Compute threads, an instruction set and scratch memory.")
      .def(nb::new_(&make_context), "num_threads"_a, "isa"_a = "auto")
      .def_prop_ro("isa", [](const Context& c) { return c.kernels().name; })
      .def_prop_ro("num_threads", &Context::num_threads);
  m.def("supported_isas", &supported_isas);
  bind_matmul(m);
  bind_rows(m);
  bind_attention(m);
  bind_sampling(m);
}
