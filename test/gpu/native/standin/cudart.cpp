// The CUDA runtime's calls that the backend uses, on host memory.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "standin.h"

namespace {

using Work = std::function<bool()>;  // false: not yet

// Work that a graph holds, and the pieces of it that come before.
struct Node {
  Work work;
  std::vector<std::size_t> after;
};
struct FakeStream;
struct Capture {
  std::vector<Node> nodes;
  std::vector<FakeStream*> streams;  // the first: where it began; then those that an event has brought in
  bool invalid = false;              // a call in it was refused
};
struct FakeStream {
  std::deque<Work> queue;
  std::size_t submitted = 0, done = 0;
  bool running = false;
  Capture* capture = nullptr;
  std::vector<std::size_t> latest;  // in the capture: what the next piece of work comes after
};
struct FakeEvent {
  FakeStream* stream = nullptr;
  std::size_t position = 0;
  double time = 0;
  Capture* capture = nullptr;  // that it was recorded in
  std::vector<std::size_t> latest;
};
struct FakeGraph {
  std::shared_ptr<std::vector<Node>> nodes;
  bool uploaded = false;
};

struct World {
  standin::Settings settings;
  std::vector<std::string> calls, faults;
  std::string fail_function;
  int fail_at = 0, fail_status = 0;
  bool fail_for_good = false;
  int objects = 0;
  std::map<const char*, std::size_t> device, pinned;
  std::size_t device_bytes = 0;
  std::vector<FakeStream*> streams;  // in order of creation
  double clock = 0;
  cudaError_t last = cudaSuccess;
  unsigned device_flags = cudaDeviceMapHost;
  bool in_graph = false;
  int broken = 0;  // the status of every call from now on; 0 while the context works
};

// Captures under way; in thread-local mode they restrict their own thread alone.
thread_local std::vector<Capture*> captures_of_this_thread;
thread_local int device_of_this_thread = 0;
// While it runs a function of the host's that was queued, in which nothing of CUDA's may be called.
thread_local bool in_host_function = false;

// A process that leaves faults behind fails, whatever it has made of its results.
void tell_faults();

World& world() {
  static World& value = [&]() -> World& {
    std::atexit(tell_faults);
    return *new World;  // for good: threads may still be at work when the process ends
  }();
  return value;
}

void tell_faults() {
  const std::vector<std::string>& faults = world().faults;
  if (faults.empty()) return;
  for (std::size_t i = 0; i < faults.size() && i < 10; ++i) std::fprintf(stderr, "stand-in: %s\n", faults[i].c_str());
  std::_Exit(97);
}

// Runs a stream's work up to a position. Without patience it ends where work cannot be done yet.
void drain(FakeStream& stream, std::size_t position, bool patient = true) {
  while (stream.done < position && !stream.queue.empty() && !stream.running) {
    // It may wait for an event, and so for this stream.
    stream.running = true;
    Work work = stream.queue.front();
    const bool done = work();
    stream.running = false;
    if (done) {
      stream.queue.pop_front();
      ++stream.done;
    } else if (patient) {
      std::this_thread::yield();
    } else {
      return;
    }
  }
}

void drain_all() {
  for (FakeStream* stream : world().streams) drain(*stream, stream->submitted);
}

std::uint32_t next_random() {
  std::uint32_t& state = world().settings.shuffle;
  return (state = state * 1664525u + 1013904223u) >> 16;
}

// One piece of work of a random stream, then perhaps another.
void run_some() {
  const auto next = next_random;
  while (next() % 16 < world().settings.eagerness) {
    FakeStream& stream = *world().streams[next() % world().streams.size()];
    drain(stream, stream.done + 1, false);
  }
}

cudaError_t entered(const char* name, const std::string& detail = {}) {
  if (in_host_function) {
    standin::fault(std::string(name) + " inside a host function");
    return cudaErrorNotPermitted;
  }
  const int status = standin::enter(name, detail);
  if (status != 0) world().last = static_cast<cudaError_t>(status);
  return static_cast<cudaError_t>(status);
}

FakeStream* of(cudaStream_t stream) { return reinterpret_cast<FakeStream*>(stream); }
FakeEvent* of(cudaEvent_t event) { return reinterpret_cast<FakeEvent*>(event); }

bool inside(const std::map<const char*, std::size_t>& blocks, const void* data, std::size_t bytes) {
  auto it = blocks.upper_bound(static_cast<const char*>(data));
  if (it == blocks.begin()) return false;
  --it;
  return static_cast<const char*>(data) + bytes <= it->first + it->second;
}

// What CUDA forbids, or what would wait for the device, while work is being recorded: the call is refused, and the
// capture is of no more use.
bool refused_in_capture(const char* name) {
  if (captures_of_this_thread.empty()) return false;
  standin::fault(std::string(name) + " inside a capture");
  for (Capture* capture : captures_of_this_thread) capture->invalid = true;
  world().last = cudaErrorStreamCaptureUnsupported;
  return true;
}

// A graph's work in any order that its dependencies allow, where streams are shuffled; in that of the calls otherwise.
// `done` [nodes]: what has been. False where a piece of it cannot be done yet.
bool run_graph(const std::vector<Node>& nodes, std::vector<bool>& done) {
  if (world().settings.shuffle == 0) {
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (done[i]) continue;
      if (!nodes[i].work()) return false;
      done[i] = true;
    }
    return true;
  }
  for (;;) {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const auto& after = nodes[i].after;
      if (!done[i] && std::all_of(after.begin(), after.end(), [&](std::size_t before) { return done[before]; }))
        ready.push_back(i);
    }
    if (ready.empty()) return true;
    const std::size_t chosen = ready[next_random() % ready.size()];
    if (!nodes[chosen].work()) return false;
    done[chosen] = true;
  }
}

