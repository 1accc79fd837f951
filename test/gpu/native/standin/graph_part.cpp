// The part of cuDNN that says which CUDA release it is built for.
#include <cudnn.h>

#include <cstddef>

extern "C" __attribute__((visibility("default"))) std::size_t cudnnGetCudartVersion() { return 13000; }
