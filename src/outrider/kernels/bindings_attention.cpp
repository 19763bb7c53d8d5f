// Attention over the paged cache and writing into it.
#include <algorithm>

#include "bindings.h"

namespace outrider {
namespace {

// An element of a tuple as an array of the exact type, named in the message if it isn't one.
template <typename T>
T element(const nb::tuple& values, size_t index, const char* message) {
  T array;
  require(nb::try_cast(values[index], array, false), message);
  return array;
}

// The cache of one layer: f32 k [N, KV, D, 16] and v [N, KV, 16, Dp]; bf16 bits, or int8 with k_scale
// and v_scale [N, KV, 16], in pairs: k [N, KV, D / 2, 16, 2] and v [N, KV, 8, Dp, 2].
struct Cache {
  using Blocks = nb::ndarray<nb::numpy, nb::device::cpu, nb::c_contig>;
  using Scales = nb::ndarray<nb::numpy, nb::device::cpu, nb::c_contig, nb::ndim<3>>;
  Blocks k, v;
  Scales k_scale, v_scale;
  KvView view;

  explicit Cache(const nb::tuple& arrays) {
    constexpr const char* kArrays = "cache: must be (k, v) or, for int8, (k, v, k_scale, v_scale)";
    require(arrays.size() == 2 || arrays.size() == 4, kArrays);
    k = element<Blocks>(arrays, 0, kArrays);
    v = element<Blocks>(arrays, 1, kArrays);
    view = {type_of(arrays.size() == 4), k.data(), v.data(), nullptr, nullptr, 0, 0, 0};
    check_shapes();
    if (view.type != kKvInt8) return;
    k_scale = element<Scales>(arrays, 2, kArrays);
    v_scale = element<Scales>(arrays, 3, kArrays);
    for (const Scales* scale : {&k_scale, &v_scale}) {
      require(scale->dtype().code == uint8_t(nb::dlpack::dtype_code::Float) && scale->dtype().bits == 16,
              "cache: scales must be float16");
      require(scale->shape(0) == k.shape(0) && scale->shape(1) == k.shape(1) &&
                  int64_t(scale->shape(2)) == kBlock,
              "cache: the scales' shape must be [N, KV, 16]");
    }
    view.k_scale = static_cast<uint16_t*>(k_scale.data());
    view.v_scale = static_cast<uint16_t*>(v_scale.data());
  }

  KvType type_of(bool has_scales) const {
    require(k.dtype() == v.dtype(), "cache: k and v must have one type");
    if (has_scales && k.dtype() == nb::dtype<int8_t>()) return kKvInt8;
    require(!has_scales, "cache: only int8 has scales");
    if (k.dtype() == nb::dtype<float>()) return kKvF32;
    require(k.dtype() == nb::dtype<uint16_t>(), "cache: must be float32, uint16 (bf16) or int8 with scales");
    return kKvBf16;
  }

  void check_shapes() {
    const bool is_paired = view.type != kKvF32;
    const size_t ndim = is_paired ? 5 : 4;
    const char* kShapes =
        is_paired ? "cache: shapes must be [N, KV, D / 2, 16, 2] and [N, KV, 8, D rounded up to 16, 2]"
                  : "cache: shapes must be [N, KV, D, 16] and [N, KV, 16, D rounded up to 16]";
    require(k.ndim() == ndim && v.ndim() == ndim, kShapes);
    const int64_t width = is_paired ? 2 : 1;
    require(!is_paired || (k.shape(4) == 2 && v.shape(4) == 2), kShapes);
    view.num_kv_heads = int64_t(k.shape(1));
    view.head_dim = int64_t(k.shape(2)) * width;
    view.padded_dim = int64_t(v.shape(3));
    require(k.shape(0) == v.shape(0) && k.shape(1) == v.shape(1) && int64_t(k.shape(3)) == kBlock &&
                int64_t(v.shape(2)) == kBlock / width && view.padded_dim == (view.head_dim + 15) / 16 * 16,
            kShapes);
    require(view.num_kv_heads > 0 && view.head_dim > 0 && view.head_dim % 2 == 0,
            "cache: head size must be even and, like the number of heads, positive");
  }

