#include "cpu/thread_team.h"

#include <system_error>

#include "core/error.h"

namespace cudnn_lstm::cpu {
namespace {

inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Spins while `waiting()`, first politely on the core, then giving it away: with more threads than cores the one waited
// for may need it.
template <typename Condition>
void spin_while(Condition waiting) {
  for (int i = 0; waiting(); ++i) {
    if (i < 2000) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

// How long a worker spins for the next run before it sleeps: the gaps between the steps of one call are shorter than
// this.
constexpr int kSpinsBeforeSleep = 4000;

}  // namespace

ThreadTeam::ThreadTeam(int threads) : size_(threads) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
  } catch (const std::system_error&) {
    size_ = static_cast<int>(workers_.size()) + 1;  // the system gives no more: results do not depend on the number
  }
}

ThreadTeam::~ThreadTeam() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(int threads, const std::function<void(int)>& work) {
  if (threads <= 1) {
    active_.store(1, std::memory_order_relaxed);
    work(0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    active_.store(threads, std::memory_order_relaxed);
    unfinished_.store(size_ - 1, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  work(0);
  spin_while([this] { return unfinished_.load(std::memory_order_acquire) != 0; });
}

void ThreadTeam::wait_for_phase_after(unsigned phase) const {
  spin_while([this, phase] { return phase_.load(std::memory_order_acquire) == phase; });
}

void ThreadTeam::serve(int thread) {
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < kSpinsBeforeSleep && generation_.load(std::memory_order_acquire) == seen; ++i) relax();
    if (generation_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this, seen] { return generation_.load(std::memory_order_relaxed) != seen; });
    }
    ++seen;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (ending_) return;
    }
    if (thread < active_.load(std::memory_order_relaxed)) (*work_)(thread);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace cudnn_lstm::cpu
