// What the kernels read and write, access by access. kernels_host.cpp alone is compiled with -fsanitize=thread, which
// puts these calls at each access to memory that is not the function's own; nothing of that sanitizer is linked.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "standin.h"

namespace {

standin::DeviceMemory& memory() {
  static standin::DeviceMemory& range = standin::device_memory();
  return range;
}

inline bool inside(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(memory().base) < memory().size;
}

inline void read(const void* data, std::size_t bytes) {
  if (inside(data) && !standin::was_written(data, bytes)) {
    standin::fault(std::string("memory that nothing wrote is read by the kernel ") + standin::running_kernel());
  }
}
inline void write(void* data, std::size_t bytes) {
  if (inside(data)) standin::mark_written(data, bytes);
}

// The same of an access of a size that the compiler knows, which nearly all are: its marks are one word, of ones.
template <class Word>
inline void read_word(const void* data) {
  const std::size_t place = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(memory().base);
  if (place >= memory().size) return;
  Word marks, ones;
  std::memcpy(&marks, memory().written + place, sizeof marks);
  std::memset(&ones, 1, sizeof ones);
  if (marks != ones) read(data, sizeof(Word));
}
template <class Word>
inline void write_word(void* data) {
  const std::size_t place = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(memory().base);
  if (place < memory().size) std::memset(memory().written + place, 1, sizeof(Word));
}

// Before any allocation: device memory is then laid out to be watched.
const bool watched = memory().watched = true;

}  // namespace

extern "C" {
void __tsan_init() { static_cast<void>(watched); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define ACCESS(bytes, Word)                                                      \
  void __tsan_read##bytes(void* data) { read_word<Word>(data); }                 \
  void __tsan_write##bytes(void* data) { write_word<Word>(data); }               \
  void __tsan_unaligned_read##bytes(const void* data) { read_word<Word>(data); } \
  void __tsan_unaligned_write##bytes(void* data) { write_word<Word>(data); }     \
  void __tsan_read_write##bytes(void* data) { read_word<Word>(data); }           \
  void __tsan_unaligned_read_write##bytes(void* data) { read_word<Word>(data); }
ACCESS(1, std::uint8_t)
ACCESS(2, std::uint16_t)
ACCESS(4, std::uint32_t)
ACCESS(8, std::uint64_t)
ACCESS(16, unsigned __int128)
#undef ACCESS
void __tsan_read_range(void* data, std::size_t bytes) { read(data, bytes); }
void __tsan_write_range(void* data, std::size_t bytes) { write(data, bytes); }
}
