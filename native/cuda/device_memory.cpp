#include "cuda/device_memory.h"

#include "cuda/check.h"

namespace cudnn_lstm::cuda {

Stream make_stream(bool urgent) {
  int least = 0, greatest = 0;
  CHECK_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  CHECK_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, urgent ? greatest : least));
  return {stream, cudaStreamDestroy};
}

Event make_event(bool timing) {
  cudaEvent_t event = nullptr;
  CHECK_CUDA(
      cudaEventCreateWithFlags(&event, cudaEventBlockingSync | (timing ? cudaEventDefault : cudaEventDisableTiming)));
  return {event, cudaEventDestroy};
}

void use_device(int ordinal) { CHECK_CUDA(cudaSetDevice(ordinal)); }

void wait_without_spinning() {
  unsigned flags = 0;
  if (cudaGetDeviceFlags(&flags) == cudaSuccess)
    cudaSetDeviceFlags((flags & ~static_cast<unsigned>(cudaDeviceScheduleMask)) | cudaDeviceScheduleBlockingSync);
  cudaGetLastError();  // if refused, waiting costs a core and nothing else
}

template <MemoryKind kind>
Memory<kind>::Memory(MemoryAccount& account, std::size_t bytes, const char* what) {
  if (bytes == 0) return;
  const cudaError_t status = kind == MemoryKind::device ? cudaMalloc(&data_, bytes) : cudaHostAlloc(&data_, bytes, 0);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    data_ = nullptr;
    if (kind == MemoryKind::pinned) {
      throw Error(kOutOfMemory, "out of pinned host memory: " + megabytes(bytes) + " asked for " + what);
    }
    throw Error(kOutOfMemory, "out of GPU memory: " + megabytes(bytes) + " asked for " + what + ", " + free_memory() +
                                  "; use a smaller batch, fewer steps or a smaller model");
  }
  CHECK_CUDA(status);
  account_ = &account;
  bytes_ = bytes;
  (kind == MemoryKind::device ? account.device : account.host) += bytes;
}

template <MemoryKind kind>
Memory<kind>::~Memory() {
  if (data_ == nullptr) return;
  (kind == MemoryKind::device ? account_->device : account_->host) -= bytes_;
  kind == MemoryKind::device ? cudaFree(data_) : cudaFreeHost(data_);
}

template class Memory<MemoryKind::device>;
template class Memory<MemoryKind::pinned>;

}  // namespace cudnn_lstm::cuda
