#include "binding/executor.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace cudnn_lstm::binding {

// What a thread needs, even after the Executor is gone.
struct Executor::Shared {
  const int most;
  std::mutex mutex;
  std::condition_variable changed;  // a job was added, one ended, or closing
  std::deque<Job> jobs;
  int threads = 0;
  int working = 0;
  bool closing = false;

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return closing || !jobs.empty(); });
      if (closing) break;
      Job job = std::move(jobs.front());
      jobs.pop_front();
      ++working;
      lock.unlock();
      job();
      job = nullptr;  // destroys what it holds, outside the lock
      lock.lock();
      --working;
      changed.notify_all();
    }
    --threads;
    changed.notify_all();
  }
};

Executor::Executor(int most) : shared_(new Shared{most, {}, {}, {}}) {}

Executor::~Executor() { close(std::chrono::milliseconds(0)); }

void Executor::run(Job job) {
  Shared& shared = *shared_;
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    if (shared.closing) return;
    const bool all_at_work = shared.working + static_cast<int>(shared.jobs.size()) >= shared.threads;
    if (all_at_work && shared.threads < shared.most) {
      try {
        threads_.emplace_back([held = shared_] { held->serve(); });
        ++shared.threads;
      } catch (const std::system_error&) {
        if (shared.threads == 0) throw Error(kOutOfMemory, "the system gives no thread to work on");
      }
    }
    shared.jobs.push_back(std::move(job));
  }
  shared.changed.notify_all();
}

void Executor::settle(std::chrono::milliseconds patience) {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->changed.wait_for(lock, patience, [this] { return shared_->working == 0 && shared_->jobs.empty(); });
}

void Executor::close(std::chrono::milliseconds patience) {
  std::deque<Job> dropped;
  bool ended = false;
  {
    std::unique_lock<std::mutex> lock(shared_->mutex);
    shared_->closing = true;
    dropped.swap(shared_->jobs);
    shared_->changed.notify_all();
    ended = shared_->changed.wait_for(lock, patience, [this] { return shared_->threads == 0; });
  }
  for (std::thread& thread : threads_) {
    if (ended) {
      thread.join();
    } else {
      thread.detach();
    }
  }
  threads_.clear();
}

}  // namespace cudnn_lstm::binding
