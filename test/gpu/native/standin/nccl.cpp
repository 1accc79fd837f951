// NCCL's calls that the backend uses, between processes of one machine that share memory. As the real library it takes
// communicators that do not wait, and says so at once: a call is under way until it has been asked for twice. It makes a
// fault of ranks that queue different work, or record it on some of them only, of a communicator that ends before the
// graphs that hold its work, of one whose call is under way, and of the wrong device.
#include <fcntl.h>
#include <nccl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "standin.h"

namespace {

constexpr int kMostRanks = 8;
constexpr std::size_t kSlot = std::size_t{1} << 22;

struct Description {
  int kind, type, operation;
  int recorded;
  std::size_t count;
};
struct Shared {
  std::atomic<int> joined;
  std::atomic<int> devices[kMostRanks];  // plus one
  std::atomic<std::uint64_t> arrived[kMostRanks], left[kMostRanks];
  Description descriptions[kMostRanks];
  char slots[kMostRanks][kSlot];
};

struct Comm {
  Shared* shared = nullptr;
  std::string name;
  int rank = 0, size = 0, device = 0;
  std::uint64_t done = 0;  // operations
  bool aborted = false;
  bool joined = false;
  int asked = 0;     // since the last call began; it is under way until it has been asked for twice
  int recorded = 0;  // pieces of work that graphs hold
  std::string error;
  ncclResult_t state = ncclSuccess;
};

enum Kind { kSum, kGather, kBroadcast };
struct Operation {
  Kind kind;
  const void* from;
  void* to;
  std::size_t count;
  ncclDataType_t type;
  int root;
};

std::size_t size_of(ncclDataType_t type) { return type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 1; }

template <class T>
void add(const Comm& comm, void* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    T sum = 0;
    for (int rank = 0; rank < comm.size; ++rank) sum += reinterpret_cast<const T*>(comm.shared->slots[rank])[i];
    static_cast<T*>(to)[i] = sum;
  }
}

// Operations that were queued as one. Kept by the stream, or by a graph that runs it many times.
class Group {
 public:
  Group(std::shared_ptr<Comm> comm, std::vector<Operation> operations, bool recorded)
      : comm_(std::move(comm)), operations_(std::move(operations)), recorded_(recorded) {
    if (recorded_) ++comm_->recorded;
  }
  ~Group() {
    if (recorded_) --comm_->recorded;
  }
  // False where other ranks have not come yet.
  bool run() {
    for (; at_ < operations_.size(); ++at_) {
      if (comm_->aborted) break;
      if (!run(operations_[at_])) return false;
    }
    at_ = 0;
    return true;
  }

 private:
  bool run(const Operation& operation) {
    Comm& comm = *comm_;
    Shared& shared = *comm.shared;
    const std::uint64_t now = comm.done + 1;
    const std::size_t bytes = operation.count * size_of(operation.type);
    if (shared.arrived[comm.rank] < now) {
      // Others may still read what the operation before left here.
      for (int rank = 0; rank < comm.size; ++rank)
        if (shared.left[rank] + 1 < now) return false;
      if (operation.from != nullptr && !standin::was_written(operation.from, bytes))
        standin::fault("NCCL reads memory that nothing wrote");
      std::memcpy(shared.slots[comm.rank], operation.from, bytes);
      shared.descriptions[comm.rank] = {operation.kind, operation.type, operation.root, recorded_ ? 1 : 0,
                                        operation.count};
      shared.arrived[comm.rank] = now;
    }
    for (int rank = 0; rank < comm.size; ++rank)
      if (shared.arrived[rank] < now) return false;
    const Description& mine = shared.descriptions[comm.rank];
    for (int rank = 0; rank < comm.size; ++rank) {
      const Description& other = shared.descriptions[rank];
      if (other.kind != mine.kind || other.type != mine.type || other.operation != mine.operation ||
          other.count != mine.count)
        standin::fault("ranks have queued different operations of NCCL");
      if (other.recorded != mine.recorded) standin::fault("an operation of NCCL is recorded on some ranks only");
    }
    if (operation.kind == kSum) {
      if (operation.type == ncclFloat32) add<float>(comm, operation.to, operation.count);
      else add<double>(comm, operation.to, operation.count);
      standin::mark_written(operation.to, bytes);
    } else if (operation.kind == kGather) {
      for (int rank = 0; rank < comm.size; ++rank)
        std::memcpy(static_cast<char*>(operation.to) + rank * bytes, shared.slots[rank], bytes);
      standin::mark_written(operation.to, bytes * comm.size);
    } else {
      std::memcpy(operation.to, shared.slots[operation.root], bytes);
      standin::mark_written(operation.to, bytes);
    }
    comm.done = now;
    shared.left[comm.rank] = now;
    return true;
  }