// A call that frees something has done so even where it gives an error: of work that ran before, for one.
cudaError_t left(const char* name) { return entered(name); }

}  // namespace

#define ENTER(...)                                                     \
  const standin::Lock lock;                                              \
  const cudaError_t entry = entered(__func__, std::string{__VA_ARGS__}); \
  if (entry != cudaSuccess) return entry
#define REFUSE_IN_CAPTURE() \
  if (refused_in_capture(__func__)) return cudaErrorStreamCaptureUnsupported

namespace standin {

namespace {
std::recursive_mutex& mutex() {
  static std::recursive_mutex value;
  return value;
}
}  // namespace

Lock::Lock() { mutex().lock(); }
Lock::~Lock() { mutex().unlock(); }

bool refuse_in_capture(const char* function) {
  const Lock lock;
  return refused_in_capture(function);
}
Settings& settings() { return world().settings; }
bool in_graph() { return world().in_graph; }
int enter(const char* function, const std::string& detail) {
  const Lock lock;
  World& w = world();
  w.calls.push_back(detail.empty() ? function : function + (" " + detail));
  if (w.broken != 0) return w.broken;
  if (w.fail_at > 0 && (w.fail_function.empty() || w.fail_function == function) && --w.fail_at == 0) {
    if (w.fail_for_good) w.broken = w.fail_status;
    // A library that fails has often failed in a launch of its own, whose status stays until somebody asks for it.
    if (std::strncmp(function, "cu", 2) == 0 && std::strncmp(function, "cuda", 4) != 0)
      w.last = cudaErrorLaunchOutOfResources;
    return w.fail_status;
  }
  return 0;
}
void fail_call(const std::string& function, int nth, int status, bool for_good) {
  world().fail_for_good = for_good;
  world().fail_function = function;
  world().fail_at = nth;
  world().fail_status = status;
}
std::vector<std::string>& calls() { return world().calls; }
std::size_t calls_of(const std::string& function) {
  std::size_t count = 0;
  for (const std::string& call : world().calls) count += call == function || call.rfind(function + " ", 0) == 0 ? 1 : 0;
  return count;
}
void submit(cudaStream_t stream, std::function<void()> work) {
  submit_when(stream, [work = std::move(work)] {
    work();
    return true;
  });
}
bool is_capturing(cudaStream_t stream) {
  const Lock lock;
  return of(stream)->capture != nullptr;
}
void run_all() {
  const Lock lock;
  drain_all();
}
int current_device() { return device_of_this_thread; }
void submit_when(cudaStream_t stream, std::function<bool()> work) {
  const Lock lock;
  FakeStream& queue = *of(stream);
  if (queue.capture != nullptr) {
    queue.capture->nodes.push_back({std::move(work), queue.latest});
    queue.latest = {queue.capture->nodes.size() - 1};
    return;
  }
  queue.queue.push_back(std::move(work));
  ++queue.submitted;
  if (world().settings.shuffle != 0) {
    run_some();
  } else if (!world().settings.lazy) {
    drain(queue, queue.submitted, false);
  }
}
std::size_t queued() {
  std::size_t count = 0;
  for (const FakeStream* stream : world().streams) count += stream->queue.size();
  return count;
}
void advance_clock(double milliseconds) { world().clock += milliseconds; }
void fault(const std::string& what) {
  if (world().faults.size() < 1000) world().faults.push_back(what);
}
std::vector<std::string>& faults() { return world().faults; }
void ask_about_pointer() {
  if (in_host_function) fault("cudaPointerGetAttributes inside a host function");
}
void count_object(int change) {
  const Lock lock;
  world().objects += change;
}
int live_objects() { return world().objects; }
std::size_t live_bytes() {
  std::size_t pinned = 0;
  for (const auto& block : world().pinned) pinned += block.second;
  return world().device_bytes + pinned;
}
DeviceMemory& device_memory() {
  static DeviceMemory range = [] {
    DeviceMemory made;
    // Addresses alone: pages come as they are touched.
    for (made.size = std::size_t{1} << 42; made.size >= std::size_t{1} << 36; made.size /= 2) {
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      void* base = mmap(nullptr, made.size, PROT_NONE, flags, -1, 0);
      void* written = mmap(nullptr, made.size, PROT_READ | PROT_WRITE, flags, -1, 0);
      if (base != MAP_FAILED && written != MAP_FAILED) {
        made.base = static_cast<char*>(base);
        made.written = static_cast<unsigned char*>(written);
        return made;
      }
      if (base != MAP_FAILED) munmap(base, made.size);
      if (written != MAP_FAILED) munmap(written, made.size);
    }
    std::fputs("stand-in: no addresses for device memory\n", stderr);
    std::abort();
  }();
  return range;
}
const char*& running_kernel() {
  static thread_local const char* name = "";
  return name;
}
bool is_device(const void* data, std::size_t bytes) { return inside(world().device, data, bytes); }
void reset() {
  World& w = world();
  w.settings = {};
  w.calls.clear();
  w.faults.clear();
  w.fail_at = 0;
  w.broken = 0;
  w.clock = 0;
  w.last = cudaSuccess;
}

}  // namespace standin

