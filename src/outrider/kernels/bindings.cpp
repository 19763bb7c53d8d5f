// The Python module: every check of shapes and types happens here, once, before a kernel runs.
//
// Arrays must be C-contiguous and of the exact type; nothing is converted or copied. Each call
// releases the GIL while it computes.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "context.h"

namespace nb = nanobind;

namespace outrider {
namespace {

template <typename T, typename... Shape>
using Array = nb::ndarray<T, nb::numpy, nb::device::cpu, nb::c_contig, Shape...>;
using Vector = Array<float, nb::ndim<1>>;
using ConstVector = Array<const float, nb::ndim<1>>;
using Matrix = Array<float, nb::ndim<2>>;
using ConstMatrix = Array<const float, nb::ndim<2>>;
using Heads = Array<float, nb::ndim<3>>;
using ConstHeads = Array<const float, nb::ndim<3>>;
using Ids = Array<const int32_t, nb::ndim<1>>;
using Cache = nb::ndarray<nb::numpy, nb::device::cpu, nb::c_contig, nb::ndim<4>>;

void require(bool condition, const char* message) {
  if (!condition) throw nb::value_error(message);
}

struct Weight {
  WeightView view;
  Array<const uint8_t, nb::ndim<1>> data;  // keeps the mapping alive

  Weight(int format, int64_t rows, int64_t cols, Array<const uint8_t, nb::ndim<1>> bytes)
      : data(std::move(bytes)) {
    require(format >= kF32 && format <= kQ4Offset, "format: unknown number");
    require(rows > 0 && cols > 0 && rows < (int64_t(1) << 40) && cols < (int64_t(1) << 31),
            "rows and cols must be positive");
    static constexpr int64_t kTileBytes[] = {2048, 1024, 544, 576, 288, 320};
    view = {Format(format),     rows,       cols, (rows + kPanel - 1) / kPanel, (cols + kGroup - 1) / kGroup,
            kTileBytes[format], data.data()};
    require(int64_t(data.size()) == view.num_panels * view.num_groups * view.tile_bytes,
            "data: size doesn't match format, rows and cols");
  }
};

std::unique_ptr<Context> make_context(int num_threads, const std::string& isa) {
  require(num_threads >= 1 && num_threads <= 1024, "num_threads must be 1 to 1024");
  const Kernels* kernels = find_kernels(isa);
  if (!kernels) throw nb::value_error(("isa: this machine has no " + isa).c_str());
  return std::make_unique<Context>(num_threads, kernels);
}

void linear(Context& context, const ConstMatrix& x, const std::vector<const Weight*>& weights,
            const std::vector<Matrix>& outs, bool accumulate) {
  require(weights.size() == outs.size() && !weights.empty(), "weights and outs: one of each");
  std::vector<WeightView> views;
  std::vector<float*> pointers;
  for (size_t i = 0; i < weights.size(); ++i) {
    require(weights[i] != nullptr, "weights: None isn't a weight");
    require(weights[i]->view.cols == int64_t(x.shape(1)), "x: columns differ from a weight's");
    require(outs[i].shape(0) == x.shape(0) && int64_t(outs[i].shape(1)) == weights[i]->view.rows,
            "outs: shape must be [rows of x, rows of the weight]");
    views.push_back(weights[i]->view);
    pointers.push_back(outs[i].data());
  }
  const float* data = x.data();
  const int64_t num_rows = int64_t(x.shape(0)), cols = int64_t(x.shape(1));
  nb::gil_scoped_release release;
  context.linear(data, num_rows, cols, views, pointers, accumulate);
}

void embed(Context& context, const Weight& weight, const Ids& token_ids, const Matrix& out) {
  const int64_t num_rows = int64_t(token_ids.shape(0));
  require(int64_t(out.shape(0)) == num_rows && int64_t(out.shape(1)) == weight.view.cols,
          "out: shape must be [token ids, columns of the weight]");
  const int32_t* ids = token_ids.data();
  for (int64_t t = 0; t < num_rows; ++t)
    require(ids[t] >= 0 && ids[t] < weight.view.rows, "token_ids: id outside the vocabulary");
  float* rows = out.data();
  nb::gil_scoped_release release;
  context.for_rows(num_rows, weight.view.cols, [&](int64_t t) {
    context.kernels().weight_row(rows + t * weight.view.cols, weight.view, ids[t]);
  });
}

void rmsnorm(Context& context, const ConstMatrix& x, const ConstVector& gain, float eps, const Matrix& out) {
  const int64_t cols = int64_t(x.shape(1));
  require(gain.shape(0) == x.shape(1), "gain: one value per column of x");
  require(out.shape(0) == x.shape(0) && out.shape(1) == x.shape(1), "out: shape must be that of x");
  const float *in = x.data(), *gains = gain.data();
  float* rows = out.data();
  const int64_t num_rows = int64_t(x.shape(0));
  nb::gil_scoped_release release;
  context.for_rows(num_rows, cols, [&](int64_t t) {
    context.kernels().rmsnorm_row(rows + t * cols, in + t * cols, gains, eps, cols);
  });
}

void rope(Context& context, const Heads& x, const ConstMatrix& cosines, const ConstMatrix& sines) {
  const int64_t num_heads = int64_t(x.shape(1)), head_dim = int64_t(x.shape(2)), half = head_dim / 2;
  require(head_dim % 2 == 0, "x: head size must be even");
  for (const ConstMatrix* table : {&cosines, &sines})
    require(table->shape(0) == x.shape(0) && int64_t(table->shape(1)) == half,
            "cosines and sines: shape must be [rows of x, half the head size]");
  float* rows = x.data();
  const float *c = cosines.data(), *s = sines.data();
  const int64_t num_rows = int64_t(x.shape(0));
  nb::gil_scoped_release release;
  context.for_rows(num_rows, num_heads * head_dim, [&](int64_t t) {
    context.kernels().rope_row(rows + t * num_heads * head_dim, c + t * half, s + t * half, num_heads,
                               head_dim);
  });
}

void swiglu(Context& context, const ConstMatrix& gate, const ConstMatrix& up, const Matrix& out) {
  for (const auto* other : {&gate, &up})
    require(other->shape(0) == out.shape(0) && other->shape(1) == out.shape(1),
            "gate, up and out: shapes must be equal");
  const int64_t cols = int64_t(out.shape(1)), num_rows = int64_t(out.shape(0));
  const float *g = gate.data(), *u = up.data();
  float* rows = out.data();
  nb::gil_scoped_release release;
  context.for_rows(num_rows, cols, [&](int64_t t) {
    context.kernels().swiglu_row(rows + t * cols, g + t * cols, u + t * cols, cols);
  });
}

// The cache of one layer: k [blocks, KV, D, 16] and v [blocks, KV, 16, D], float32 or bf16 bits.
KvView view_cache(const Cache& k, const Cache& v) {
  const bool is_f32 = k.dtype() == nb::dtype<float>(), is_bf16 = k.dtype() == nb::dtype<uint16_t>();
  require((is_f32 || is_bf16) && k.dtype() == v.dtype(), "cache: must be float32 or uint16 (bf16)");
  require(int64_t(k.shape(3)) == kBlock && int64_t(v.shape(2)) == kBlock && k.shape(0) == v.shape(0) &&
              k.shape(1) == v.shape(1) && k.shape(2) == v.shape(3),
          "cache: shapes must be [N, KV, D, 16] and [N, KV, 16, D]");
  require(k.shape(2) % 16 == 0, "cache: head size must be a multiple of 16");
  return {k.data(), v.data(), is_bf16, int64_t(k.shape(1)), int64_t(k.shape(2)), 0, nullptr};
}

void store_kv(Context& context, const ConstHeads& k, const ConstHeads& v, const Cache& k_cache,
              const Cache& v_cache, const Ids& slot_mapping) {
  const KvView view = view_cache(k_cache, v_cache);
  const int64_t num_rows = int64_t(slot_mapping.shape(0)), row = view.num_kv_heads * view.head_dim;
  for (const ConstHeads* x : {&k, &v})
    require(int64_t(x->shape(0)) == num_rows && int64_t(x->shape(1)) == view.num_kv_heads &&
                int64_t(x->shape(2)) == view.head_dim,
            "k and v: shape must be [slots, KV, D] of the cache");
  const int32_t* slots = slot_mapping.data();
  const int64_t num_slots = int64_t(k_cache.shape(0)) * kBlock;
  for (int64_t t = 0; t < num_rows; ++t)
    require(slots[t] >= 0 && slots[t] < num_slots, "slot_mapping: slot outside the cache");
  const float *keys = k.data(), *values = v.data();
  void *k_data = k_cache.data(), *v_data = v_cache.data();
  nb::gil_scoped_release release;
  context.for_rows(num_rows, row, [&](int64_t t) {
    context.kernels().store_kv_row(k_data, v_data, view.is_bf16, keys + t * row, values + t * row, slots[t],
                                   view.num_kv_heads, view.head_dim);
  });
}

// Sequences as the scheduler laid them out; checked so that no table can lead outside the cache.
struct Sequences {
  Array<const int32_t, nb::ndim<2>> block_tables;  // [S, max_blocks]
  Ids cu_query_lens;                               // [S + 1]
  Ids seq_lens;                                    // [S]

