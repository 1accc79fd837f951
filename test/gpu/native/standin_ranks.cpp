// Several ranks, each a process with a GPU of its own, train what one process trains.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/communicator.h"
#include "core/error.h"
#include "cuda/nccl.h"
#include "standin_case.h"
#include "standin_suites.h"

namespace {

constexpr std::size_t kSlot = std::size_t{1} << 20;  // bytes that a rank can hand over

// Ranks of one machine, over memory that they share.
class SharedRanks final : public Communicator {
 public:
  struct Memory {
    pthread_barrier_t barrier;
    alignas(64) char slots[1];
  };
  static Memory* make(int size) {
    void* memory = mmap(nullptr, sizeof(Memory) + static_cast<std::size_t>(size) * kSlot, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* made = new (memory) Memory;
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&made->barrier, &attributes, static_cast<unsigned>(size));
    return made;
  }

  SharedRanks(Memory* memory, int rank, int size) : memory_(memory), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return rank_; }
  int local_size() const override { return size_; }
  std::chrono::milliseconds patience() const override { return patience_; }
  void sum(float* values, std::size_t count) override {
    standin::ask_about_pointer();
    if (fail_sums > 0 && --fail_sums == 0) throw Error(kDeviceFailed, "an injected failure");
    std::memcpy(slot(rank_), values, count * sizeof(float));
    barrier();
    for (std::size_t i = 0; i < count; ++i) {
      float total = 0;
      for (int rank = 0; rank < size_; ++rank) total += reinterpret_cast<const float*>(slot(rank))[i];
      values[i] = total;
    }
    barrier();
  }
  void gather(const void* mine, std::size_t bytes, void* all) override {
    standin::ask_about_pointer();
    std::memcpy(slot(rank_), mine, bytes);
    barrier();
    for (int rank = 0; rank < size_; ++rank) std::memcpy(static_cast<char*>(all) + rank * bytes, slot(rank), bytes);
    barrier();
  }
  void broadcast(void* data, std::size_t bytes) override {
    if (rank_ == 0) std::memcpy(slot(0), data, bytes);
    barrier();
    std::memcpy(data, slot(0), bytes);
    barrier();
  }
  void barrier() override { pthread_barrier_wait(&memory_->barrier); }
  bool finish() override { return true; }
  [[noreturn]] void abort(int code) override { _exit(code); }

  std::chrono::milliseconds patience_{0};
  int fail_sums = 0;  // the nth sum from now on throws

 private:
  char* slot(int rank) const { return memory_->slots + rank * kSlot; }
  Memory* memory_;
  int rank_, size_;
};

// body(ranks) in a process a rank; their failures count here.
void in_ranks(int size, const std::function<void(SharedRanks&)>& body) {
  SharedRanks::Memory* memory = SharedRanks::make(size);
  std::fflush(stdout);
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t child = fork();
    if (child == 0) {
      failures() = 0;
      SharedRanks ranks(memory, rank, size);
      try {
        body(ranks);
      } catch (const Error& error) {
        expect(false, error.what());
      }
      expect_clean("rank");
      std::fflush(stdout);
      _exit(failures() == 0 ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a rank failed");
  }
}

struct Share {
  int first, count;
};
// Whole blocks of 16 sequences.
Share share_of(int batch, int rank, int size) {
  const int blocks = (batch + 15) / 16;
  const int begin = std::min(batch, blocks * rank / size * 16), end = std::min(batch, blocks * (rank + 1) / size * 16);
  return {begin, end - begin};
}

// The columns of a share, of `count` steps.
std::vector<std::int32_t> columns(const std::vector<std::int32_t>& ids, int batch, const Share& share) {
  std::vector<std::int32_t> own;
  for (std::size_t row = 0; row < ids.size() / batch; ++row) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(row) * batch + share.first;
    own.insert(own.end(), begin, begin + share.count);
  }
  return own;
}

// A model of one rank, on a GPU of its own.
std::unique_ptr<Backend> make_shared_cuda(const ModelSpec& spec, int rank, bool nccl,
                                          cuda::Precision precision = cuda::Precision::fp32) {
  cuda::CudaOptions options;
  options.ordinal = nccl ? rank : 0;
  options.nccl = nccl;
  options.precision = precision;
  options.library_path = library_folder;
  return cuda::create_cuda_backend(spec, options);
}