extern "C" {

// STANDIN_DRIVER in the environment: another version of the driver, as CUDA numbers them.
static int driver_version() {
  const char* version = std::getenv("STANDIN_DRIVER");
  return version == nullptr ? CUDART_VERSION : std::atoi(version);
}

STANDIN_API cudaError_t cudaGetDeviceCount(int* count) {
  ENTER();
  if (driver_version() / 1000 < CUDART_VERSION / 1000) return cudaErrorInsufficientDriver;
  *count = world().settings.devices;
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
STANDIN_API cudaError_t cudaSetDevice(int device) {
  ENTER(std::to_string(device));
  device_of_this_thread = device;
  return device < world().settings.devices ? cudaSuccess : cudaErrorInvalidDevice;
}
STANDIN_API cudaError_t cudaGetDeviceFlags(unsigned* flags) {
  ENTER();
  *flags = world().device_flags;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaSetDeviceFlags(unsigned flags) {
  ENTER(std::to_string(flags));
  world().device_flags = flags;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  ENTER();
  *properties = {};
  std::strcpy(properties->name, "Stand-in GPU");
  properties->major = world().settings.compute_capability_major;
  properties->minor = 0;
  properties->totalGlobalMem = world().settings.memory_limit;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaDriverGetVersion(int* version) {
  ENTER();
  *version = driver_version();
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaDeviceGetPCIBusId(char* out, int size, int) {
  ENTER();
  std::strncpy(out, "0000:00:00.0", static_cast<std::size_t>(size));
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaGetLastError() {
  const cudaError_t last = world().last;
  world().last = cudaSuccess;
  return last;
}
STANDIN_API const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorInjected";
}
STANDIN_API const char* cudaGetErrorString(cudaError_t) { return "an injected error"; }
STANDIN_API cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  ENTER();
  *total = world().settings.memory_limit;
  *free = *total - world().device_bytes;
  return cudaSuccess;
}

// Fresh memory holds NaN, and -1 as an id; of a large block, a workspace, the first part does. Where each byte is known
// to be unwritten, a little is enough.
static std::size_t filled_of(std::size_t bytes) {
  return std::min(bytes, std::size_t{1} << (standin::device_memory().watched ? 16 : 22));
}
constexpr std::size_t kPage = 4096;
static std::size_t pages_of(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

static char* allocate_device(std::size_t bytes) {
  const std::size_t aligned = (bytes + 255) / 256 * 256;  // and no more than CUDA promises
  const standin::DeviceMemory& memory = standin::device_memory();
  if (!memory.watched) return static_cast<char*>(std::aligned_alloc(256, aligned));
  static std::size_t next = 0;
  const std::size_t pages = pages_of(aligned);
  if (next + pages + kPage > memory.size) std::abort();
  char* const first = memory.base + next;
  next += pages + kPage;
  if (mprotect(first, pages, PROT_READ | PROT_WRITE) != 0) std::abort();
  return first + pages - aligned;
}
static void free_device(char* data, std::size_t bytes) {
  const standin::DeviceMemory& memory = standin::device_memory();
  if (!memory.watched) return std::free(data);
  const std::size_t pages = pages_of((bytes + 255) / 256 * 256);
  char* const first = memory.base + (data - memory.base) / kPage * kPage;
  mprotect(first, pages, PROT_NONE);
  madvise(first, pages, MADV_DONTNEED);
  madvise(memory.written + (first - memory.base), pages, MADV_DONTNEED);
}
STANDIN_API cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  REFUSE_IN_CAPTURE();
  ENTER(std::to_string(bytes));
  if (world().device_bytes + bytes > world().settings.memory_limit) {
    world().last = cudaErrorMemoryAllocation;
    return cudaErrorMemoryAllocation;
  }
  *data = allocate_device(bytes);
  std::memset(*data, 0xff, filled_of(bytes));
  world().device[static_cast<char*>(*data)] = bytes;
  world().device_bytes += bytes;
  return cudaSuccess;
}
// It waits for the device: STANDIN_FREE=elsewhere in the environment ends a process that calls it on its main thread.
static void expect_patience() {
  const char* free = std::getenv("STANDIN_FREE");
  if (free == nullptr || std::strcmp(free, "elsewhere") != 0 || gettid() != getpid()) return;
  std::fputs("stand-in: cudaFree on the main thread\n", stderr);
  std::abort();
}
STANDIN_API cudaError_t cudaFree(void* data) {
  expect_patience();
  const standin::Lock freeing;
  REFUSE_IN_CAPTURE();
  drain_all();
  const auto block = world().device.find(static_cast<char*>(data));
  if (block == world().device.end()) {
    standin::fault("cudaFree of what is not device memory");
    return cudaErrorInvalidValue;
  }
  world().device_bytes -= block->second;
  free_device(static_cast<char*>(data), block->second);
  world().device.erase(block);
  return left(__func__);
}
STANDIN_API cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  REFUSE_IN_CAPTURE();
  ENTER(std::to_string(bytes));
  *data = std::malloc(bytes);
  std::memset(*data, 0xff, bytes);
  world().pinned[static_cast<char*>(*data)] = bytes;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaFreeHost(void* data) {
  const standin::Lock freeing;
  REFUSE_IN_CAPTURE();
  drain_all();
  world().pinned.erase(static_cast<char*>(data));
  std::free(data);
  return left(__func__);
}

// The host's writes are not watched: a word of all ones counts as unwritten.
static bool holds_mark(const void* data, std::size_t bytes) {
  const auto* words = static_cast<const char*>(data);
  for (std::size_t at = 0; at + 4 <= bytes; at += 4) {
    std::uint32_t word;
    std::memcpy(&word, words + at, 4);
    if (word == 0xffffffff) return true;
  }
  return false;
}
static void copy_marks(void* to, const void* from, std::size_t bytes) {
  unsigned char* there = standin::written_marks(to);
  const unsigned char* here = standin::written_marks(from);
  if (there != nullptr && here != nullptr) std::memmove(there, here, bytes);
}
STANDIN_API cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                                        cudaStream_t stream) {
  ENTER();
  if (to == nullptr || from == nullptr) standin::fault("a copy from or to nowhere");  // of no bytes, even
  const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
  if (to_device && !standin::is_device(to, bytes)) standin::fault("copy to outside device memory");
  if (from_device && !standin::is_device(from, bytes)) standin::fault("copy from outside device memory");
  if (!from_device && !inside(world().pinned, from, bytes)) {
    // From pageable memory CUDA takes the bytes before it returns.
    auto taken =
        std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    if (of(stream)->capture != nullptr && refused_in_capture("a copy from pageable memory"))
      return cudaErrorStreamCaptureUnsupported;
    standin::submit(stream, [=] {
      std::memcpy(to, taken->data(), bytes);
      standin::mark_written(to, bytes);
    });
  } else {
    const bool pageable = !to_device && !inside(world().pinned, to, bytes);
    if (pageable && of(stream)->capture != nullptr && refused_in_capture("a copy to pageable memory"))
      return cudaErrorStreamCaptureUnsupported;
    standin::submit(stream, [=] {
      if (to_device && from_device) {
        copy_marks(to, from, bytes);  // any bytes may be copied
      } else if (to_device ? holds_mark(from, bytes) : !standin::was_written(from, bytes)) {
        standin::fault(std::string(to_device ? "pinned" : "device") + " memory that nothing wrote is copied");
      }
      std::memmove(to, from, bytes);
      if (to_device && !from_device) standin::mark_written(to, bytes);
    });
    if (pageable) {
      // To pageable memory CUDA returns once the copy is done.
      drain(*of(stream), of(stream)->submitted);
    }
  }
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  ENTER();
  if (!standin::is_device(data, bytes)) standin::fault("memset outside device memory");
  standin::submit(stream, [=] {
    std::memset(data, value, bytes);
    standin::mark_written(data, bytes);
  });
  return cudaSuccess;
}

STANDIN_API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  ENTER();
  standin::submit(stream, [=] {
    in_host_function = true;
    function(data);
    in_host_function = false;
  });
  return cudaSuccess;
}

STANDIN_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  ENTER();
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int priority) {
  ENTER(std::to_string(priority));
  auto* made = new FakeStream;
  world().streams.push_back(made);
  standin::count_object(1);
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const standin::Lock freeing;
  drain_all();
  auto& streams = world().streams;
  streams.erase(std::remove(streams.begin(), streams.end(), of(stream)), streams.end());
  delete of(stream);
  standin::count_object(-1);
  return left(__func__);
}
STANDIN_API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  REFUSE_IN_CAPTURE();
  ENTER();
  drain(*of(stream), of(stream)->submitted);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaStreamQuery(cudaStream_t stream) {
  REFUSE_IN_CAPTURE();
  ENTER();
  drain(*of(stream), of(stream)->submitted, false);
  return of(stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
STANDIN_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  ENTER();
  FakeStream& waiting = *of(stream);
  const FakeEvent& awaited = *of(event);
  if (awaited.capture != nullptr) {
    // The stream comes into the capture with it.
    const auto& live = captures_of_this_thread;
    if (std::find(live.begin(), live.end(), awaited.capture) == live.end()) {
      standin::fault("a wait for an event of another capture");
      return cudaErrorInvalidValue;
    }
    if (waiting.capture == nullptr) {
      waiting.capture = awaited.capture;
      waiting.latest.clear();
      awaited.capture->streams.push_back(&waiting);
    }
    waiting.latest.insert(waiting.latest.end(), awaited.latest.begin(), awaited.latest.end());
    return cudaSuccess;
  }
  if (waiting.capture != nullptr) {
    standin::fault("a wait inside a capture for an event outside it");
    waiting.capture->invalid = true;
    return cudaErrorStreamCaptureIsolation;
  }
  FakeStream* other = awaited.stream;
  const std::size_t position = awaited.position;
  if (other != nullptr) {
    standin::submit_when(stream, [=] {
      drain(*other, position, false);
      return other->done >= position;
    });
  }
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  ENTER();
  *event = reinterpret_cast<cudaEvent_t>(new FakeEvent);
  standin::count_object(1);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const standin::Lock freeing;
  drain_all();
  delete of(event);
  standin::count_object(-1);
  return left(__func__);
}
STANDIN_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ENTER();
  FakeEvent* record = of(event);
  record->capture = of(stream)->capture;
  if (record->capture != nullptr) {
    record->latest = of(stream)->latest;
    return cudaSuccess;
  }
  standin::submit(stream, [=] { record->time = world().clock; });
  record->stream = of(stream);
  record->position = of(stream)->submitted;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  REFUSE_IN_CAPTURE();
  ENTER();
  if (of(event)->capture != nullptr) {
    standin::fault("the host waits for an event of a capture");
    return cudaErrorCapturedEvent;
  }
  if (of(event)->stream != nullptr) drain(*of(event)->stream, of(event)->position);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaEventQuery(cudaEvent_t event) {
  REFUSE_IN_CAPTURE();
  ENTER();
  FakeStream* const stream = of(event)->stream;
  if (stream == nullptr) return cudaSuccess;
  drain(*stream, of(event)->position, false);
  return stream->done >= of(event)->position ? cudaSuccess : cudaErrorNotReady;
}
STANDIN_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  REFUSE_IN_CAPTURE();
  ENTER();
  *milliseconds = static_cast<float>(of(to)->time - of(from)->time);
  return cudaSuccess;
}

STANDIN_API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  ENTER();
  of(stream)->capture = new Capture;
  of(stream)->capture->streams.push_back(of(stream));
  of(stream)->latest.clear();
  captures_of_this_thread.push_back(of(stream)->capture);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const standin::Lock ending;
  const std::unique_ptr<Capture> capture(of(stream)->capture);
  // What the stream comes after, which must be all there is.
  std::vector<bool> before(capture->nodes.size());
  std::vector<std::size_t> open = of(stream)->latest;
  while (!open.empty()) {
    const std::size_t node = open.back();
    open.pop_back();
    if (before[node]) continue;
    before[node] = true;
    open.insert(open.end(), capture->nodes[node].after.begin(), capture->nodes[node].after.end());
  }
  const bool joined = std::find(before.begin(), before.end(), false) == before.end();
  for (FakeStream* each : capture->streams) each->capture = nullptr;
  auto& live = captures_of_this_thread;
  live.erase(std::remove(live.begin(), live.end(), capture.get()), live.end());
  ENTER();
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!joined) return cudaErrorStreamCaptureUnjoined;
  *graph = reinterpret_cast<cudaGraph_t>(
      new FakeGraph{std::make_shared<std::vector<Node>>(std::move(capture->nodes))});
  standin::count_object(1);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const standin::Lock freeing;
  delete reinterpret_cast<FakeGraph*>(graph);
  standin::count_object(-1);
  return left(__func__);
}
STANDIN_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  REFUSE_IN_CAPTURE();
  ENTER();
  *executable = reinterpret_cast<cudaGraphExec_t>(new FakeGraph(*reinterpret_cast<FakeGraph*>(graph)));
  standin::count_object(1);
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const standin::Lock freeing;
  // One that runs is freed when it has run: it is not waited for.
  delete reinterpret_cast<FakeGraph*>(executable);
  standin::count_object(-1);
  return left(__func__);
}
STANDIN_API cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  REFUSE_IN_CAPTURE();
  ENTER();
  reinterpret_cast<FakeGraph*>(executable)->uploaded = true;
  return cudaSuccess;
}
STANDIN_API cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  ENTER();
  const auto nodes = reinterpret_cast<FakeGraph*>(executable)->nodes;
  // CUDA would do it then, in the time of the first replay.
  if (!reinterpret_cast<FakeGraph*>(executable)->uploaded) standin::fault("a graph is launched before it is uploaded");
  standin::submit_when(stream, [nodes, done = std::make_shared<std::vector<bool>>(nodes->size())] {
    world().in_graph = true;
    const bool all = run_graph(*nodes, *done);
    world().in_graph = false;
    return all;
  });
  return cudaSuccess;
}

}  // extern "C"
