#include "cuda/nccl.h"

#include <dlfcn.h>
#include <nccl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "core/error.h"
#include "cuda/check.h"
#include "cuda/elf_file.h"
#include "cuda/library_search.h"

namespace cudnn_lstm::cuda {
namespace {

constexpr const char* kName = "libnccl.so.2";
constexpr const char* kRemedy =
    "install NCCL (pip install nvidia-nccl-cu13, or NVIDIA's package for your system), or name its folder with "
    "CUDNN_LSTM_LIBRARY_PATH";

// Non-blocking calls came with 2.14. Since this version there is no known fault in capturing graphs on some ranks only,
// nor in destroying them.
constexpr int kOldest = NCCL_VERSION(2, 18, 0);

// clang-format off
#define CUDNN_LSTM_NCCL_FUNCTIONS(X) \
  X(ncclGetVersion) \
  X(ncclGetUniqueId) \
  X(ncclCommInitRankConfig) \
  X(ncclCommAbort) \
  X(ncclCommGetAsyncError) \
  X(ncclGetErrorString) \
  X(ncclGetLastError) \
  X(ncclGroupStart) \
  X(ncclGroupEnd) \
  X(ncclAllReduce) \
  X(ncclAllGather) \
  X(ncclBroadcast)
// clang-format on

struct Functions {
#define MEMBER(name) decltype(&::name) name = nullptr;
  CUDNN_LSTM_NCCL_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct Nccl {
  Functions call;
  CudaLibrary library;
};

std::string version_text(int code) {
  const int major = code < 10'000 ? code / 1000 : code / 10'000;
  const int rest = code < 10'000 ? code % 1000 : code % 10'000;
  return std::to_string(major) + "." + std::to_string(rest / 100) + "." + std::to_string(rest % 100);
}

// Throws Error(kDeviceUnavailable). The library stays loaded until the process ends.
std::shared_ptr<const Nccl> open_nccl(const std::string& library_path, std::vector<std::string>& searched) {
  const SearchPlan plan = search_plan(library_path);
  std::string problems;
  const auto fail = [&](const std::string& problem) {
    searched.push_back("NCCL: " + problem);
    problems += (problems.empty() ? "" : "; ") + problem;
  };
  for (const SearchFolder& folder : plan.folders) {
    const std::string path = folder.path + "/" + kName;
    std::error_code error;
    if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) continue;
    const std::string fault = shared_library_fault(path, kName);
    if (!fault.empty()) {
      fail(path + ": " + fault);
      continue;
    }
    void* const opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (opened == nullptr) {
      const char* reason = dlerror();
      fail(path + " could not be opened: " + (reason ? reason : "unknown reason"));
      continue;
    }
    auto nccl = std::make_shared<Nccl>();
    std::string missing;
    const auto resolve = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(opened, name));
      if (function == nullptr && missing.empty()) missing = name;
    };
#define RESOLVE(name) resolve(#name, nccl->call.name);
    CUDNN_LSTM_NCCL_FUNCTIONS(RESOLVE)
#undef RESOLVE
    int version = 0;
    if (!missing.empty()) {
      fail(path + " has no function " + missing);
    } else if (nccl->call.ncclGetVersion(&version) != ncclSuccess || version < kOldest) {
      fail(path + " is NCCL " + version_text(version) + ", and " + version_text(kOldest) + " or newer is needed");
    } else {
      nccl->library = {version_text(version), path};
      searched.push_back("NCCL " + nccl->library.version + ": " + path);
      return nccl;
    }
  }
  if (problems.empty()) fail(std::string(kName) + " was not found");
  throw Error(kDeviceUnavailable, "NCCL cannot be used: " + problems + "; " + kRemedy);
}

