#include "cuda/rank_sum.h"

#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "core/error.h"
#include "cuda/check.h"

namespace cudnn_lstm::cuda {
namespace {

class HostSum final : public RankSum {
 public:
  HostSum(Communicator& ranks, std::size_t count, MemoryAccount& account)
      : ranks_(ranks),
        count_(count),
        values_(account, count * sizeof(float), "the sum over the ranks"),
        nats_(account, sizeof(double), "the sum over the ranks"),
        summing_([this] { sum_when_asked(); }) {}
  ~HostSum() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    summing_.join();
  }

  void enqueue(float* values, double* nats, cudaStream_t stream) override {
    const std::size_t bytes = count_ * sizeof(float);
    CHECK_CUDA(cudaMemcpyAsync(values_.data(), values, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK_CUDA(cudaMemcpyAsync(nats_.data(), nats, sizeof(double), cudaMemcpyDeviceToHost, stream));
    CHECK_CUDA(cudaLaunchHostFunc(
        stream, [](void* self) { static_cast<HostSum*>(self)->have_summed(); }, this));
    CHECK_CUDA(cudaMemcpyAsync(values, values_.data(), bytes, cudaMemcpyHostToDevice, stream));
    CHECK_CUDA(cudaMemcpyAsync(nats, nats_.data(), sizeof(double), cudaMemcpyHostToDevice, stream));
  }

  void wait(cudaStream_t stream) override { CHECK_CUDA(cudaStreamSynchronize(stream)); }
  void wait(cudaEvent_t event) override { CHECK_CUDA(cudaEventSynchronize(event)); }
  void give_up() override {}
  void check() override {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  // Runs on a CUDA thread and blocks it. No CUDA call may be made there, and a CUDA-aware MPI makes some, to find out
  // what memory it was given, so another thread sums meanwhile.
  void have_summed() {
    std::unique_lock<std::mutex> lock(mutex_);
    asked_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !asked_; });
  }

  void sum_when_asked() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return asked_ || ended_; });
      if (!asked_) return;
      sum();
      asked_ = false;
      changed_.notify_all();
    }
  }

  void sum() {
    double& nats = *nats_.as<double>();
    try {
      if (failure_) throw Error(kDeviceFailed, "a sum before this one has failed");
      ranks_.sum(values_.as<float>(), count_);
      nats = ranks_.agree(nats, false).nats;
    } catch (...) {
      if (!failure_) failure_ = std::current_exception();
      nats = std::nan("");  // so that the step is not applied
    }
  }

  Communicator& ranks_;
  const std::size_t count_;
  PinnedBuffer values_, nats_;
  std::exception_ptr failure_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool asked_ = false, ended_ = false;
  std::thread summing_;  // last: it uses the others
};

}  // namespace

std::unique_ptr<RankSum> sum_by_host(Communicator& ranks, std::size_t count, MemoryAccount& account) {
  return std::make_unique<HostSum>(ranks, count, account);
}

}  // namespace cudnn_lstm::cuda
