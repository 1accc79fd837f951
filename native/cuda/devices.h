// The GPUs that the driver shows, and whether this build's kernels run on them.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "cuda/cuda.h"

namespace cudnn_lstm::cuda {

// The GPUs numbered below `count`. Takes no memory on them where NVML can be asked instead.
std::vector<CudaDevice> list_devices(int count);

// Why the GPU cannot be used by this build; empty if it can.
std::string fault_of_device(const cudaDeviceProp& properties);

}  // namespace cudnn_lstm::cuda