  const std::shared_ptr<Comm> comm_;
  const std::vector<Operation> operations_;
  const bool recorded_;
  std::size_t at_ = 0;
};

struct Handle {
  std::shared_ptr<Comm> comm;
};
Handle* of(ncclComm_t comm) { return reinterpret_cast<Handle*>(comm); }

// A group that is being queued, of one communicator and stream.
thread_local int depth = 0;
thread_local std::vector<Operation> queued;
thread_local std::shared_ptr<Comm> queued_on;
thread_local cudaStream_t queued_stream = nullptr;
thread_local ncclResult_t queued_status = ncclSuccess;

void begin(Comm& comm) {
  comm.state = ncclInProgress;
  comm.asked = 0;
}

ncclResult_t submit() {
  if (queued_on == nullptr) return ncclSuccess;
  const std::shared_ptr<Comm> comm = std::move(queued_on);
  queued_on = nullptr;
  std::vector<Operation> operations = std::move(queued);
  queued.clear();
  if (queued_status != ncclSuccess) return queued_status;
  const auto group =
      std::make_shared<Group>(comm, std::move(operations), standin::is_capturing(queued_stream));
  standin::submit_when(queued_stream, [group] { return group->run(); });
  begin(*comm);
  return ncclInProgress;
}

ncclResult_t queue(const char* name, ncclComm_t handle, const Operation& operation, std::size_t received,
                   cudaStream_t stream) {
  const standin::Lock lock;
  const int entry = standin::enter(name, std::to_string(operation.count));
  if (entry != 0) return queued_status = static_cast<ncclResult_t>(entry);
  const auto refuse = [&](const std::string& what) {
    standin::fault(std::string(name) + ": " + what);
    return queued_status = ncclInvalidArgument;
  };
  if (handle == nullptr || of(handle)->comm->aborted) return refuse("no communicator");
  const std::shared_ptr<Comm>& comm = of(handle)->comm;
  if (comm->state == ncclInProgress) return refuse("a call of the communicator is under way");
  if (comm->device != standin::current_device()) return refuse("another device than the communicator's");
  const std::size_t size = size_of(operation.type), bytes = operation.count * size;
  if (operation.count == 0 || bytes > kSlot) return refuse("a size that the stand-in has no room for");
  if (!standin::is_device(operation.from, bytes) || !standin::is_device(operation.to, received * size))
    return refuse("memory that is not the device's");
  if (reinterpret_cast<std::uintptr_t>(operation.from) % size != 0 || reinterpret_cast<std::uintptr_t>(operation.to) % size != 0)
    return refuse("a pointer that is not aligned");
  if (queued_on != nullptr && (queued_on != comm || queued_stream != stream)) return refuse("a group of two streams");
  queued_on = comm;
  queued_stream = stream;
  queued.push_back(operation);
  return depth > 0 ? ncclSuccess : submit();
}

}  // namespace

#define ENTER()                                     \
  const standin::Lock lock;                         \
  const int entry = standin::enter(__func__);       \
  if (entry != 0) return static_cast<ncclResult_t>(entry)

extern "C" {

STANDIN_API ncclResult_t ncclGetVersion(int* version) {
  const char* other = std::getenv("STANDIN_NCCL");  // in the environment: another version
  *version = other == nullptr ? NCCL_VERSION_CODE : std::atoi(other);
  return ncclSuccess;
}
STANDIN_API const char* ncclGetErrorString(ncclResult_t) { return "an injected status"; }
STANDIN_API const char* ncclGetLastError(ncclComm_t comm) { return comm == nullptr ? "" : of(comm)->comm->error.c_str(); }

STANDIN_API ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  ENTER();
  static int made = 0;
  const char* address = std::getenv("NCCL_COMM_ID");
  // Of one launcher's processes, so that nothing is left of others.
  const std::string name = address != nullptr ? std::string(address) + "-" + std::to_string(getppid())
                                              : std::to_string(getpid()) + "-" + std::to_string(made++);
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "/standin-nccl-%s", name.c_str());
  return ncclSuccess;
}

