// A stand-in for a GPU, for tests on machines without one: CUDA's run-time calls on host memory, and cuDNN and cuBLAS
// libraries that compute what they record. It is strict: it refuses what the real ones refuse (pointers that are not
// aligned, shapes that do not fit, what a capture forbids), and where they are silent it makes a fault of memory that
// nothing wrote and of calls out of order. Queued work runs as late as CUDA allows, or in a random order of the streams
// and of a graph's branches, so that a missing wait shows. A row of a kernel is shared by 32 lanes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace standin {

#define STANDIN_API __attribute__((visibility("default")))

struct Settings {
  bool lazy = false;                    // run queued work only when something waits for it
  std::uint32_t shuffle = 0;            // lazy, but any stream may run on at any time: the seed of which does when
  std::uint32_t eagerness = 12;         // of 16: how readily they do
  // Bytes of device memory; STANDIN_MEMORY in the environment.
  std::size_t memory_limit =
      std::getenv("STANDIN_MEMORY") == nullptr ? 1u << 30 : std::strtoull(std::getenv("STANDIN_MEMORY"), nullptr, 10);
  int compute_capability_major = 9;
  int devices = std::getenv("STANDIN_DEVICES") == nullptr ? 1 : std::atoi(std::getenv("STANDIN_DEVICES"));
  // The persistent algorithms: unsupported unless set (here, or by their speed in STANDIN_PERSIST in the environment); a
  // fast one may be wrong on purpose.
  bool persist_supported = std::getenv("STANDIN_PERSIST") != nullptr;
  bool persist_wrong = false;
  double persist_rounds = 0;             // an error of this size, relative to 1, in y
  bool persist_wrong_in_graphs = false;  // right where it is called, wrong where it is replayed
  bool persist_recordable = true;        // refused in a capture where not
  double persist_speedup = persist_supported ? std::atof(std::getenv("STANDIN_PERSIST")) : 2;
};

STANDIN_API Settings& settings();

// Every entry point holds it: models of one process are used from several threads.
class STANDIN_API Lock {
 public:
  Lock();
  ~Lock();
};

// Every entry point calls this: records the name and gives the status that fail_call() arranged, else 0.
STANDIN_API int enter(const char* function, const std::string& detail = {});
// Makes the nth call (from 1) from now on return `status`; of one function, or of any if empty. 0 clears. for_good: and
// every later call, as a kernel's fault does.
STANDIN_API void fail_call(const std::string& function, int nth, int status, bool for_good = false);
STANDIN_API std::vector<std::string>& calls();
STANDIN_API std::size_t calls_of(const std::string& function);

// True while a graph runs.
STANDIN_API bool in_graph();

// Queues work on a stream, or into the graph that it captures.
STANDIN_API void submit(cudaStream_t stream, std::function<void()> work);
// Pieces of work that have not run yet, of all streams.
STANDIN_API std::size_t queued();
// Work that waits for another process: it gives false as long as it cannot be done, and is tried again. What asks whether a
// stream is done tries once; what waits for it tries without an end.
STANDIN_API void submit_when(cudaStream_t stream, std::function<bool()> work);
// Whether the stream is in a capture; the device that the calling thread has set.
STANDIN_API bool is_capturing(cudaStream_t stream);
STANDIN_API int current_device();
// What an MPI that knows of GPUs does with the memory that it is given. It waits for nothing.
STANDIN_API void ask_about_pointer();
// Runs all that is queued.
STANDIN_API void run_all();
STANDIN_API void advance_clock(double milliseconds);

// True, with a fault, if a capture is under way: for calls that wait, or that CUDA forbids there. The call must not do
// its work, and the capture comes to nothing.
STANDIN_API bool refuse_in_capture(const char* function);

// Device memory: a range of addresses in which no place is given twice, with a byte for each of its bytes that says
// whether anything wrote it since it was allocated. What was not, and is read by a kernel (watch.cpp), by cuDNN or
// cuBLAS, or copied to the host, is a fault; a copy within the device takes along what was written. A block ends at a
// page that may not be touched, as what was freed may not be.
struct DeviceMemory {
  char* base = nullptr;
  std::size_t size = 0;
  unsigned char* written = nullptr;  // [size]
  // Whether the kernels' own accesses are seen. Without them (under a sanitizer) memory comes from the host's allocator,
  // where AddressSanitizer watches its bounds, and nothing counts as unwritten.
  bool watched = false;
};
STANDIN_API DeviceMemory& device_memory();
// The bytes that say it of [data, ...); nullptr where none do.
inline unsigned char* written_marks(const void* data) {
  static const DeviceMemory& memory = device_memory();
  const auto place = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(memory.base);
  return memory.watched && place < memory.size ? memory.written + place : nullptr;
}
// True of what is not device memory.
inline bool was_written(const void* data, std::size_t bytes) {
  const unsigned char* marks = written_marks(data);
  return marks == nullptr || std::memchr(marks, 0, bytes) == nullptr;
}
inline void mark_written(const void* data, std::size_t bytes) {
  if (unsigned char* marks = written_marks(data)) std::memset(marks, 1, bytes);
}
// Of this thread, for the fault's words; set it before a kernel's body is run.
STANDIN_API const char*& running_kernel();

// What went wrong while queued work ran.
STANDIN_API void fault(const std::string& what);
STANDIN_API std::vector<std::string>& faults();

// Handles, descriptors, streams, events and graphs alive, and bytes of memory.
STANDIN_API void count_object(int change);
STANDIN_API int live_objects();
STANDIN_API std::size_t live_bytes();
// True if [data, data + bytes) lies in one device allocation.
STANDIN_API bool is_device(const void* data, std::size_t bytes);

STANDIN_API void reset();

}  // namespace standin
