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

  // Inside run: waits until every thread of this run is here.
  void barrier();

 private:
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
