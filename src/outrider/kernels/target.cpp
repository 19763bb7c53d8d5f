// The kernels of one instruction set: this file is compiled once per target, with its flags.
#include "attention.h"
#include "cache.h"
#include "elementwise.h"
#include "limits.h"
#include "matmul.h"
#include "quantise.h"
#include "sampling.h"

namespace outrider {
namespace {

template <bool kBf16Hardware>
constexpr Kernels make_table(const char* name) {
  return {name,
          quantise_tile,
          round_row_to_bf16,
          matmul<kBf16Hardware>,
          weight_row,
          rmsnorm_row,
          rope_row,
          swiglu_row,
          layernorm_row,
          gelu_row,
          add_row,
          scale_row,
          store_kv_rows,
          attend_piece<kBf16Hardware>,
          merge_partial,
          finish_rows,
          chunk_maxima,
          mask_maxima,
          chunk_sums,
          token_weights,
          keep_weights,
          split_weights,
          sum_words,
          count_products<kBf16Hardware>};
}

}  // namespace

#if defined(__AVX512F__)
const Kernels* avx512_kernels(bool has_bf16) {
  static constexpr Kernels with_bf16 = make_table<true>("avx512");
  static constexpr Kernels without_bf16 = make_table<false>("avx512");
  return has_bf16 ? &with_bf16 : &without_bf16;
}
#elif defined(__AVX2__)
const Kernels* avx2_kernels() {
  static constexpr Kernels table = make_table<false>("avx2");
  return &table;
}
#else
const Kernels* scalar_kernels() {
  static constexpr Kernels table = make_table<false>("scalar");
  return &table;
}
#endif

}  // namespace outrider
