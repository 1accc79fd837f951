// Marks a function that is compiled for the host and, where nvcc reads the file, for the GPU too.
#pragma once

#if defined(__CUDACC__)
#define CUDNN_LSTM_HD __host__ __device__ __forceinline__
#else
#define CUDNN_LSTM_HD inline
#endif
