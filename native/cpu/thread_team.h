// The threads of one model: created when first needed, given work for a step, kept in step by a barrier. A tick of a
// small batch lasts tens of microseconds, of which a system call is a sizeable part, so a waiting thread spins for a
// moment; then it sleeps in the kernel, because the thread it waits for may need the core
// (docs/adr/0014-adaptive-team.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "cpu/parking.h"

namespace cudnn_lstm::cpu {

class ThreadTeam {
 public:
  // most: the largest number of threads, including the caller of run.
  explicit ThreadTeam(int most);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int most() const { return most_; }
  int size() const { return size_; }

  // Allows runs of up to `threads` threads, at most `most`, or fewer if the system provides no more. Returns how many.
  int resize(int threads);

  // The number of CPUs available to the team: with more threads than that, waiting ones sleep at once.
  void set_cpus(int cpus) { cpus_ = cpus; }

  // Runs work(thread) on `threads` threads, 1 to size(), the caller being thread 0; returns when all are done.
  // `work` must not throw.
  void run(int threads, const std::function<void(int)>& work);

  // Inside run: waits until every thread of this run has arrived. The last to arrive calls `last` before any goes on.
  template <typename Last>
  void barrier(const Last& last) {
    if (active_ == 1) return last();
    const std::uint32_t phase = phase_.value();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == active_ - 1) {
      last();
      arrived_.store(0, std::memory_order_relaxed);
      phase_.add(1);
    } else {
      wait_for_phase_after(phase);
    }
  }
  void barrier() {
    barrier([] {});
  }

  // The share of the threads' time spent working, worked / (worked + waited), in all runs since the last call of this.
  double take_worked_share();

 private:
  struct alignas(64) Member {
    std::thread thread;
    Signal turn;               // counts this member's runs
    std::int64_t working = 0;  // nanoseconds of this run, excluding waits at barriers
  };

  void serve(int thread, Member& self);
  void wait_for_phase_after(std::uint32_t phase);
  std::int64_t spin() const;
  static void work_as(int thread, Member& self, const std::function<void(int)>& work);

  int most_;
  int size_ = 1;
  int cpus_;
  std::vector<std::unique_ptr<Member>> members_;  // [0] is the caller's
  const std::function<void(int)>* work_ = nullptr;
  bool ending_ = false;
  int active_ = 1;  // threads in this run
  std::int64_t working_ = 0, lasting_ = 0;
  alignas(64) Signal finished_;  // members that have finished this run
  alignas(64) Signal phase_;     // counts barriers
  alignas(64) std::atomic<int> arrived_{0};
};

}  // namespace cudnn_lstm::cpu
