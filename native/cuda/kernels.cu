// The bodies of arithmetic.h on the GPU: one thread per element, one warp per row.
#include "cuda/arithmetic.h"
#include "cuda/check.h"
#include "cuda/draw.h"
#include "cuda/kernels.h"

namespace cudnn_lstm::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarp = 32;
constexpr std::size_t kMaxBlocks = 65'536;

// XOR shuffles leave the same bits in every lane, since both partners add the same two numbers.
struct WarpLanes {
  __device__ __forceinline__ int index() const { return static_cast<int>(threadIdx.x % kWarp); }
  __device__ __forceinline__ int count() const { return kWarp; }
  template <class Value>
  __device__ __forceinline__ Value sum(Value value) const {
    for (int other = kWarp / 2; other > 0; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
    return value;
  }
  __device__ __forceinline__ float max(float value) const {
    for (int other = kWarp / 2; other > 0; other /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, other));
    return value;
  }
  __device__ __forceinline__ std::uint32_t ballot(bool flag) const { return __ballot_sync(0xffffffffu, flag); }
  __device__ __forceinline__ void barrier() const { __syncwarp(); }
};

template <class Body>
__global__ void __launch_bounds__(kThreads) element_kernel(std::size_t count, Body body) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kThreads;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride) body(i);
}

template <class Body>
__global__ void __launch_bounds__(kThreads) row_kernel(std::size_t rows, Body body) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * (kThreads / kWarp);
  // All lanes of a warp have the same row, so no warp diverges around its shuffles.
  for (std::size_t row = static_cast<std::size_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp; row < rows;
       row += stride) {
    body(row, WarpLanes{});
  }
}

unsigned blocks_for(std::size_t work, std::size_t per_block) {
  const std::size_t blocks = (work + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

}  // namespace

template <class Body>
void for_each_element(cudaStream_t stream, std::size_t count, const Body& body) {
  if (count == 0) return;
  element_kernel<<<blocks_for(count, kThreads), kThreads, 0, stream>>>(count, body);
  CHECK_CUDA(cudaGetLastError());
}

template <class Body>
void for_each_row(cudaStream_t stream, std::size_t rows, const Body& body) {
  if (rows == 0) return;
  row_kernel<<<blocks_for(rows, kThreads / kWarp), kThreads, 0, stream>>>(rows, body);
  CHECK_CUDA(cudaGetLastError());
}

#define INSTANTIATE(...) template void for_each_element(cudaStream_t, std::size_t, const __VA_ARGS__&);
CUDNN_LSTM_ELEMENT_BODIES(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(...) template void for_each_row(cudaStream_t, std::size_t, const __VA_ARGS__&);
CUDNN_LSTM_ROW_BODIES(INSTANTIATE)
#undef INSTANTIATE

}  // namespace cudnn_lstm::cuda
