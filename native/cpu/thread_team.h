// The threads of one model: made once, woken for a step, in step with one another through a spinning barrier, because a
// tick of a small batch lasts tens of microseconds and a system call is a sizeable part of that.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace cudnn_lstm::cpu {

class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  // Runs work(thread) on `threads` threads (1..size), the caller being thread 0, and returns when all are done. `work`
  // must not throw.
  void run(int threads, const std::function<void(int)>& work);

  // Inside run: waits until every thread of this run is here. The last to come runs `last` before any goes on.
  template <typename Last>
  void barrier(const Last& last) {
    const int active = active_.load(std::memory_order_relaxed);
    if (active == 1) return last();
    const unsigned phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == active - 1) {
      last();
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
    } else {
      wait_for_phase_after(phase);
    }
  }
  void barrier() {
    barrier([] {});
  }

 private:
  void wait_for_phase_after(unsigned phase) const;
  void serve(int thread);

  int size_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int)>* work_ = nullptr;
  bool ending_ = false;
  std::atomic<unsigned> generation_{0};  // of runs
  std::atomic<int> active_{1};           // threads in this run
  std::atomic<int> unfinished_{0};
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> phase_{0};  // of barriers
};

}  // namespace cudnn_lstm::cpu
