// Every kernel's signature with shapes, and the table through which one instruction set is chosen.
//
// Shape letters: T rows (tokens), N output columns, K input columns, H query heads, KV key/value
// heads, D head size, Dp = D rounded up to 16, B = 16 positions per KV block. Arrays are dense and
// row-major.
// Kernels never allocate, throw, lock or read globals: scratch is an argument, threading is the
// caller's. A row's result never depends on the other rows of the call.
#pragma once

#include <cstdint>

namespace outrider {

constexpr int64_t kPanel = 16;      // output columns of a weight tile (layout.py: PANEL)
constexpr int64_t kGroup = 32;      // values along K that share a scale (layout.py: GROUP)
constexpr int64_t kBlock = 16;      // positions per KV block (batch.py: BLOCK_SIZE)
constexpr int64_t kPiece = 256;     // keys that one partial softmax covers
constexpr int64_t kTileRows = 16;   // rows of activations that are quantised side by side
constexpr int64_t kQueryRows = 24;  // query rows that share a pass over the keys
constexpr int64_t kChunk = 128;     // logits that sampling keeps one maximum and one sum of
constexpr int64_t kFloors = 8;      // weights above which sampling adds up the weights of a row
constexpr float kFloor[kFloors] = {0x1p-4f,  0x1p-6f,  0x1p-8f,  0x1p-10f,
                                   0x1p-12f, 0x1p-14f, 0x1p-16f, 0x1p-18f};

enum Format : int { kF32 = 0, kBf16 = 1, kQ8 = 2, kQ8Offset = 3, kQ4 = 4, kQ4Offset = 5 };

// A packed matrix [N, K]; the tile layout is drawn in layout.py.
struct WeightView {
  Format format;
  int64_t rows;         // N
  int64_t cols;         // K
  int64_t num_panels;   // ceil(N / 16)
  int64_t num_groups;   // ceil(K / 32)
  int64_t tile_bytes;   // one panel's 32 values along K
  const uint8_t* data;  // num_panels * num_groups * tile_bytes
};

// 16 rows of x quantised over one group of 32: everything a weight tile meets, side by side, so
// that the matmul walks one pointer.
struct alignas(64) ActivationTile {
  int8_t q[kTileRows][kGroup];
  float scale[kTileRows];
  float sum[kTileRows];     // scale * sum of q: what an offset multiplies
  int32_t bias[kTileRows];  // -8 * sum of q: what makes unsigned nibbles signed
};

// The rows of x in the form a weight format needs; only the arrays of that form are set.
struct Activations {
  const float* f32;             // [T, stride]                       format f32
  const uint16_t* bf16;         // [T, bf16_stride]                  format bf16, and quantised ones
  const float* bf16_sums;       // [T, stride / 32] of its groups    if activations stay bf16
  const ActivationTile* tiles;  // [ceil(T / 16), stride / 32]       quantised formats
  int64_t stride;               // K rounded up to a multiple of 32
  int64_t bf16_stride;          // at least that, so that rows don't share the sets of a cache
};

// Which rows of x meet which panels of a weight.
struct MatmulPart {
  int64_t row_begin, row_end, panel_begin, panel_end;
  bool accumulate;  // onto what out holds
};

// One query row of attention: a head of a token.
struct QueryRow {
  const float* q;     // [D]
  float* out;         // [D]
  int64_t first_key;  // first position it sees
  int64_t last_key;   // last position it sees, its own
};

// Up to 24 query rows that read the same key/value head.
struct QueryTile {
  const QueryRow* rows;
  int64_t num_rows;
  float scale;  // of q . k
};

enum KvType : int { kKvF32, kKvBf16, kKvInt8 };

// The KV cache of one layer. An int8 value stands for itself times the scale of its token and head.
// Narrow types lie in pairs as vdpbf16ps reads them: of dimensions in k, of positions in v.
struct KvView {
  KvType type;
  void* k;               // [blocks, KV, D, B]; bf16 and int8: [blocks, KV, D / 2, B, 2]
  void* v;               // [blocks, KV, B, Dp]; bf16 and int8: [blocks, KV, B / 2, Dp, 2]; beyond D 0
  uint16_t* k_scale;     // [blocks, KV, B] f16; int8 only
  uint16_t* v_scale;     // [blocks, KV, B] f16; int8 only
  int64_t num_kv_heads;  // KV
  int64_t head_dim;      // D, even
  int64_t padded_dim;    // Dp
};

// One head of the cache as one sequence's rows see it.
struct KvHead {
  KvView cache;
  int64_t head;
  const int32_t* block_table;  // block of positions 16 i .. 16 i + 15
};

// A softmax over some of the keys: out holds sum(2^(s - max) v), not divided by `sum` yet.
struct PartialSoftmax {
  float* max;  // [rows] of s = log2(e) q . k; -inf: no key seen
  float* sum;  // [rows]
  float* out;  // [rows, Dp]
};

// Kinds of products: bytes, unsigned times signed, summed to int32; pairs of bf16 and f32 to f32.
enum class Product : int32_t { kInt8, kBf16, kF32 };

// Scores and queries of a tile, then two blocks and a piece of pairs of 16 bits.
constexpr int64_t attend_scratch_floats(int64_t padded_dim) {
  return kQueryRows * (kPiece + padded_dim) + (2 * kBlock + kPiece) * padded_dim / 2;
}

struct Kernels {
  const char* name;

