#include "cuda/devices.h"

#include "cuda/check.h"
#include "cuda/device_memory.h"

namespace cudnn_lstm::cuda {
namespace {

// Turing: the oldest that the kernels are compiled for (cmake/cuda.cmake) and that CUDA 13 supports.
constexpr int kOldestMajor = 7, kOldestMinor = 5;

std::string capability(const cudaDeviceProp& properties) {
  return std::to_string(properties.major) + "." + std::to_string(properties.minor);
}

std::size_t free_bytes(int ordinal, const cudaDeviceProp& properties) {
  // Asking the runtime would create a context of hundreds of megabytes on each GPU of the machine, just to look.
  if (const auto usage = gpu_usage(ordinal)) {
    // For a slice of a GPU, NVML reports its parent's figures.
    if (usage->memory_total_bytes < properties.totalGlobalMem + properties.totalGlobalMem / 8)
      return usage->memory_total_bytes - usage->memory_used_bytes;
  }
  std::size_t free = 0, total = 0;
  try {
    use_device(ordinal);
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = 0;
  } catch (const Error&) {
    free = 0;  // a GPU in exclusive use: listed, with nothing free
  }
  cudaGetLastError();
  return free;
}

}  // namespace

std::vector<CudaDevice> list_devices(int count) {
  std::vector<CudaDevice> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    devices.push_back({ordinal, properties.name, properties.totalGlobalMem, free_bytes(ordinal, properties),
                       capability(properties), fault_of_device(properties)});
  }
  return devices;
}

std::string fault_of_device(const cudaDeviceProp& properties) {
  if (properties.major > kOldestMajor || (properties.major == kOldestMajor && properties.minor >= kOldestMinor))
    return {};
  return std::string(properties.name) + " has compute capability " + capability(properties) + ", " +
         std::to_string(kOldestMajor) + "." + std::to_string(kOldestMinor) + " or later is needed";
}

}  // namespace cudnn_lstm::cuda
