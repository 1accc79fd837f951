#include "cuda/check.h"

#include <cstdio>
#include <cstring>

namespace cudnn_lstm::cuda {
namespace {

// "cudaMalloc in device_memory.cpp:31" from a call's text and place.
std::string place(const char* call, const char* file, int line) {
  const std::string text(call);
  std::string name = text.substr(0, text.find('('));
  const std::size_t member = name.find_last_of(".>");
  if (member != std::string::npos) name = name.substr(member + 1);
  const char* slash = std::strrchr(file, '/');
  return name + " in " + (slash ? slash + 1 : file) + ":" + std::to_string(line);
}

}  // namespace

std::string megabytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

std::string free_memory() {
  std::size_t free = 0, total = 0;
  const bool known = cudaMemGetInfo(&free, &total) == cudaSuccess;
  cudaGetLastError();
  return known ? megabytes(free) + " of " + megabytes(total) + " free" : "how much is free is not known";
}

void fail_cuda(cudaError_t status, const char* call, const char* file, int line) {
  cudaGetLastError();  // clear the status, so that the next call that checks does not find it again
  const bool memory = status == cudaErrorMemoryAllocation;
  throw Error(memory ? kOutOfMemory : kDeviceFailed, std::string(memory ? "out of GPU memory" : "a CUDA call failed") +
                                                         ": " + place(call, file, line) + " gave " +
                                                         cudaGetErrorName(status) + " (" + cudaGetErrorString(status) +
                                                         ")" + (memory ? ", " + free_memory() : ""));
}

void fail_library(const char* library, int status, const char* name, bool out_of_memory, const char* call,
                  const char* file, int line) {
  cudaGetLastError();  // clear a launch failure inside the library, so that the next kernel's launch does not find it
  throw Error(out_of_memory ? kOutOfMemory : kDeviceFailed,
              std::string(out_of_memory ? "out of memory in " : "a call failed in ") + library + ": " +
                  place(call, file, line) + " gave " + name + " (" + std::to_string(status) + ")" +
                  (out_of_memory ? ", " + free_memory() : ""));
}

}  // namespace cudnn_lstm::cuda