void train_like_one(int size, int batch, const ModelSpec& spec, Target target, bool carry, cuda::Precision precision,
                    bool nccl) {
  begin_case(std::to_string(size) + " ranks train what one process does: batch " + std::to_string(batch) + ", layers " +
             std::to_string(spec.layers) + ", dropout " + std::to_string(spec.dropout) +
             (target == Target::last ? ", last" : ", every") + (carry ? ", carried" : "") + ", precision " +
             std::to_string(static_cast<int>(precision)) + (nccl ? ", NCCL" : ", host"));
  standin::reset();
  const int steps = 4, count = 6;
  const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 7);
  std::vector<OptimizerStep> optimizers(count, kOptimizer);
  const double bound = precision == cuda::Precision::fp32 ? 1e-4 : 3e-2;
  SharedRanks::Memory* memory = SharedRanks::make(size);
  in_ranks(size + 1, [&](SharedRanks& all) {
    // The last of these processes is the one that trains alone, and says what comes of it.
    std::vector<StepResult> results(count);
    standin::settings().devices = size + 1;
    auto gpu = make_shared_cuda(spec, all.rank(), nccl && all.rank() < size, precision);
    initialize_one(*gpu);
    const std::size_t parameters = gpu->layout().size();
    std::vector<float> mine(parameters + 2 * count), every(mine.size() * all.size());
    if (all.rank() == size) {
      gpu->train_steps({ids.data(), steps, batch, target, carry}, optimizers.data(), count, results.data(), kNeverStop);
      all.barrier();
    } else {
      SharedRanks ranks(memory, all.rank(), size);
      const Share share = share_of(batch, ranks.rank(), size);
      const auto own = columns(ids, batch, share);
      const Batch shared{own.data(), steps, share.count, target, carry, &ranks, share.first, batch};
      // In three calls: as they are, recorded, replayed. All work runs as late as it may.
      standin::settings().lazy = true;
      const std::size_t stride = static_cast<std::size_t>(steps + 1) * share.count;
      int done = 0;
      for (const int some : {1, 2, 3}) {
        Batch part = shared;
        part.ids += done * stride;
        done += gpu->train_steps(part, optimizers.data() + done, some, results.data() + done, kNeverStop);
      }
      expect(done == count, "steps");
      // The sums of the first step, and those that are recorded; the host is asked nothing while the steps run.
      const std::size_t queued = standin::calls_of("ncclAllReduce");
      expect(queued == (nccl ? 4u : 0u), "sums by NCCL that were queued: " + std::to_string(queued));
      expect(standin::calls_of("cudaGraphLaunch") == 5, "replays");
      expect(standin::calls_of("cudaLaunchHostFunc") == (nccl ? 0u : 2u), "sums by the host");
      expect(gpu->description().find("over " + std::to_string(size) + " ranks") != std::string::npos, gpu->description());
      if (carry && share.count > 0) {
        expect(gpu->slot_size(Slot::training_state) == static_cast<std::size_t>(2) * spec.layers * share.count * spec.hidden,
               "the state of its share");
      }
      all.barrier();
    }
    gpu->read(Slot::parameters, mine.data());
    for (int i = 0; i < count; ++i) {
      mine[parameters + 2 * i] = static_cast<float>(results[i].loss);
      mine[parameters + 2 * i + 1] = static_cast<float>(results[i].gradient_norm);
    }
    all.gather(mine.data(), mine.size() * sizeof(float), every.data());
    const auto of = [&](int rank) {
      const auto begin = every.begin() + static_cast<std::ptrdiff_t>(rank * mine.size());
      return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(mine.size()));
    };
    if (all.rank() != 0) return;
    for (int rank = 1; rank < size; ++rank) expect(of(rank) == of(0), "another model on rank " + std::to_string(rank));
    expect_close(of(size), of(0), bound, "parameters, losses and norms");
  });
}

constexpr int kSteps = 4, kBatch = 32;

// Two ranks that sum by NCCL; `body` gets a model and its half of a batch.
void with_nccl(const char* name, const ModelSpec& spec,
               const std::function<void(SharedRanks&, Backend&, const Batch&)>& body) {
  begin_case(name);
  standin::reset();
  const auto ids = make_ids((kSteps + 1) * kBatch / 2, spec.vocabulary, 7);
  in_ranks(2, [&](SharedRanks& ranks) {
    standin::settings().devices = 2;
    auto gpu = make_shared_cuda(spec, ranks.rank(), true);
    initialize_one(*gpu);
    body(ranks, *gpu, {ids.data(), kSteps, kBatch / 2, Target::every, false, &ranks, kBatch / 2 * ranks.rank(), kBatch});
    gpu.reset();
    if (ranks.rank() == 0) expect_nothing_left();
  });
}

int train_once(Backend& gpu, const Batch& batch) {
  StepResult result;
  return gpu.train_steps(batch, &kOptimizer, 1, &result, kNeverStop);
}

