// The request to stop that a call may get, as the threads of a model look for it.
#pragma once

#include <atomic>

namespace cudnn_lstm::cpu {

#if defined(CUDNN_LSTM_SELFTEST)
// A thread looks, or begins anew: the kernels' own test counts what each computes in between (selftest.cpp).
void looked();
void resumed();
#else
inline void looked() {}
inline void resumed() {}
#endif

// What one thread computes between two looks, in multiply-adds of products or what takes as long: a few milliseconds at
// most on any machine. native_selftest holds it.
constexpr double kMostBetweenLooks = 1 << 26;

class StopRequest {
 public:
  // The flag of the call that begins.
  void watch(const std::atomic<bool>& flag) {
    flag_ = &flag;
    heard_.store(false, std::memory_order_relaxed);
  }

  // Looks at the flag. Threads may see it at different moments, so this may change what they compute, but never at
  // which barriers they meet: that is CpuBackend::meet's to say.
  bool asked() {
    looked();
    if (heard()) return true;
    if (!flag_->load(std::memory_order_relaxed)) return false;
    heard_.store(true, std::memory_order_relaxed);
    return true;
  }

  // Whether some thread saw it and ended a loop early. Not so where the flag was set when all was done.
  bool heard() const { return heard_.load(std::memory_order_relaxed); }

 private:
  const std::atomic<bool>* flag_ = nullptr;
  std::atomic<bool> heard_{false};
};

}  // namespace cudnn_lstm::cpu
