// What a machine can do at best, with an instruction set: words read and products made, with nothing
// else around them. No other kernel can be faster than these.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace outrider {
namespace {

// Whole cache lines, wherever they begin.
using Line = uint64_t __attribute__((vector_size(64), aligned(8), may_alias));
constexpr int64_t kLineWords = 8;
constexpr int64_t kPrefetchLines = 64;  // 4 KiB ahead, as far as a page goes

uint64_t sum_words(const uint64_t* data, int64_t count) {
  const auto* lines = reinterpret_cast<const Line*>(data);
  Line sums[4] = {};
  int64_t i = 0;
  for (; (i + 4) * kLineWords <= count; i += 4) {
    __builtin_prefetch(data + (i + kPrefetchLines) * kLineWords);
    __builtin_prefetch(data + (i + kPrefetchLines + 2) * kLineWords);
    for (int64_t j = 0; j < 4; ++j) sums[j] += lines[i + j];
  }
  const Line total = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t sum = 0;
  for (int j = 0; j < kLineWords; ++j) sum += total[j];
  for (i *= kLineWords; i < count; ++i) sum += data[i];
  return sum;
}

#if defined(__AVX2__)

#if defined(__AVX512F__)
constexpr int kProductSums = 16;  // of 32 registers
inline int64_t add_lanes(__m512i x) { return _mm512_reduce_add_epi32(x); }
inline int64_t add_lanes(__m512 x) { return int64_t(_mm512_reduce_add_ps(x)); }
// Not the intrinsic: g++ 12 copies every sum twice around it, which halves the figure.
inline __m512i add_int8_products(__m512i sum, __m512i a, __m512i b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
inline __m512 add_f32_products(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
#else
constexpr int kProductSums = 12;  // of 16
inline int64_t add_lanes(__m256i x) {
  int32_t lanes[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), x);
  int64_t sum = 0;
  for (int32_t lane : lanes) sum += lane;
  return sum;
}
inline int64_t add_lanes(__m256 x) { return add_lanes(_mm256_cvtps_epi32(x)); }
inline __m256i add_int8_products(__m256i sum, __m256i a, __m256i b) {
  asm volatile("" : "+v"(a));  // else the products, which are the same every time, leave the loop
  const __m256i pairs = _mm256_maddubs_epi16(a, b);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline __m256 add_f32_products(__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); }
#endif

// Ones times ones, in enough independent sums to hide the latency: the total is the number of
// products, and shows that none of them was left out.
template <typename Sum, typename Register, typename Step>
int64_t add_products(int64_t num_steps, Sum zero, Register ones, const Step& step) {
  Register others = ones;
  Sum sums[kProductSums];
  // The compiler may know neither what is added nor that all sums are equal.
  asm volatile("" : "+v"(ones), "+v"(others));
  for (auto& sum : sums) {
    sum = zero;
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < num_steps; ++i) {
#pragma GCC unroll 16
    for (auto& sum : sums) sum = step(sum, ones, others);
  }
  int64_t total = 0;
  for (auto& sum : sums) total += add_lanes(sum);
  return total;
}

#if defined(__AVX512BF16__)
inline __m512 add_bf16_products(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
#endif

template <bool kBf16Hardware>
int64_t count_products(Product kind, int64_t num_steps) {
#if defined(__AVX512F__)
  const __m512i bytes = _mm512_set1_epi8(1), no_ints = _mm512_setzero_si512();
  const __m512 floats = _mm512_set1_ps(1), no_floats = _mm512_setzero_ps();
#else
  const __m256i bytes = _mm256_set1_epi8(1), no_ints = _mm256_setzero_si256();
  const __m256 floats = _mm256_set1_ps(1), no_floats = _mm256_setzero_ps();
#endif
  if (kind == Product::kInt8) return add_products(num_steps, no_ints, bytes, add_int8_products);
  if (kind == Product::kF32) return add_products(num_steps, no_floats, floats, add_f32_products);
#if defined(__AVX512BF16__)
  if (kBf16Hardware && kind == Product::kBf16)
    return add_products(num_steps, no_floats, _mm512_set1_epi16(0x3f80), add_bf16_products);
#endif
  return 0;
}

#else

// Nothing is known to be the best that other machines can do.
template <bool kBf16Hardware>
int64_t count_products(Product, int64_t) {
  return 0;
}

#endif

}  // namespace
}  // namespace outrider