  int64_t num_blocks() const { return int64_t(k.shape(0)); }
};

void store_kv(Context& context, const ConstHeads& k, const ConstHeads& v, const nb::tuple& cache,
              const Ids& slot_mapping) {
  const Cache arrays(cache);
  const KvView& view = arrays.view;
  const int64_t num_rows = int64_t(slot_mapping.shape(0)), row = view.num_kv_heads * view.head_dim;
  for (const ConstHeads* x : {&k, &v})
    require(int64_t(x->shape(0)) == num_rows && int64_t(x->shape(1)) == view.num_kv_heads &&
                int64_t(x->shape(2)) == view.head_dim,
            "k and v: shape must be [slots, KV, D] of the cache");
  perform(context, [=](Context& c) {
    const int32_t* slots = slot_mapping.data();
    for (int64_t t = 0; t < num_rows; ++t)
      require(slots[t] >= 0 && slots[t] < arrays.num_blocks() * kBlock,
              "slot_mapping: slot outside the cache");
    const int64_t num_parts = (num_rows + kBlock - 1) / kBlock;
    c.for_rows(num_parts, kBlock * row, [&](int64_t part) {
      const int64_t t = part * kBlock, count = std::min(kBlock, num_rows - t);
      c.kernels().store_kv_rows(arrays.view, k.data() + t * row, v.data() + t * row, slots + t, count);
    });
  });
}

// Sequences as the scheduler laid them out; checked so that no table can lead outside the cache.
struct Sequences {
  Array<const int32_t, nb::ndim<2>> block_tables;  // [S, max_blocks]
  Ids cu_query_lens;                               // [S + 1]
  Ids seq_lens;                                    // [S]

  explicit Sequences(const nb::tuple& arrays) {
    constexpr const char* kArrays =
        "sequences: must be int32 (block_tables [S, N], cu_query_lens [S + 1], seq_lens [S])";
    require(arrays.size() == 3, kArrays);
    block_tables = element<Array<const int32_t, nb::ndim<2>>>(arrays, 0, kArrays);
    cu_query_lens = element<Ids>(arrays, 1, kArrays);
    seq_lens = element<Ids>(arrays, 2, kArrays);
  }

  void check(int64_t num_rows, int64_t num_blocks, int64_t chunk_size, bool is_causal) const {
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
      // Blocks that its first query can't see may have been freed.
      const int64_t position = lens[s] - (cu[s + 1] - cu[s]);
      const int64_t first_key = chunk_size && is_causal ? position / chunk_size * chunk_size : 0;
      for (int64_t i = first_key / kBlock; i < used; ++i)
        require(table[s * max_blocks + i] >= 0 && table[s * max_blocks + i] < num_blocks,
                "block_tables: block outside the cache");
    }
  }
};

void attend(Context& context, const ConstHeads& q, const nb::tuple& cache, const nb::tuple& sequences,
            int64_t chunk_size, float scale, const Heads& out, bool is_causal) {
  const Cache arrays(cache);
  const Sequences seqs(sequences);
  require(same_shape(out, q), "out: shape must be that of q");
  require(int64_t(q.shape(2)) == arrays.view.head_dim && int64_t(q.shape(1)) % arrays.view.num_kv_heads == 0,
          "q: head size must be the cache's and heads a multiple of its heads");
  require(chunk_size >= 0, "chunk_size must not be negative");
  require(is_causal || chunk_size == 0, "chunk_size: only causal attention has chunks");
  const AttentionBatch batch = {q.data(),
                                out.data(),
                                seqs.block_tables.data(),
                                seqs.cu_query_lens.data(),
                                seqs.seq_lens.data(),
                                int64_t(seqs.seq_lens.shape(0)),
                                int64_t(seqs.block_tables.shape(1)),
                                int64_t(q.shape(1)),
                                chunk_size,
                                scale,
                                is_causal};
  perform(context, [=](Context& c) {
    seqs.check(int64_t(q.shape(0)), arrays.num_blocks(), chunk_size, is_causal);
    c.attend(batch, arrays.view);
  });
}

}  // namespace

void bind_attention(nb::module_& m) {
  using namespace nb::literals;
  m.def("store_kv", &store_kv, "context"_a, "k"_a.noconvert(), "v"_a.noconvert(), "cache"_a,
        "slot_mapping"_a.noconvert());
  m.def("attend", &attend, "context"_a, "q"_a.noconvert(), "cache"_a, "sequences"_a, "chunk_size"_a,
        "scale"_a, "out"_a.noconvert(), "is_causal"_a = true);
}

}  // namespace outrider
