#include "context.h"

#include <algorithm>

namespace outrider {

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
