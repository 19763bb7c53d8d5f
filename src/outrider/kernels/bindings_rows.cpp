// The row-wise kernels: norms, rotary embedding, activation functions, routing to experts, gathering,
// scaling and adding rows.
#include "bindings.h"

namespace outrider {
namespace {

void check_rows(const Ids& rows, size_t limit, const char* message) {
  for (size_t r = 0; r < rows.shape(0); ++r)
    require(rows.data()[r] >= 0 && size_t(rows.data()[r]) < limit, message);
}

// body(context, row) for every row of x, in a call that is performed.
template <typename T, typename Body>
void perform_rows(Context& context, const T& x, Body body) {
  const int64_t num_rows = int64_t(x.shape(0)), values = num_rows ? int64_t(x.size()) / num_rows : 0;
  perform(context, [=](Context& c) { c.for_rows(num_rows, values, [&](int64_t row) { body(c, row); }); });
}

void rmsnorm(Context& context, const ConstMatrix& x, const ConstVector& gain, float eps, const Matrix& out) {
  const int64_t cols = int64_t(x.shape(1));
  require(gain.shape(0) == x.shape(1), "gain: one value per column of x");
  require(same_shape(out, x), "out: shape must be that of x");
  perform_rows(context, x, [=](Context& c, int64_t t) {
    c.kernels().rmsnorm_row(out.data() + t * cols, x.data() + t * cols, gain.data(), eps, cols);
  });
}

void layernorm(Context& context, const ConstMatrix& x, const ConstVector& gain, const ConstVector& bias,
               float eps, const Matrix& out) {
  const int64_t cols = int64_t(x.shape(1));
  require(gain.shape(0) == x.shape(1) && bias.shape(0) == x.shape(1),
          "gain and bias: one value per column of x");
  require(same_shape(out, x), "out: shape must be that of x");
  perform_rows(context, x, [=](Context& c, int64_t t) {
    c.kernels().layernorm_row(out.data() + t * cols, x.data() + t * cols, gain.data(), bias.data(), eps,
                              cols);
  });
}

void rope(Context& context, const Heads& x, const ConstMatrix& cosines, const ConstMatrix& sines) {
  const int64_t num_heads = int64_t(x.shape(1)), head_dim = int64_t(x.shape(2)), half = head_dim / 2;
  require(head_dim % 2 == 0, "x: head size must be even");
  for (const ConstMatrix* table : {&cosines, &sines})
    require(table->shape(0) == x.shape(0) && int64_t(table->shape(1)) == half,
            "cosines and sines: shape must be [rows of x, half the head size]");
  perform_rows(context, x, [=](Context& c, int64_t t) {
    c.kernels().rope_row(x.data() + t * num_heads * head_dim, cosines.data() + t * half,
                         sines.data() + t * half, num_heads, head_dim);
  });
}

void swiglu(Context& context, const ConstMatrix& gate, const ConstMatrix& up, const Matrix& out) {
  require(same_shape(gate, out) && same_shape(up, out), "gate, up and out: shapes must be equal");
  const int64_t cols = int64_t(out.shape(1));
  perform_rows(context, out, [=](Context& c, int64_t t) {
    c.kernels().swiglu_row(out.data() + t * cols, gate.data() + t * cols, up.data() + t * cols, cols);
  });
}

void gelu(Context& context, const ConstMatrix& x, const Matrix& out) {
  require(same_shape(out, x), "out: shape must be that of x");
  const int64_t cols = int64_t(x.shape(1));
  perform_rows(context, x, [=](Context& c, int64_t t) {
    c.kernels().gelu_row(out.data() + t * cols, x.data() + t * cols, cols);
  });
}

void add_bias(Context& context, const Matrix& x, const ConstVector& bias) {
  require(bias.shape(0) == x.shape(1), "bias: one value per column of x");
  const int64_t cols = int64_t(x.shape(1));
  perform_rows(context, x,
               [=](Context& c, int64_t t) { c.kernels().add_row(x.data() + t * cols, bias.data(), cols); });
}

void route(Context& context, const ConstMatrix& logits, int64_t top_k,
           const Array<int32_t, nb::ndim<1>>& rows, const Vector& factors,
           const Array<int32_t, nb::ndim<1>>& cu_rows) {
  const int64_t num_tokens = int64_t(logits.shape(0)), num_experts = int64_t(logits.shape(1));
  require(top_k >= 0 && top_k <= num_experts && num_experts <= INT32_MAX, "top_k: must be 0 to the experts");
  require(int64_t(rows.shape(0)) == num_tokens * top_k, "rows: one per token and chosen expert");
  require(factors.shape(0) == rows.shape(0), "factors: one for each of rows");
  require(int64_t(cu_rows.shape(0)) == num_experts + 1, "cu_rows: length must be the number of experts + 1");
  perform(context, [=](Context& c) {
    const Routing out = {rows.data(), factors.data(), cu_rows.data()};
    c.route(out, logits.data(), num_tokens, num_experts, top_k);
  });
}

void scale_rows(Context& context, const Matrix& x, const ConstVector& factors) {
  require(factors.shape(0) == x.shape(0), "factors: one for each row of x");
  const int64_t cols = int64_t(x.shape(1));
  perform_rows(context, x, [=](Context& c, int64_t t) {
    float* row = x.data() + t * cols;
    c.kernels().scale_row(row, row, factors.data()[t], cols);
  });
}

void gather_rows(Context& context, const ConstMatrix& x, const Ids& rows, const ConstVector& factors,
                 const Matrix& out) {
  require(rows.shape(0) == out.shape(0), "rows: one for each row of out");
  require(factors.shape(0) == rows.shape(0), "factors: one for each of rows");
  require(out.shape(1) == x.shape(1), "out: shape must be [rows, columns of x]");
  const int64_t cols = int64_t(x.shape(1)), num_rows = int64_t(rows.shape(0));
  perform(context, [=](Context& c) {
    check_rows(rows, x.shape(0), "rows: row outside x");
    c.for_rows(num_rows, cols, [&](int64_t r) {
      c.kernels().scale_row(out.data() + r * cols, x.data() + rows.data()[r] * cols, factors.data()[r], cols);
    });
  });
}

void scatter_add(Context& context, const ConstMatrix& y, const Ids& rows, const Matrix& out) {
  require(rows.shape(0) == y.shape(0), "rows: one for each row of y");
  require(out.shape(1) == y.shape(1), "out: must have as many columns as y");
  const int64_t cols = int64_t(y.shape(1)), num_rows = int64_t(y.shape(0));
  perform(context, [=](Context& c) {
    check_rows(rows, out.shape(0), "rows: row outside out");
    c.scatter_add(out.data(), y.data(), rows.data(), num_rows, cols);
  });
}

}  // namespace

void bind_rows(nb::module_& m) {
  using namespace nb::literals;
  m.def("rmsnorm", &rmsnorm, "context"_a, "x"_a.noconvert(), "gain"_a.noconvert(), "eps"_a,
        "out"_a.noconvert());
  m.def("layernorm", &layernorm, "context"_a, "x"_a.noconvert(), "gain"_a.noconvert(), "bias"_a.noconvert(),
        "eps"_a, "out"_a.noconvert());
  m.def("rope", &rope, "context"_a, "x"_a.noconvert(), "cosines"_a.noconvert(), "sines"_a.noconvert());
  m.def("swiglu", &swiglu, "context"_a, "gate"_a.noconvert(), "up"_a.noconvert(), "out"_a.noconvert());
  m.def("gelu", &gelu, "context"_a, "x"_a.noconvert(), "out"_a.noconvert());
  m.def("add_bias", &add_bias, "context"_a, "x"_a.noconvert(), "bias"_a.noconvert());
  m.def("route", &route, "context"_a, "logits"_a.noconvert(), "top_k"_a, "rows"_a.noconvert(),
        "factors"_a.noconvert(), "cu_rows"_a.noconvert());
  m.def("scale_rows", &scale_rows, "context"_a, "x"_a.noconvert(), "factors"_a.noconvert());
  m.def("gather_rows", &gather_rows, "context"_a, "x"_a.noconvert(), "rows"_a.noconvert(),
        "factors"_a.noconvert(), "out"_a.noconvert());
  m.def("scatter_add", &scatter_add, "context"_a, "y"_a.noconvert(), "rows"_a.noconvert(),
        "out"_a.noconvert());
}

}  // namespace outrider