// An NCCL communicator on the thread's device. No call waits for another rank without end, unless patience is 0: what
// NCCL has not done at once is polled until the patience runs out. One call at a time.
class Comm {
 public:
  // All ranks must construct theirs. Throws Error.
  Comm(std::shared_ptr<const Nccl> nccl, const ncclUniqueId& id, int rank, int size, std::chrono::milliseconds patience)
      : nccl_(std::move(nccl)), patience_(patience) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      settle(nccl_->call.ncclCommInitRankConfig(&comm_, size, id, rank, &config));
    } catch (const Error&) {
      give_up();
      throw;
    }
  }
  ~Comm() { give_up(); }
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  static ncclUniqueId make_id(const Nccl& nccl) {
    ncclUniqueId id;
    const ncclResult_t result = nccl.call.ncclGetUniqueId(&id);
    if (result == ncclSuccess) return id;
    throw Error(kDeviceUnavailable, std::string("NCCL: ") + nccl.call.ncclGetErrorString(result) + ": " +
                                        nccl.call.ncclGetLastError(nullptr));
  }

  // Aborts what is in progress; no work can be queued afterwards. The destructor does the same, since this does not
  // wait for the other ranks. Graphs that contain its work must be gone: NCCL waits for their end.
  void give_up() {
    if (comm_ != nullptr) nccl_->call.ncclCommAbort(std::exchange(comm_, nullptr));
  }

  // Queues the calls that `work` makes as one group.
  template <class Work>
  void queue(const Work& work) {
    if (comm_ == nullptr) throw Error(kDeviceFailed, "NCCL: the ranks have been given up");
    check(nccl_->call.ncclGroupStart());
    const ncclResult_t queued = work(nccl_->call, comm_);
    const ncclResult_t ended = nccl_->call.ncclGroupEnd();
    settle(queued != ncclSuccess && queued != ncclInProgress ? queued : ended);
  }

  // Waits for queued work by polling `query`; cudaErrorNotReady means not yet.
  template <class Query>
  void wait(const Query& query) {
    const auto began = Clock::now();
    for (cudaError_t status = query(); status != cudaSuccess; status = query()) {
      if (status != cudaErrorNotReady) CHECK_CUDA(status);
      cudaGetLastError();
      if (comm_ != nullptr) check(state());
      rest(began);
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  // ncclInProgress while a call is in progress.
  ncclResult_t state() {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = nccl_->call.ncclCommGetAsyncError(comm_, &state);
    return asked == ncclSuccess ? state : asked;
  }
  void settle(ncclResult_t result) {
    const auto began = Clock::now();
    for (; result == ncclInProgress; result = state()) rest(began);
    check(result);
  }
  void check(ncclResult_t result) {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const std::string text = nccl_->call.ncclGetErrorString(result);
    const char* last = nccl_->call.ncclGetLastError(comm_);
    const std::string more = last == nullptr || *last == '\0' ? "" : std::string(": ") + last;
    throw Error(kDeviceFailed, "NCCL: " + text + more);
  }
  void rest(Clock::time_point began) {
    const auto waited = Clock::now() - began;
    if (patience_.count() > 0 && waited > patience_) {
      char text[160];
      std::snprintf(
          text, sizeof text,
          "NCCL: the other ranks did not answer in %g s: one hangs, or its machine is gone (CUDNN_LSTM_TIMEOUT "
          "sets how long to wait)",
          static_cast<double>(patience_.count()) / 1000);
      throw Error(kDeviceFailed, text);
    }
    // A step takes milliseconds: at first poll again at once, then leave the core to others.
    if (waited < kEager) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
  static constexpr std::chrono::microseconds kEager{50}, kPause{50};

  const std::shared_ptr<const Nccl> nccl_;
  const std::chrono::milliseconds patience_;
  ncclComm_t comm_ = nullptr;
};

// Ranks with one GPU each and no MPI: their control traffic, a few bytes before each call, goes over NCCL too.
class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<const Nccl> nccl, const NcclJob& job) : job_(job) {
    use_device(job.ordinal);
    stream_ = make_stream();
    const std::size_t bytes = (static_cast<std::size_t>(job.size) + 1) * kPiece;
    device_ = DeviceBuffer(account_, bytes, "what ranks say to one another");
    host_ = PinnedBuffer(account_, bytes, "what ranks say to one another");
    const ncclUniqueId id = Comm::make_id(*nccl);  // from the address in NCCL_COMM_ID, where rank 0 listens
    comm_ = std::make_shared<Comm>(std::move(nccl), id, job.rank, job.size, job.patience);
  }
  ~NcclCommunicator() override {
    cudaSetDevice(job_.ordinal);
    cudaStreamSynchronize(stream_.get());
  }

  int rank() const override { return job_.rank; }
  int size() const override { return job_.size; }
  int local_rank() const override { return job_.local_rank; }
  int local_size() const override { return job_.local_size; }
  std::chrono::milliseconds patience() const override { return job_.patience; }

  void sum(float* values, std::size_t count) override {
    const std::size_t room = device_.bytes() / sizeof(float);
    for (std::size_t at = 0; at < count; at += room) {
      const std::size_t some = std::min(room, count - at);
      exchange(values + at, some * sizeof(float), values + at, some * sizeof(float), 0, [&](auto& call, auto comm) {
        return call.ncclAllReduce(device_.data(), device_.data(), some, ncclFloat32, ncclSum, comm, stream_.get());
      });
    }
  }
  void gather(const void* mine, std::size_t bytes, void* all) override {
    std::vector<char> pieces(kPiece * job_.size);
    for (std::size_t at = 0; at < bytes; at += kPiece) {
      const std::size_t some = std::min(kPiece, bytes - at);
      exchange(static_cast<const char*>(mine) + at, some, pieces.data(), some * job_.size, kPiece,
               [&](auto& call, auto comm) {
                 return call.ncclAllGather(device_.data(), device_.as<char>() + kPiece, some, ncclUint8, comm,
                                           stream_.get());
               });
      for (int rank = 0; rank < job_.size; ++rank)
        std::memcpy(static_cast<char*>(all) + rank * bytes + at, pieces.data() + rank * some, some);
    }
  }
  void broadcast(void* data, std::size_t bytes) override {
    for (std::size_t at = 0; at < bytes; at += kPiece) {
      const std::size_t some = std::min(kPiece, bytes - at);
      char* const piece = static_cast<char*>(data) + at;
      exchange(piece, some, piece, some, 0, [&](auto& call, auto comm) {
        return call.ncclBroadcast(device_.data(), device_.data(), some, ncclUint8, 0, comm, stream_.get());
      });
    }
  }
  void barrier() override {
    std::vector<char> all(job_.size);
    gather(all.data(), 1, all.data());
  }
  bool finish() override {
    barrier();
    return true;
  }
  // Whoever started the ranks ends the others; NCCL does not.
  [[noreturn]] void abort(int code) override { std::_Exit(code); }

  const std::shared_ptr<Comm>& comm() const { return comm_; }

 private:
  static constexpr std::size_t kPiece = std::size_t{1} << 16;

  // Copies `given` to the device, queues `work`, and copies its result from offset `from` into `taken`.
  template <class Work>
  void exchange(const void* given, std::size_t bytes, void* taken, std::size_t taken_bytes, std::size_t from,
                const Work& work) {
    use_device(job_.ordinal);
    std::memcpy(host_.data(), given, bytes);
    CHECK_CUDA(cudaMemcpyAsync(device_.data(), host_.data(), bytes, cudaMemcpyHostToDevice, stream_.get()));
    comm_->queue(work);
    CHECK_CUDA(cudaMemcpyAsync(host_.as<char>() + from, device_.as<char>() + from, taken_bytes, cudaMemcpyDeviceToHost,
                               stream_.get()));
    comm_->wait([&] { return cudaStreamQuery(stream_.get()); });
    std::memcpy(taken, host_.as<char>() + from, taken_bytes);
  }

  const NcclJob job_;
  MemoryAccount account_;
  Stream stream_;
  DeviceBuffer device_;
  PinnedBuffer host_;
  std::shared_ptr<Comm> comm_;
};

