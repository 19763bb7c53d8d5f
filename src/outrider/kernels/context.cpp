#include "context.h"

#include <algorithm>
#include <cmath>

namespace outrider {
namespace {

// The index of the largest logit that isn't taken yet; of equal ones the first.
int32_t best_expert(const float* logits, int64_t num_experts, const int32_t* taken, int64_t num_taken) {
  int32_t best = -1;
  for (int32_t e = 0; e < int32_t(num_experts); ++e) {
    if (std::find(taken, taken + num_taken, e) != taken + num_taken) continue;
    if (best < 0 || logits[e] > logits[best]) best = e;
  }
  return best;
}

// In double, where neither tail overflows for a logit that a model can have; -inf gives 0.
float sigmoid(float logit) { return float(1.0 / (1.0 + std::exp(-double(logit)))); }

}  // namespace

void Context::route(const Routing& out, const float* logits, int64_t num_tokens, int64_t num_experts,
                    int64_t top_k) {
  int32_t* chosen = grow(chosen_, num_tokens * top_k);
  std::fill(out.cu_rows, out.cu_rows + num_experts + 1, 0);
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t i = 0; i < top_k; ++i) {
      int32_t* of_token = chosen + t * top_k;
      of_token[i] = best_expert(logits + t * num_experts, num_experts, of_token, i);
      ++out.cu_rows[of_token[i] + 1];
    }
  for (int64_t e = 0; e < num_experts; ++e) out.cu_rows[e + 1] += out.cu_rows[e];
  // While rows are dealt out, cu_rows[e] is the next row of expert e: in the end the first of e + 1.
  for (int64_t r = 0; r < num_tokens * top_k; ++r) {
    const int64_t t = r / top_k;
    const int32_t row = out.cu_rows[chosen[r]]++;
    out.rows[row] = int32_t(t);
    out.factors[row] = sigmoid(logits[t * num_experts + chosen[r]]);
  }
  std::copy_backward(out.cu_rows, out.cu_rows + num_experts, out.cu_rows + num_experts + 1);
  out.cu_rows[0] = 0;
}

// Columns are what threads share: each of them meets the rows in the same order.
void Context::scatter_add(float* out, const float* y, const int32_t* rows, int64_t num_rows, int64_t cols) {
  const int64_t tasks = std::min((num_rows * cols + kMinTaskValues - 1) / kMinTaskValues, (cols + 63) / 64);
  const int64_t width = tasks > 0 ? ((cols + tasks - 1) / tasks + 15) / 16 * 16 : 0;
  pool_.run(tasks, [&](int64_t task, int) {
    const int64_t begin = task * width, end = std::min(cols, begin + width);
    for (int64_t r = 0; r < num_rows && begin < end; ++r)
      kernels_->add_row(out + rows[r] * cols + begin, y + r * cols + begin, end - begin);
  });
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni"))
    names.push_back("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");
#endif
  names.push_back("scalar");
  return names;
}

const Kernels* find_kernels(const std::string& isa) {
  const std::vector<std::string> names = supported_isas();
  const std::string& name = isa == "auto" ? names.front() : isa;
  if (std::find(names.begin(), names.end(), name) == names.end()) return nullptr;
#if defined(__x86_64__)
  if (name == "avx512") return avx512_kernels(__builtin_cpu_supports("avx512bf16"));
  if (name == "avx2") return avx2_kernels();
#endif
  return scalar_kernels();
}

}  // namespace outrider