  void check(int64_t num_rows, int64_t num_blocks) const {
    const int64_t num_seqs = int64_t(seq_lens.shape(0)), max_blocks = int64_t(block_tables.shape(1));
    require(int64_t(block_tables.shape(0)) == num_seqs && int64_t(cu_query_lens.shape(0)) == num_seqs + 1,
            "block_tables, cu_query_lens and seq_lens: lengths must be S, S + 1 and S");
    const int32_t *cu = cu_query_lens.data(), *lens = seq_lens.data(), *table = block_tables.data();
    require(cu[0] == 0 && cu[num_seqs] == num_rows, "cu_query_lens: must run from 0 to the rows of q");
    for (int64_t s = 0; s < num_seqs; ++s) {
      require(cu[s + 1] > cu[s] && lens[s] >= cu[s + 1] - cu[s],
              "seq_lens: a sequence must have queries and be at least as long as them");
      const int64_t used = (lens[s] + kBlock - 1) / kBlock;
      require(used <= max_blocks, "block_tables: too few blocks for a sequence");
      for (int64_t i = 0; i < used; ++i)
        require(table[s * max_blocks + i] >= 0 && table[s * max_blocks + i] < num_blocks,
                "block_tables: block outside the cache");
    }
  }
};

void attend(Context& context, const ConstHeads& q, const nb::tuple& cache, const nb::tuple& sequences,
            int64_t chunk_size, float scale, const Heads& out) {
  require(cache.size() == 2 && sequences.size() == 3,
          "cache: (k, v); sequences: (block_tables, cu_query_lens, seq_lens)");
  const Cache k_cache = nb::cast<Cache>(cache[0], false), v_cache = nb::cast<Cache>(cache[1], false);
  const KvView view = view_cache(k_cache, v_cache);
  const Sequences seqs = {nb::cast<Array<const int32_t, nb::ndim<2>>>(sequences[0], false),
                          nb::cast<Ids>(sequences[1], false), nb::cast<Ids>(sequences[2], false)};
  for (int i = 0; i < 3; ++i) require(q.shape(i) == out.shape(i), "out: shape must be that of q");
  require(int64_t(q.shape(2)) == view.head_dim && int64_t(q.shape(1)) % view.num_kv_heads == 0,
          "q: head size must be the cache's and heads a multiple of its heads");
  require(chunk_size >= 0, "chunk_size must not be negative");
  seqs.check(int64_t(q.shape(0)), int64_t(k_cache.shape(0)));
  const AttentionBatch batch = {q.data(),
                                out.data(),
                                seqs.block_tables.data(),
                                seqs.cu_query_lens.data(),
                                seqs.seq_lens.data(),
                                int64_t(seqs.seq_lens.shape(0)),
                                int64_t(seqs.block_tables.shape(1)),
                                int64_t(q.shape(1)),
                                chunk_size,
                                scale};
  nb::gil_scoped_release release;
  context.attend(batch, view);
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
  nb::class_<Weight>(m, "Weight", "A packed matrix [rows, cols]; keeps its bytes alive.")
      .def(nb::init<int, int64_t, int64_t, Array<const uint8_t, nb::ndim<1>>>(), "format"_a, "rows"_a,
           "cols"_a, "data"_a.noconvert())
      .def_prop_ro("format", [](const Weight& w) { return int(w.view.format); })
      .def_prop_ro("rows", [](const Weight& w) { return w.view.rows; })
      .def_prop_ro("cols", [](const Weight& w) { return w.view.cols; });
  m.def("supported_isas", &supported_isas);
  m.def("linear", &linear, "context"_a, "x"_a.noconvert(), "weights"_a, "outs"_a, "accumulate"_a = false);
  m.def("embed", &embed, "context"_a, "weight"_a, "token_ids"_a.noconvert(), "out"_a.noconvert());
  m.def("rmsnorm", &rmsnorm, "context"_a, "x"_a.noconvert(), "gain"_a.noconvert(), "eps"_a,
        "out"_a.noconvert());
  m.def("rope", &rope, "context"_a, "x"_a.noconvert(), "cosines"_a.noconvert(), "sines"_a.noconvert());
  m.def("swiglu", &swiglu, "context"_a, "gate"_a.noconvert(), "up"_a.noconvert(), "out"_a.noconvert());
  m.def("store_kv", &store_kv, "context"_a, "k"_a.noconvert(), "v"_a.noconvert(), "k_cache"_a.noconvert(),
        "v_cache"_a.noconvert(), "slot_mapping"_a.noconvert());
  m.def("attend", &attend, "context"_a, "q"_a.noconvert(), "cache"_a, "sequences"_a, "chunk_size"_a,
        "scale"_a, "out"_a.noconvert());
}
