// A zeroed array on the host, aligned for vectors, on huge pages where the system offers them: an LSTM's activations
// are tens of megabytes walked with large strides, and 4 KB pages would cost a TLB miss a line.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "core/error.h"

namespace cudnn_lstm::cpu {

template <typename T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer() { release(); }

  // Throws Error(kOutOfMemory) if there is no memory; the old contents are gone then too.
  void resize(std::size_t size) {
    if (size == size_) return;
    release();
    if (size == 0) return;
    constexpr std::size_t kHuge = std::size_t{2} << 20;
    const std::size_t bytes = size * sizeof(T);
    const std::size_t alignment = bytes >= kHuge ? kHuge : 64;
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* memory = size > SIZE_MAX / sizeof(T) / 2 ? nullptr : allocate(alignment, rounded);
    if (memory == nullptr) {
      throw Error(kOutOfMemory, "not enough memory: " + std::to_string(bytes >> 20) +
                                    " MiB more were needed; use a smaller batch size, sequence length or model");
    }
#if defined(__linux__)
    if (bytes >= kHuge) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
    std::memset(memory, 0, rounded);
    data_ = static_cast<T*>(memory);
    size_ = size;
  }

  void zero() {
    if (data_ != nullptr) std::memset(static_cast<void*>(data_), 0, size_ * sizeof(T));
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
#if defined(_WIN32)
  static void* allocate(std::size_t alignment, std::size_t bytes) { return _aligned_malloc(bytes, alignment); }
  static void deallocate(void* memory) { _aligned_free(memory); }
#else
  static void* allocate(std::size_t alignment, std::size_t bytes) {
    void* memory = nullptr;
    return posix_memalign(&memory, alignment, bytes) == 0 ? memory : nullptr;
  }
  static void deallocate(void* memory) { std::free(memory); }
#endif
  void release() {
    if (data_ != nullptr) deallocate(data_);
    data_ = nullptr;
    size_ = 0;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cudnn_lstm::cpu