// The error's text, which holds `expected`.
void expect_error(const std::function<void()>& work, const std::string& expected) {
  try {
    work();
    expect(false, "no error: " + expected);
  } catch (const Error& error) {
    expect(std::string(error.what()).find(expected) != std::string::npos, error.what());
  }
}

void check_nccl(const ModelSpec& spec) {
  with_nccl("a rank cannot record the step: no rank replays it", spec,
            [](SharedRanks& ranks, Backend& gpu, const Batch& batch) {
              if (ranks.rank() == 1) standin::fail_call("cudaStreamBeginCapture", 1, cudaErrorUnknown);
              for (int i = 0; i < 4; ++i) expect(train_once(gpu, batch) == 1, "a step");
              expect(standin::calls_of("cudaGraphLaunch") == 0, "no replay");
              expect(gpu.description().find("without") != std::string::npos, gpu.description());
            });

  with_nccl("a rank has lost its graph: all record it anew", spec,
            [](SharedRanks& ranks, Backend& gpu, const Batch& batch) {
              for (int i = 0; i < 3; ++i) train_once(gpu, batch);
              expect(standin::calls_of("cudaGraphLaunch") == 2, "replays");
              // Rank 0 alone draws texts, of so many shapes that other plans would have to go.
              for (int streams = 1; streams <= 14 && ranks.rank() == 0; ++streams) {
                const std::vector<std::int32_t> ids(streams);
                std::vector<float> logits(streams * gpu.spec().vocabulary);
                gpu.next_logits(ids.data(), 1, streams, logits.data());
              }
              const std::size_t before = standin::calls_of("ncclAllReduce");
              for (int i = 0; i < 2; ++i) expect(train_once(gpu, batch) == 1, "a step");
              expect(standin::calls_of("ncclAllReduce") == before, "the graph is still there");
            });

  with_nccl("two ranks with one GPU are refused", spec, [&](SharedRanks& ranks, Backend&, const Batch& batch) {
    auto same = make_shared_cuda(spec, 0, true);
    expect_error([&] { train_once(*same, batch); }, "Duplicate GPU detected");
    ranks.barrier();
  });

  for (const char* const call : {"ncclGetUniqueId", "ncclCommInitRankConfig", "ncclGroupStart", "ncclAllReduce", "ncclGroupEnd"}) {
    // On all ranks: one alone would leave the others waiting, which the next case is about.
    with_nccl((std::string(call) + " fails").c_str(), spec, [&](SharedRanks& ranks, Backend& gpu, const Batch& batch) {
      if (std::strcmp(call, "ncclGetUniqueId") == 0 && ranks.rank() != 0) return;
      standin::fail_call(call, 1, 2);  // ncclSystemError
      if (std::strcmp(call, "ncclGetUniqueId") == 0) {
        // Before the id is sent: the other rank does not take part.
        SharedRanks alone(SharedRanks::make(1), 0, 1);
        Batch own = batch;
        own.ranks = &alone;
        own.global_batch = kBatch / 2;
        expect_error([&] { train_once(gpu, own); }, "an injected status");
        return;
      }
      expect_error([&] { train_once(gpu, batch); }, "NCCL: an injected status");
    });
  }

  with_nccl("a rank is gone: the other gives up, and its model is lost", spec,
            [](SharedRanks& ranks, Backend& gpu, const Batch& batch) {
              ranks.patience_ = std::chrono::seconds(5);
              for (int i = 0; i < 3; ++i) train_once(gpu, batch);
              // It agrees to the next step, and never does it.
              if (ranks.rank() == 1) {
                ranks.all(true);
                ranks.all(true);
                return;
              }
              expect_error([&] { train_once(gpu, batch); }, "the other ranks did not answer in");
              expect_error([&] { train_once(gpu, batch); }, "the model was lost");
            });

  begin_case("ranks that nothing but NCCL brings together");
  standin::reset();
  setenv("NCCL_COMM_ID", "127.0.0.1:29501", 1);
  const auto ids = make_ids((kSteps + 1) * kBatch / 2, spec.vocabulary, 7);
  in_ranks(2, [&](SharedRanks& place) {
    standin::settings().devices = 2;
    const int rank = place.rank();
    {
      const cuda::NcclJob job{rank, 2, rank, 2, rank, std::chrono::seconds(60)};
      const cuda::JoinedByNccl joined = cuda::join_by_nccl(job, library_folder);
      Communicator& ranks = *joined.ranks;
      expect(ranks.rank() == rank && ranks.size() == 2 && ranks.local_size() == 2, "the place");
      expect(joined.library.path.find("libnccl.so.2") != std::string::npos, joined.library.path);
      for (const std::size_t bytes : {std::size_t{1}, std::size_t{65'536}, std::size_t{200'001}}) {
        const std::vector<char> mine(bytes, static_cast<char>('a' + rank));
        std::vector<char> all(2 * bytes);
        ranks.gather(mine.data(), bytes, all.data());
        expect(std::count(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(bytes), 'a') == static_cast<std::ptrdiff_t>(bytes) &&
                   std::count(all.begin() + static_cast<std::ptrdiff_t>(bytes), all.end(), 'b') == static_cast<std::ptrdiff_t>(bytes), "gathered");
        std::vector<char> data = mine;
        ranks.broadcast(data.data(), bytes);
        expect(data == std::vector<char>(bytes, 'a'), "sent by rank 0");
      }
      std::vector<float> values(70'000, static_cast<float>(rank + 1));
      ranks.sum(values.data(), values.size());
      expect(values == std::vector<float>(values.size(), 3.0f), "summed");
      expect(ranks.agree(rank, false).nats == 1 && !ranks.agree(0, false).stopped && ranks.agree(0, rank == 1).stopped,
             "agreed");
      auto gpu = make_shared_cuda(spec, rank, true);
      initialize_one(*gpu);
      const Batch batch{ids.data(), kSteps, kBatch / 2, Target::every, false, &ranks, kBatch / 2 * rank, kBatch};
      for (int i = 0; i < 4; ++i) expect(train_once(*gpu, batch) == 1, "a step");
      expect(standin::calls_of("cudaGraphLaunch") == 3, "replays");
      expect(standin::calls_of("ncclCommInitRankConfig") == 1, "one communicator is enough");
      expect(ranks.finish(), "left");
    }
    expect_nothing_left();
  });
  unsetenv("NCCL_COMM_ID");

  begin_case("NCCL that cannot be used is said");
  std::vector<std::string> searched;
  expect(cuda::find_nccl(library_folder, searched).has_value(), "found");
  setenv("STANDIN_NCCL", "2806", 1);
  expect(!cuda::find_nccl(library_folder, searched).has_value(), "too old");
  expect(searched.back().find("NCCL 2.8.6, and 2.18.0 or newer") != std::string::npos || searched.size() > 2, searched.back());
  unsetenv("STANDIN_NCCL");
}

}  // namespace