STANDIN_API ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                                ncclConfig_t* config) {
  ENTER();
  if (config == nullptr || config->magic != NCCL_API_MAGIC || config->blocking != 0) {
    standin::fault("a communicator of NCCL's that waits");
    return ncclInvalidArgument;
  }
  if (rank < 0 || rank >= size || size > kMostRanks) {
    standin::fault("a rank that is none");
    return ncclInvalidArgument;
  }
  auto made = std::make_shared<Comm>();
  made->name = id.internal;
  made->rank = rank;
  made->size = size;
  made->device = standin::current_device();
  const int file = shm_open(made->name.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return ncclSystemError;
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  made->shared = static_cast<Shared*>(memory);
  made->shared->devices[rank] = made->device + 1;
  ++made->shared->joined;
  begin(*made);
  *comm = reinterpret_cast<ncclComm_t>(new Handle{made});
  standin::count_object(1);
  return ncclInProgress;
}

STANDIN_API ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* state) {
  ENTER();
  Comm& comm = *of(handle)->comm;
  if (comm.state == ncclInProgress && ++comm.asked >= 2 && comm.shared->joined >= comm.size) {
    comm.state = ncclSuccess;
    if (!comm.joined) {
      comm.joined = true;
      if (comm.rank == 0) shm_unlink(comm.name.c_str());
      for (int rank = 0; rank < comm.size; ++rank) {
        if (rank == comm.rank || comm.shared->devices[rank] != comm.device + 1) continue;
        comm.error = "Duplicate GPU detected : rank " + std::to_string(comm.rank) + " and rank " + std::to_string(rank) +
                     " both on CUDA device " + std::to_string(comm.device);
        comm.state = ncclInvalidUsage;
      }
    }
  }
  *state = comm.state;
  return ncclSuccess;
}

STANDIN_API ncclResult_t ncclCommAbort(ncclComm_t handle) {
  const standin::Lock lock;
  Comm& comm = *of(handle)->comm;
  comm.aborted = true;
  standin::run_all();  // what waited for other ranks ends, and graphs with it that were destroyed while they ran
  if (comm.recorded > 0) standin::fault("a communicator of NCCL's ends before the graphs that hold its work");
  if (!comm.joined) shm_unlink(comm.name.c_str());
  delete of(handle);
  standin::count_object(-1);
  return static_cast<ncclResult_t>(standin::enter(__func__));
}

STANDIN_API ncclResult_t ncclGroupStart() {
  ENTER();
  ++depth;
  queued_status = ncclSuccess;
  return ncclSuccess;
}
STANDIN_API ncclResult_t ncclGroupEnd() {
  const standin::Lock lock;
  if (depth == 0) {
    standin::fault("the end of a group that has not begun");
    return ncclInvalidUsage;
  }
  const int entry = standin::enter(__func__);
  if (--depth > 0) return ncclSuccess;
  const ncclResult_t submitted = submit();
  return entry != 0 ? static_cast<ncclResult_t>(entry) : submitted;
}

STANDIN_API ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                                       ncclComm_t comm, cudaStream_t stream) {
  if (operation != ncclSum || (type != ncclFloat32 && type != ncclFloat64)) {
    standin::fault("a reduction that the stand-in does not know");
    return ncclInvalidArgument;
  }
  return queue(__func__, comm, {kSum, from, to, count, type, 0}, count, stream);
}
STANDIN_API ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                                       cudaStream_t stream) {
  const std::size_t all = comm == nullptr ? count : count * of(comm)->comm->size;
  return queue(__func__, comm, {kGather, from, to, count, type, 0}, all, stream);
}
STANDIN_API ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                                       ncclComm_t comm, cudaStream_t stream) {
  return queue(__func__, comm, {kBroadcast, from, to, count, type, root}, count, stream);
}

}  // extern "C"
