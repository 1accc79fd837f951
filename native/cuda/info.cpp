// Reports this machine's driver, GPUs and libraries.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>

#include "cuda/check.h"
#include "cuda/cuda.h"
#include "cuda/devices.h"
#include "cuda/libraries.h"
#include "cuda/nccl.h"
#include "cuda/nvml.h"

namespace cudnn_lstm::cuda {
namespace {

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Why no GPU can be used, in words that name the next step.
std::string no_device_reason(cudaError_t status) {
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == nullptr) {
    return "no NVIDIA driver on this machine (libcuda.so.1 was not found)";
  }
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (status == cudaErrorInsufficientDriver) {
    // A release's runtime works with the drivers of its first minor version.
    const int needed = CUDART_VERSION / 1000;
    return "the NVIDIA driver supports CUDA " + cuda_version_text(driver) + ", this build needs " +
           std::to_string(needed) + ".0: update the driver" + (needed >= 13 ? " to 580 or later" : " to 525 or later") +
           ", or build with an older CUDA toolkit, as docs/gpu.md says";
  }
  if (status == cudaErrorNoDevice) return "the NVIDIA driver sees no GPU (is CUDA_VISIBLE_DEVICES empty?)";
  return std::string("the NVIDIA driver could not be used: ") + cudaGetErrorString(status);
}

}  // namespace

CudaInfo cuda_info(const std::string& library_path, bool open_always) {
  CudaInfo info;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) {
    const auto version = driver_version();
    info.driver = (version ? *version + " (" : "(") + "CUDA " + cuda_version_text(driver) + ")";
  }
  std::string device_fault;
  if (status != cudaSuccess || count == 0) {
    device_fault = no_device_reason(status == cudaSuccess ? cudaErrorNoDevice : status);
    info.searched.push_back("GPU: " + device_fault);
  } else {
    device_fault = "the NVIDIA driver tells nothing of its GPU";
    for (CudaDevice& device : list_devices(count)) {
      info.searched.push_back("GPU " + std::to_string(device.ordinal) + ": " +
                              (device.fault.empty() ? device.name : device.fault));
      if (device.fault.empty()) {
        info.devices.push_back(std::move(device));
      } else {
        device_fault = device.fault;
      }
    }
    if (!info.devices.empty()) device_fault.clear();
  }
  std::string library_fault;
  try {
    const bool named = !library_path.empty() || std::getenv("CUDNN_LSTM_LIBRARY_PATH") != nullptr;
    if (device_fault.empty() || named || open_always) {
      const auto libraries = open_libraries(library_path, info.searched);
      info.cudnn = CudaLibrary{libraries->cudnn_version.version, libraries->cudnn_version.path};
      info.cublas = CudaLibrary{libraries->cublas_version.version, libraries->cublas_version.path};
      info.nccl = find_nccl(library_path, info.searched);
    } else {
      find_libraries(library_path, info.searched);
    }
  } catch (const Error& error) {
    library_fault = error.what();
  }
  info.available = device_fault.empty() && library_fault.empty();
  if (!device_fault.empty()) {
    info.reason = device_fault;
    // A named folder that is broken is reported on the same line, even without a GPU to use it with.
    if (!library_fault.empty() && !library_path.empty()) info.reason += "; " + library_fault;
  } else if (!library_fault.empty()) {
    info.reason = library_fault;
  } else {
    info.reason = info.devices.front().name + ", cuDNN " + info.cudnn->version;
  }
  return info;
}

std::optional<GpuUsage> gpu_usage(int ordinal) {
  char bus_id[32] = {};
  if (cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, ordinal) != cudaSuccess) {
    cudaGetLastError();
    return std::nullopt;
  }
  return usage_of(bus_id);
}

}  // namespace cudnn_lstm::cuda
