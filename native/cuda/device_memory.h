// RAII owners of the CUDA runtime's device and pinned memory, streams, events and graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <string>
#include <utility>

#include "cuda/owned.h"

namespace cudnn_lstm::cuda {

using Stream = Owned<cudaStream_t, cudaError_t>;
using Event = Owned<cudaEvent_t, cudaError_t>;
using Graph = Owned<cudaGraph_t, cudaError_t>;
using GraphExec = Owned<cudaGraphExec_t, cudaError_t>;

// urgent: if several streams have work, this one gets the GPU's free multiprocessors first.
Stream make_stream(bool urgent = false);
Event make_event(bool timing = false);

// Makes `ordinal` the thread's device. Every call of a model starts with this, since an executor thread serves all
// models. The previous device is not restored: it is usually the default, GPU 0, where that would create a context that
// nobody asked for, of half a gigabyte, or fail if another process uses the GPU exclusively.
void use_device(int ordinal);

// From now on, threads that wait for the current device sleep. By default they spin, keeping a core busy throughout
// training.
void wait_without_spinning();

// Bytes on the device and pinned on the host, as counted by the buffers below; may be read from any thread.
struct MemoryAccount {
  std::atomic<std::size_t> device{0};
  std::atomic<std::size_t> host{0};
};

enum class MemoryKind { device, pinned };

template <MemoryKind kind>
class Memory {
 public:
  Memory() = default;
  // `what` names the buffer in the error. Throws Error(kOutOfMemory) with the size requested and the memory free.
  Memory(MemoryAccount& account, std::size_t bytes, const char* what);
  Memory(Memory&& other) noexcept
      : account_(other.account_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(account_, other.account_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  MemoryAccount* account_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

extern template class Memory<MemoryKind::device>;
extern template class Memory<MemoryKind::pinned>;
using DeviceBuffer = Memory<MemoryKind::device>;
using PinnedBuffer = Memory<MemoryKind::pinned>;

}  // namespace cudnn_lstm::cuda