  // Up to 16 rows of x [rows, K] → tiles [group_begin, group_end); what lies beyond K becomes 0.
  void (*quantise_tile)(ActivationTile* tiles, const float* x, int64_t num_rows, int64_t cols,
                        int64_t group_begin, int64_t group_end);
  // x [K] → bf16 [stride], rounded to nearest even; the padding becomes 0. sums [stride / 32], unless
  // null, = the sums of its groups.
  void (*round_row_to_bf16)(uint16_t* out, float* sums, const float* x, int64_t cols, int64_t stride);
  // out[t, n] (+)= sum_k x[t, k] w[n, k] for the rows t and panels of n in `part`. out has
  // `out_stride` floats per row.
  void (*matmul)(float* out, int64_t out_stride, const Activations& x, const WeightView& w,
                 const MatmulPart& part);
  // out [K] = row `index` of w.
  void (*weight_row)(float* out, const WeightView& w, int64_t index);
  // out [C] = x / sqrt(mean(x^2) + eps) * gain; out may alias x.
  void (*rmsnorm_row)(float* out, const float* x, const float* gain, float eps, int64_t cols);
  // Rotate the pairs (2i, 2i + 1) of each head: x [H, D] in place, cosines and sines [D / 2].
  void (*rope_row)(float* x, const float* cosines, const float* sines, int64_t num_heads, int64_t head_dim);
  // out [F] = silu(gate) * up; out may alias either.
  void (*swiglu_row)(float* out, const float* gate, const float* up, int64_t cols);
  // out [C] = (x - mean) / sqrt(variance + eps) * gain + bias; out may alias x.
  void (*layernorm_row)(float* out, const float* x, const float* gain, const float* bias, float eps,
                        int64_t cols);
  // out [C] = x Phi(x), Phi the normal distribution (GELU with erf); out may alias x.
  void (*gelu_row)(float* out, const float* x, int64_t cols);
  // out [C] += x
  void (*add_row)(float* out, const float* x, int64_t cols);
  // out [C] = factor * x; out may be x.
  void (*scale_row)(float* out, const float* x, float factor, int64_t cols);
  // Write the k and v [rows, KV, D] of some tokens into slots block * 16 + offset of the cache.
  void (*store_kv_rows)(const KvView& cache, const float* k, const float* v, const int32_t* slots,
                        int64_t num_rows);
  // Softmax of a tile's rows over the keys of piece `piece` (positions 256 p .. 256 p + 255). Blocks
  // that no row sees are not read. scratch has attend_scratch_floats(Dp) floats.
  void (*attend_piece)(PartialSoftmax result, float* scratch, const QueryTile& tile, const KvHead& kv,
                       int64_t piece);
  // Fold partial results of rows into running ones, in place.
  void (*merge_partial)(PartialSoftmax total, PartialSoftmax part, int64_t num_rows, int64_t padded_dim);
  // Write the rows' results: out / sum.
  void (*finish_rows)(const QueryTile& tile, PartialSoftmax total, int64_t head_dim, int64_t padded_dim);
  // Sampling, on `count` logits x that start at a chunk of a row. A weight is exp((x - max) * scale).
  // All instruction sets give the same bits.
  // out [chunks] = maximum of each; the first is NaN if any of the logits is.
  void (*chunk_maxima)(float* out, const float* x, int64_t count);
  // The same once x became -inf where the bit, lowest first, isn't set. Gives the maximum of all
  // before that, NaN if any of them is.
  float (*mask_maxima)(float* out, float* x, const uint32_t* bits, int64_t count);
  // out [chunks] = sum of each one's weights; above [kFloors], unless null, = sum of all that are at
  // least kFloor[f].
  void (*chunk_sums)(float* out, float* above, const float* x, float max, float scale, int64_t count);
  // out [count] = the weights; out may be x.
  void (*token_weights)(float* out, const float* x, float max, float scale, int64_t count);
  // Weights [chunks, kChunk] below `floor` become 0; sums [chunks] = those of what is left.
  void (*keep_weights)(double* sums, float* weights, float floor, int64_t num_chunks);
  // Copies the weights in [low, high) to `rest` and adds up those from `high` on; gives how many it copied.
  int64_t (*split_weights)(float* rest, double* above, const float* weights, float low, float high,
                           int64_t num_chunks);
  // The sum of `count` words, as fast as they can be read.
  uint64_t (*sum_words)(const uint64_t* data, int64_t count);
  // Make products in registers, as fast as possible, and count them; 0: there is no instruction.
  int64_t (*count_products)(Product kind, int64_t num_steps);
};

#if defined(__x86_64__)
const Kernels* avx512_kernels(bool has_bf16);  // needs F, BW, VL, DQ, VNNI
const Kernels* avx2_kernels();                 // needs AVX2, FMA, F16C
#endif
const Kernels* scalar_kernels();

}  // namespace outrider
