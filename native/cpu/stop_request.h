// A request to stop a call, as the threads of a model look for it.
#pragma once

#include <atomic>

namespace cudnn_lstm::cpu {

#if defined(CUDNN_LSTM_SELFTEST)
// A thread looks at the flag, or starts afresh: the self-test counts what it computes in between (selftest.cpp).
void looked();
void resumed();
#else
inline void looked() {}
inline void resumed() {}
#endif

// The most that one thread computes between two looks, in multiply-adds of products or whatever takes as long: a few
// milliseconds at most on any machine. native_selftest checks it.
constexpr double kMostBetweenLooks = 1 << 26;

class StopRequest {
 public:
  // Watches the flag of a new call.
  void watch(const std::atomic<bool>& flag) {
    flag_ = &flag;
    heard_.store(false, std::memory_order_relaxed);
  }

  // Looks at the flag. Threads may see it set at different moments, so this may change what they compute, but never at
  // which barriers they meet: CpuBackend::meet decides that.
  bool asked() {
    looked();
    if (heard()) return true;
    if (!flag_->load(std::memory_order_relaxed)) return false;
    heard_.store(true, std::memory_order_relaxed);
    return true;
  }

  // Whether a thread saw it and ended a loop early; false if the flag was set only after all work was done.
  bool heard() const { return heard_.load(std::memory_order_relaxed); }

 private:
  const std::atomic<bool>* flag_ = nullptr;
  std::atomic<bool> heard_{false};
};

}  // namespace cudnn_lstm::cpu
