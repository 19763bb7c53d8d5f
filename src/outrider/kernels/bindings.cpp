// The Python module: its context of threads and the parts that the other bindings add.
#include "bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>

namespace outrider {
namespace {

std::unique_ptr<Context> make_context(int num_threads, const std::string& isa,
                                      const std::string& activations) {
  require(num_threads >= 1 && num_threads <= 1024, "num_threads must be 1 to 1024");
  const Kernels* kernels = find_kernels(isa);
  if (!kernels) throw nb::value_error(("isa: this machine has no " + isa).c_str());
  require(activations == "int8" || activations == "bf16", "activations: must be int8 or bf16");
  return std::make_unique<Context>(num_threads, kernels, activations == "bf16");
}

// What `body` has called; it is run meanwhile. Calls of other contexts aren't recorded.
std::unique_ptr<Program> record(Context& context, const nb::callable& body) {
  require(context.recorder() == nullptr, "context: it is recording already");
  auto program = std::make_unique<Program>();
  struct Recording {
    Context& context;
    ~Recording() { context.set_recorder(nullptr); }
  } recording{context};
  context.set_recorder(program.get());
  body();
  return program;
}

void run(const Program& program, Context& context) {
  nb::gil_scoped_release release;
  program.run(context);
}

// What compiled this module.
const char* compiler() {
#if defined(__clang__)
  return __VERSION__;
#else
  return "g++ " __VERSION__;
#endif
}

}  // namespace
}  // namespace outrider

NB_MODULE(_kernels, m) {
  using namespace outrider;
  using namespace nb::literals;
  m.doc() = "Outrider's compute kernels; shapes in kernels.h, meaning in reference.py.";
  nb::class_<Context>(m, "Context", "Compute threads, an instruction set and scratch memory.")
      .def(nb::new_(&make_context), "num_threads"_a, "isa"_a = "auto", "activations"_a = "int8")
      .def_prop_ro("isa", [](const Context& c) { return c.kernels().name; })
      .def_prop_ro("activations", [](const Context& c) { return c.keeps_bf16() ? "bf16" : "int8"; })
      .def_prop_ro("num_threads", &Context::num_threads);
  nb::class_<Program>(m, "Program", "Recorded kernel calls; keeps their arrays alive.")
      .def("run", &run, "context"_a)
      .def("__len__", &Program::num_calls);
  m.def("record", &record, "context"_a, "body"_a);
  m.def("supported_isas", &supported_isas);
  m.def("compiler", &compiler);
  bind_matmul(m);
  bind_rows(m);
  bind_attention(m);
  bind_sampling(m);
  bind_limits(m);
}