void check_ranks() {
  const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0);
  std::vector<bool> ways{false};
#ifdef CUDNN_LSTM_NCCL
  ways.push_back(true);
#endif
  for (const bool nccl : ways) {
    for (const int layers : {1, 2}) {
      const ModelSpec masked = make_spec(InputCoding::embedding, layers, 0.3f);
      train_like_one(2, 40, masked, Target::every, true, cuda::Precision::fp32, nccl);
      train_like_one(3, 40, masked, Target::last, false, cuda::Precision::fp32, nccl);
    }
    train_like_one(3, 20, spec, Target::every, true, cuda::Precision::fp32, nccl);  // one rank has nothing
    train_like_one(2, 33, spec, Target::every, false, cuda::Precision::fp16, nccl);
    train_like_one(2, 33, spec, Target::every, false, cuda::Precision::bf16, nccl);
  }
#ifdef CUDNN_LSTM_NCCL
  check_nccl(spec);
#endif

  begin_case("one rank is asked to stop: no rank does a step");
  standin::reset();
  const auto ids = make_ids(5 * 16, spec.vocabulary, 7);
  in_ranks(2, [&](SharedRanks& ranks) {
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    const Batch shared{ids.data(), 4, 16, Target::every, false, &ranks, 16 * ranks.rank(), 32};
    const std::atomic<bool> stop{ranks.rank() == 1};
    StepResult result;
    expect(gpu->train_steps(shared, &kOptimizer, 1, &result, stop) == 0 && result.stopped, "stopped");
    expect(gpu->train_steps(shared, &kOptimizer, 1, &result, kNeverStop) == 1 && result.applied, "goes on");
    expect(gpu->step_count() == 1, "one step");
  });

  begin_case("a sum that fails: the model says that it is lost");
  standin::reset();
  in_ranks(1, [&](SharedRanks& ranks) {
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    const Batch shared{ids.data(), 4, 16, Target::every, false, &ranks, 0, 16};
    StepResult results[1];
    ranks.fail_sums = 1;
    for (const char* expected : {"an injected failure", "the model was lost"}) {
      try {
        gpu->train_steps(shared, &kOptimizer, 1, results, kNeverStop);
        expect(false, "no error");
      } catch (const Error& error) {
        expect(std::string(error.what()).find(expected) != std::string::npos, error.what());
      }
    }
  });
}
