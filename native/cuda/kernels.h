// Launches arithmetic.h's bodies on a stream. kernels.cu defines the launches for the GPU; the tests' stand-in defines
// them for host memory, the seam that lets the whole backend run without a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace cudnn_lstm::cuda {

// body(i) for i in 0..count-1. Throws Error(kDeviceFailed).
template <class Body>
void for_each_element(cudaStream_t stream, std::size_t count, const Body& body);

// body(row, lanes) for each row, one warp per row. Throws Error(kDeviceFailed).
template <class Body>
void for_each_row(cudaStream_t stream, std::size_t rows, const Body& body);

// All bodies that are launched, for the explicit instantiations of both definitions.
#define CUDNN_LSTM_ELEMENT_BODIES_OF(X, T) \
  X(EncodeInput<T>) X(Dropout<T>) X(AddBias<T>) X(SumColumns<T>) X(Update<T>) X(Round<T>)
#define CUDNN_LSTM_ELEMENT_BODIES(X)        \
  CUDNN_LSTM_ELEMENT_BODIES_OF(X, float)    \
  CUDNN_LSTM_ELEMENT_BODIES_OF(X, Half)     \
  CUDNN_LSTM_ELEMENT_BODIES_OF(X, BFloat16) \
  X(SumPartials) X(AdvanceCursor)
#define CUDNN_LSTM_ROW_BODIES_OF(X, T) X(ScatterEmbedding<T>) X(SoftmaxLoss<T>) X(UnscaleAndSquare<T>) X(Draw<T>)
#define CUDNN_LSTM_ROW_BODIES(X)        \
  CUDNN_LSTM_ROW_BODIES_OF(X, float)    \
  CUDNN_LSTM_ROW_BODIES_OF(X, Half)     \
  CUDNN_LSTM_ROW_BODIES_OF(X, BFloat16) \
  X(SumChunks) X(SumPartialsOfRow) X(DecideStep) X(SquareChunks) X(SumTotals)

}  // namespace cudnn_lstm::cuda
