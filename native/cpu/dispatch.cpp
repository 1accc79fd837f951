#include <cstdlib>
#include <string>

#include "core/error.h"
#include "cpu/kernels.h"

namespace cudnn_lstm::cpu {
namespace {

bool runs_here(const std::string& name) {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  if (name == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
  }
  if (name == "avx512bf16") return runs_here("avx512") && __builtin_cpu_supports("avx512bf16");
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return name == "baseline" || name == "neon";
}

}  // namespace

std::vector<const KernelTable*> supported_kernels() {
  std::vector<const KernelTable*> supported;
  for (const KernelTable* table :
       {avx512bf16_kernels(), avx512_kernels(), avx2_kernels(), neon_kernels(), baseline_kernels()}) {
    if (table != nullptr && runs_here(table->name)) supported.push_back(table);
  }
  return supported;
}

const KernelTable& choose_kernels() {
  const char* wanted = std::getenv("CUDNN_LSTM_CPU_ISA");
  for (const KernelTable* table : supported_kernels()) {
    if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == table->name) return *table;
  }
  throw Error(kDeviceUnavailable, "CUDNN_LSTM_CPU_ISA=" + std::string(wanted) +
                                      " does not run on this CPU: unset it, or use one that `cudnn-lstm info` lists");
}

}  // namespace cudnn_lstm::cpu
