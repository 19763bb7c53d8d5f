// What this machine can do at best: bytes read from memory and products per second.
//
// Reading sums 64-byte words of a buffer that no cache holds, split over threads. Products run in
// registers only, with enough independent sums to hide their latency: the most that any kernel can
// reach. Compiled on the spot for the processor it runs on (machine_limits.py).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;
using Words = uint64_t __attribute__((vector_size(64), aligned(64)));

#if defined(__AVX512F__)
constexpr int kSums = 16;  // of 32 registers
#else
constexpr int kSums = 12;  // of 16
#endif
constexpr int kPrefetchWords = 64;  // 4 KiB ahead, as far as a page goes

// Hides where a value comes from, so that the compiler can't compute with it beforehand.
template <typename T>
inline void hide(T& value) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(value));
#else
  asm volatile("" : "+m"(value));
#endif
}

// Runs work(thread) on every thread at once and gives the seconds until all are done.
template <typename Work>
double seconds_of(int num_threads, const Work& work) {
  const auto begin = Clock::now();
  std::vector<std::thread> threads;
  for (int thread = 1; thread < num_threads; ++thread) threads.emplace_back([&, thread] { work(thread); });
  work(0);
  for (auto& thread : threads) thread.join();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

uint64_t sum_words(const Words* data, size_t num_words) {
  Words sums[4] = {};
  for (size_t i = 0; i + 4 <= num_words; i += 4) {
    __builtin_prefetch(data + i + kPrefetchWords);
    __builtin_prefetch(data + i + kPrefetchWords + 2);
    for (size_t j = 0; j < 4; ++j) sums[j] += data[i + j];
  }
  const Words total = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t sum = 0;
  for (int j = 0; j < 8; ++j) sum += total[j];
  return sum;
}

// Gives billions of products per second; step(sum, a, b) adds kProducts of them to a register.
template <typename Register, int kProducts, typename Step>
double gmac_per_s(int num_threads, int64_t num_steps, const Step& step) {
  const double seconds = seconds_of(num_threads, [&](int) {
    Register sums[kSums] = {}, a = {}, b = {};
    hide(a);
    hide(b);
    for (auto& sum : sums) hide(sum);  // else they are known to be equal, and one is computed
    for (int64_t i = 0; i < num_steps; ++i) {
#pragma GCC unroll 32
      for (auto& sum : sums) sum = step(sum, a, b);
    }
    for (auto& sum : sums) hide(sum);
  });
  return double(num_threads) * double(num_steps) * kSums * kProducts / seconds / 1e9;
}

}  // namespace

extern "C" {

// Gives GB/s of the fastest pass over data [num_bytes], which is aligned to 64 bytes; 0 if it is too small.
double read_gb_per_s(const uint8_t* data, size_t num_bytes, int num_threads, int num_passes) {
  const size_t share = num_bytes / sizeof(Words) / size_t(num_threads);
  std::vector<uint64_t> sums(size_t(num_threads) * 8);  // a cache line each
  double best = 0;
  for (int pass = 0; pass < num_passes; ++pass) {
    const double seconds = seconds_of(num_threads, [&](int thread) {
      const auto* words = reinterpret_cast<const Words*>(data) + share * size_t(thread);
      sums[size_t(thread) * 8] = sum_words(words, share);
    });
    volatile uint64_t kept = 0;
    for (uint64_t sum : sums) kept = kept + sum;
    const double rate = double(share) * sizeof(Words) * num_threads / seconds / 1e9;
    if (rate > best) best = rate;
  }
  return best;
}

// Unsigned times signed bytes summed to int32; 0 where nothing better than scalar code is known.
double int8_gmac_per_s([[maybe_unused]] int num_threads, [[maybe_unused]] int64_t num_steps) {
#if defined(__AVX512VNNI__)
  // Not the intrinsic: g++ 12 copies every sum twice around it, which halves the figure.
  return gmac_per_s<__m512i, 64>(num_threads, num_steps, [](__m512i s, __m512i a, __m512i b) {
    asm("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(a), "v"(b));
    return s;
  });
#elif defined(__AVX2__)
  return gmac_per_s<__m256i, 32>(num_threads, num_steps, [](__m256i s, __m256i a, __m256i b) {
    hide(a);  // else the products, which are the same every time, leave the loop
    return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
  });
#else
  return 0;
#endif
}

// Pairs of bf16 summed to f32; 0 where the processor has no such instruction.
double bf16_gmac_per_s([[maybe_unused]] int num_threads, [[maybe_unused]] int64_t num_steps) {
#if defined(__AVX512BF16__)
  return gmac_per_s<__m512, 32>(num_threads, num_steps, [](__m512 s, __m512 a, __m512 b) {
    return _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b);
  });
#else
  return 0;
#endif
}

// Fused multiply-add of f32.
double f32_gmac_per_s([[maybe_unused]] int num_threads, [[maybe_unused]] int64_t num_steps) {
#if defined(__AVX512F__)
  return gmac_per_s<__m512, 16>(num_threads, num_steps,
                                [](__m512 s, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, s); });
#elif defined(__FMA__)
  return gmac_per_s<__m256, 8>(num_threads, num_steps,
                               [](__m256 s, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, s); });
#else
  return 0;
#endif
}

}  // extern "C"
