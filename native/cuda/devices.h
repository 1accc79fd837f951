// The GPUs that the driver reports, and whether this build's kernels run on them.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "cuda/cuda.h"

namespace cudnn_lstm::cuda {

// The GPUs numbered below `count`. Takes no memory on them if NVML can be asked instead.
std::vector<CudaDevice> list_devices(int count);

// Why this build cannot use the GPU; empty if it can.
std::string fault_of_device(const cudaDeviceProp& properties);

}  // namespace cudnn_lstm::cuda
