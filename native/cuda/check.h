// Every CUDA, cuDNN and cuBLAS status goes through one of these macros: success passes, anything else throws Error with
// the call, its place and the library's own message. Exhausted memory is kOutOfMemory, the rest kDeviceFailed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "core/error.h"

namespace cudnn_lstm::cuda {

// "1.5 MB of 80000.0 MB free", the end of an out-of-memory error.
std::string free_memory();
std::string megabytes(std::size_t bytes);

[[noreturn]] void fail_cuda(cudaError_t status, const char* call, const char* file, int line);
[[noreturn]] void fail_library(const char* library, int status, const char* name, bool out_of_memory, const char* call,
                               const char* file, int line);

}  // namespace cudnn_lstm::cuda

#define CHECK_CUDA(call)                                                                                     \
  do {                                                                                                       \
    const cudaError_t check_status = (call);                                                                 \
    if (check_status != cudaSuccess) ::cudnn_lstm::cuda::fail_cuda(check_status, #call, __FILE__, __LINE__); \
  } while (false)
