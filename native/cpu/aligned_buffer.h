// A zeroed, vector-aligned array in host memory. All but small arrays are mapped as separate pages, which go back to
// the system when they are freed: malloc's per-thread arenas would keep and fragment them. Huge pages are used where
// available, because an LSTM's activations are tens of megabytes walked with large strides, and 4 KB pages would cost a
// TLB miss per cache line.
//
// For tests: with CUDNN_LSTM_GUARD_PAGES=end in the environment (Linux), every buffer ends right before an inaccessible
// page; with CUDNN_LSTM_GUARD_PAGES=begin, it begins right after one. A read or write past that border then ends the
// process on the spot.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

// The address sanitizer only watches memory from malloc.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#define CUDNN_LSTM_MAPPED_BUFFERS
#include <sys/mman.h>
#include <unistd.h>
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

  // Throws Error(kOutOfMemory) if there is no memory; the old contents are lost even then.
  void resize(std::size_t size) {
    if (size == size_) return;
    release();
    if (size == 0) return;
    const std::size_t bytes = size * sizeof(T);
    void* memory = size > SIZE_MAX / sizeof(T) / 2 ? nullptr : allocate_zeroed(bytes);
    if (memory == nullptr) {
      throw Error(kOutOfMemory, "not enough memory: " + std::to_string(bytes >> 20) +
                                    " MiB more were needed; use a smaller batch size, sequence length or model");
    }
    data_ = static_cast<T*>(memory);
    size_ = size;
  }

  // Whether discard() gives memory back to the system.
  static constexpr bool discards() {
#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
    return true;
#else
    return false;
#endif
  }

  // Gives the memory of elements [first, first + count) back to the system, rounded inwards to whole pages. The
  // elements' values are then undefined; they can be written again.
  void discard([[maybe_unused]] std::size_t first, [[maybe_unused]] std::size_t count) {
#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
    if (guard() == Guard::none && bytes() < kMapped) return;
    char* const memory = reinterpret_cast<char*>(data_ + first);
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    const std::uintptr_t page = page_size(0);
    const std::uintptr_t begin = round_up(start, page), end = (start + count * sizeof(T)) / page * page;
    if (begin >= end) return;
    // Otherwise a thread of the operating system's would at some point refill the gaps in a huge page.
    madvise(memory + (begin - start), end - begin, MADV_NOHUGEPAGE);
    madvise(memory + (begin - start), end - begin, MADV_DONTNEED);
#endif
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
  static void* allocate_zeroed(std::size_t bytes) {
#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
    if (guard() != Guard::none) return map_guarded(bytes);
    if (bytes >= kMapped) return map(bytes);
#endif
    void* memory = allocate(64, bytes);
    if (memory != nullptr) std::memset(memory, 0, bytes);
    return memory;
  }

  static void release_memory(void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
    if (guard() != Guard::none) {
      const std::size_t page = page_size(0), size = round_up(bytes, page);
      munmap(static_cast<char*>(memory) - guarded_offset(bytes) - page, size + 2 * page);
      return;
    }
    if (bytes >= kMapped) {
      munmap(memory, round_up(bytes, page_size(bytes)));
      return;
    }
#endif
    deallocate(memory);
  }

#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
  static constexpr std::size_t kMapped = std::size_t{64} << 10;
  static constexpr std::size_t kHuge = std::size_t{2} << 20;

  static std::size_t round_up(std::size_t bytes, std::size_t multiple) {
    return (bytes + multiple - 1) / multiple * multiple;
  }

  // The alignment of a mapping of `bytes`, whose size is also a multiple of it.
  static std::size_t page_size(std::size_t bytes) {
    return bytes >= kHuge ? kHuge : static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  }

  enum class Guard { none, end, begin };

  static Guard guard() {
    static const Guard where = [] {
      const char* value = std::getenv("CUDNN_LSTM_GUARD_PAGES");
      if (value == nullptr) return Guard::none;
      if (std::strcmp(value, "begin") == 0) return Guard::begin;
      return std::strcmp(value, "end") == 0 ? Guard::end : Guard::none;
    }();
    return where;
  }

  // The offset of the memory within its pages.
  static std::size_t guarded_offset(std::size_t bytes) {
    return guard() == Guard::end ? round_up(bytes, page_size(0)) - bytes : 0;
  }

  // Zeroed memory between two inaccessible pages, ending right before the second or beginning right after the first; or
  // null. In the first case it is aligned only to its elements, which is all that the kernels rely on.
  static void* map_guarded(std::size_t bytes) {
    const std::size_t page = page_size(0), size = round_up(bytes, page);
    void* all = mmap(nullptr, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    char* const first = static_cast<char*>(all) + page;
    if (mprotect(first, size, PROT_READ | PROT_WRITE) != 0) {
      munmap(all, size + 2 * page);
      return nullptr;
    }
    return first + guarded_offset(bytes);
  }

  // Zeroed pages, or null. Maps an extra page for alignment and unmaps the excess.
  static void* map(std::size_t bytes) {
    const std::size_t page = page_size(bytes), size = round_up(bytes, page);
    void* all = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(all);
    const std::size_t before = round_up(address, page) - address;
    char* const memory = static_cast<char*>(all) + before;
    if (before > 0) munmap(all, before);
    if (before < page) munmap(memory + size, page - before);
    if (page == kHuge) madvise(memory, size, MADV_HUGEPAGE);
    return memory;
  }
#endif

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
    if (data_ != nullptr) release_memory(data_, bytes());
    data_ = nullptr;
    size_ = 0;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cudnn_lstm::cpu