class NcclSum final : public RankSum {
 public:
  NcclSum(std::shared_ptr<Comm> comm, std::size_t count) : comm_(std::move(comm)), count_(count) {}

  void enqueue(float* values, double* nats, cudaStream_t stream) override {
    comm_->queue([&](const Functions& call, ncclComm_t comm) {
      const ncclResult_t first = call.ncclAllReduce(values, values, count_, ncclFloat32, ncclSum, comm, stream);
      if (first != ncclSuccess && first != ncclInProgress) return first;
      return call.ncclAllReduce(nats, nats, 1, ncclFloat64, ncclSum, comm, stream);
    });
  }
  void wait(cudaStream_t stream) override {
    comm_->wait([=] { return cudaStreamQuery(stream); });
  }
  void wait(cudaEvent_t event) override {
    comm_->wait([=] { return cudaEventQuery(event); });
  }
  void check() override {}  // wait() has thrown any failure
  void give_up() override { comm_->give_up(); }

 private:
  const std::shared_ptr<Comm> comm_;
  const std::size_t count_;
};

}  // namespace

std::optional<CudaLibrary> find_nccl(const std::string& library_path, std::vector<std::string>& searched) {
  try {
    return open_nccl(library_path, searched)->library;
  } catch (const Error&) {
    return std::nullopt;  // `searched` says why
  }
}

std::unique_ptr<RankSum> sum_by_nccl(Communicator& ranks, std::size_t count, const std::string& library_path) {
  if (auto* const joined = dynamic_cast<NcclCommunicator*>(&ranks)) {
    return std::make_unique<NcclSum>(joined->comm(), count);
  }
  std::vector<std::string> searched;
  auto nccl = open_nccl(library_path, searched);
  ncclUniqueId id{};
  if (ranks.rank() == 0) id = Comm::make_id(*nccl);
  ranks.broadcast(&id, sizeof id);
  return std::make_unique<NcclSum>(
      std::make_shared<Comm>(std::move(nccl), id, ranks.rank(), ranks.size(), ranks.patience()), count);
}

void prepare_nccl(const std::string& address) { setenv("NCCL_COMM_ID", address.c_str(), 0); }

JoinedByNccl join_by_nccl(const NcclJob& job, const std::string& library_path) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status != cudaSuccess || count == 0) {
    throw Error(kDeviceUnavailable, "no usable GPU: " + cuda_info(library_path).reason);
  }
  if (job.ordinal >= count) {
    throw Error(kDeviceUnavailable, "there is no GPU " + std::to_string(job.ordinal) +
                                        " for this rank: the machine has " + std::to_string(count));
  }
  std::vector<std::string> searched;
  auto nccl = open_nccl(library_path, searched);
  const CudaLibrary library = nccl->library;
  return {std::make_shared<NcclCommunicator>(std::move(nccl), job), library};
}

}  // namespace cudnn_lstm::cuda
