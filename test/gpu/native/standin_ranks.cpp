// Several ranks, each a process with a GPU of its own, train what one process trains.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/communicator.h"
#include "core/error.h"
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
  void sum(float* values, std::size_t count) override {
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
  [[noreturn]] void abort(int code) override { _exit(code); }

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

void train_like_one(int size, int batch, const ModelSpec& spec, Target target, bool carry, cuda::Precision precision) {
  begin_case(std::to_string(size) + " ranks train what one process does: batch " + std::to_string(batch) + ", layers " +
             std::to_string(spec.layers) + ", dropout " + std::to_string(spec.dropout) +
             (target == Target::last ? ", last" : ", every") + (carry ? ", carried" : "") + ", precision " +
             std::to_string(static_cast<int>(precision)));
  standin::reset();
  const int steps = 4, count = 6;
  const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 7);
  std::vector<OptimizerStep> optimizers(count, kOptimizer);
  const double bound = precision == cuda::Precision::fp32 ? 1e-4 : 3e-2;
  SharedRanks::Memory* memory = SharedRanks::make(size);
  in_ranks(size + 1, [&](SharedRanks& all) {
    // The last of these processes is the one that trains alone, and says what comes of it.
    std::vector<StepResult> results(count);
    auto gpu = make_cuda(spec, precision);
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
      const int done = gpu->train_steps(shared, optimizers.data(), count, results.data(), kNeverStop);
      expect(done == count, "steps");
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

}  // namespace

void check_ranks() {
  for (const int layers : {1, 2}) {
    const ModelSpec spec = make_spec(InputCoding::embedding, layers, 0.3f);
    train_like_one(2, 40, spec, Target::every, true, cuda::Precision::fp32);
    train_like_one(3, 40, spec, Target::last, false, cuda::Precision::fp32);
  }
  const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0);
  train_like_one(3, 20, spec, Target::every, true, cuda::Precision::fp32);  // one rank has nothing
  train_like_one(2, 33, spec, Target::every, false, cuda::Precision::fp16);
  train_like_one(2, 33, spec, Target::every, false, cuda::Precision::bf16);

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
