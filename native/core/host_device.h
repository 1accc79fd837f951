// Marks a function compiled for the host and, where nvcc reads the file, for the GPU too. Always inline: kernels.inl
// compiles such functions for several instruction sets, and the linker would keep one copy, which may not run here.
#pragma once

#if defined(__CUDACC__)
#define CUDNN_LSTM_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__) || defined(__clang__)
#define CUDNN_LSTM_HD inline __attribute__((always_inline))
#else
#define CUDNN_LSTM_HD inline
#endif
