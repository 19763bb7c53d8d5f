// Packed weights, experts and what multiplies with them or reads their rows.
#include <nanobind/stl/vector.h>

#include "bindings.h"

namespace outrider {
namespace {

WeightView make_view(int format, int64_t rows, int64_t cols, const Bytes& data, int64_t num_experts) {
  require(format >= kF32 && format <= kQ4Offset, "format: unknown number");
  require(rows > 0 && cols > 0 && rows < (int64_t(1) << 40) && cols < (int64_t(1) << 31),
          "rows and cols must be positive");
  static constexpr int64_t kTileBytes[] = {2048, 1024, 544, 576, 288, 320};
  const WeightView view = {
      Format(format),     rows,       cols, (rows + kPanel - 1) / kPanel, (cols + kGroup - 1) / kGroup,
      kTileBytes[format], data.data()};
  // Divided, since a product of three large numbers might wrap around to the right one.
  const int64_t tiles = int64_t(data.size()) / view.tile_bytes, panels = tiles / view.num_groups;
  require(panels * view.num_groups * view.tile_bytes == int64_t(data.size()) &&
              panels / num_experts == view.num_panels && panels % num_experts == 0,
          "data: size doesn't match format, rows, cols and (if any) experts");
  return view;
}

struct Weight {
  WeightView view;
  Bytes data;  // keeps the mapping alive

  Weight(int format, int64_t rows, int64_t cols, Bytes bytes)
      : view(make_view(format, rows, cols, bytes, 1)), data(std::move(bytes)) {}
};

struct Experts {
  int64_t num_experts;
  WeightView view;  // of expert 0; the others follow, each padded to whole panels
  Bytes data;

  Experts(int format, int64_t count, int64_t rows, int64_t cols, Bytes bytes) : num_experts(count) {
    require(count > 0, "num_experts must be positive");
    view = make_view(format, rows, cols, bytes, count);
    data = std::move(bytes);
  }
};

template <typename W>
Matmul make_matmul(const ConstMatrix& x, const std::vector<const W*>& weights,
                   const std::vector<Matrix>& outs) {
  require(weights.size() == outs.size() && !weights.empty(), "weights and outs: one of each");
  Matmul call = {x.data(), int64_t(x.shape(0)), int64_t(x.shape(1)), {}, {}, false};
  for (size_t i = 0; i < weights.size(); ++i) {
    require(weights[i] != nullptr, "weights: None isn't a weight");
    const WeightView& view = weights[i]->view;
    require(view.cols == call.cols, "x: columns differ from a weight's");
    require(outs[i].shape(0) == x.shape(0) && int64_t(outs[i].shape(1)) == view.rows,
            "outs: shape must be [rows of x, rows of the weight]");
    call.weights.push_back(view);
    call.outs.push_back(outs[i].data());
  }
  return call;
}

// Arrays that a call's pointers lead to: captured beside it, they stay alive.
template <typename W>
struct Operands {
  ConstMatrix x;
  std::vector<Bytes> weights;
  std::vector<Matrix> outs;

  Operands(const ConstMatrix& x, const std::vector<const W*>& from, const std::vector<Matrix>& outs)
      : x(x), outs(outs) {
    for (const W* weight : from) weights.push_back(weight->data);
  }
};

void linear(Context& context, const ConstMatrix& x, const std::vector<const Weight*>& weights,
            const std::vector<Matrix>& outs, bool accumulate) {
  Matmul call = make_matmul(x, weights, outs);
  call.accumulate = accumulate;
  std::vector<WeightView> reads = call.weights;
  perform(
      context,
      [call = std::move(call), operands = Operands<Weight>(x, weights, outs)](Context& c) { c.linear(call); },
      std::move(reads));
}

void grouped_linear(Context& context, const ConstMatrix& x, const Ids& cu_rows,
                    const std::vector<const Experts*>& weights, const std::vector<Matrix>& outs) {
  Matmul call = make_matmul(x, weights, outs);
  const int64_t num_experts = int64_t(cu_rows.shape(0)) - 1;
  for (const Experts* experts : weights)
    require(experts->num_experts == num_experts, "cu_rows: length must be the number of experts + 1");
  perform(context, [call = std::move(call), operands = Operands<Experts>(x, weights, outs), cu_rows,
                    num_experts](Context& c) {
    const int32_t* cu = cu_rows.data();
    require(cu[0] == 0 && cu[num_experts] == call.num_rows, "cu_rows: must run from 0 to the rows of x");
    for (int64_t e = 0; e < num_experts; ++e) require(cu[e] <= cu[e + 1], "cu_rows: must not descend");
    c.grouped_linear(call, cu, num_experts);
  });
}

void embed(Context& context, const Weight& weight, const Ids& token_ids, const Matrix& out) {
  const int64_t num_rows = int64_t(token_ids.shape(0));
  require(int64_t(out.shape(0)) == num_rows && int64_t(out.shape(1)) == weight.view.cols,
          "out: shape must be [token ids, columns of the weight]");
  perform(context, [=](Context& c) {
    const int32_t* ids = token_ids.data();
    for (int64_t t = 0; t < num_rows; ++t)
      require(ids[t] >= 0 && ids[t] < weight.view.rows, "token_ids: id outside the vocabulary");
    c.for_rows(num_rows, weight.view.cols, [&](int64_t t) {
      c.kernels().weight_row(out.data() + t * weight.view.cols, weight.view, ids[t]);
    });
  });
}

}  // namespace

void bind_matmul(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<Weight>(m, "Weight", "A packed matrix [rows, cols]; keeps its bytes alive.")
      .def(nb::init<int, int64_t, int64_t, Bytes>(), "format"_a, "rows"_a, "cols"_a, "data"_a.noconvert())
      .def_prop_ro("format", [](const Weight& w) { return int(w.view.format); })
      .def_prop_ro("rows", [](const Weight& w) { return w.view.rows; })
      .def_prop_ro("cols", [](const Weight& w) { return w.view.cols; });
  nb::class_<Experts>(m, "Experts", "Packed matrices [num_experts, rows, cols]; keeps its bytes alive.")
      .def(nb::init<int, int64_t, int64_t, int64_t, Bytes>(), "format"_a, "num_experts"_a, "rows"_a, "cols"_a,
           "data"_a.noconvert())
      .def_prop_ro("format", [](const Experts& w) { return int(w.view.format); })
      .def_prop_ro("num_experts", [](const Experts& w) { return w.num_experts; })
      .def_prop_ro("rows", [](const Experts& w) { return w.view.rows; })
      .def_prop_ro("cols", [](const Experts& w) { return w.view.cols; });
  m.def("linear", &linear, "context"_a, "x"_a.noconvert(), "weights"_a, "outs"_a.noconvert(),
        "accumulate"_a = false);
  m.def("grouped_linear", &grouped_linear, "context"_a, "x"_a.noconvert(), "cu_rows"_a.noconvert(),
        "weights"_a, "outs"_a.noconvert());
  m.def("embed", &embed, "context"_a, "weight"_a, "token_ids"_a.noconvert(), "out"_a.noconvert());
}

}  // namespace outrider
