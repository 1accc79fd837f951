// Detects a call that waits for another process and does not return: the other process may hang or its machine may be
// gone, which neither MPI nor NCCL reports.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace cudnn_lstm {

class Watchdog {
 public:
  // Calls `bark` once, on the watchdog's own thread, when a call has taken longer than `limit`. 0: never.
  Watchdog(std::chrono::milliseconds limit, std::function<void()> bark);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Marks a call in progress while it lives. One at a time.
  class Call {
   public:
    explicit Call(Watchdog& watchdog) : watchdog_(watchdog) { watchdog_.began_.store(now()); }
    ~Call() { watchdog_.began_.store(kIdle); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Watchdog& watchdog_;
  };

 private:
  static constexpr std::int64_t kIdle = -1;
  static std::int64_t now();  // milliseconds

  void watch();

  const std::chrono::milliseconds limit_;
  const std::function<void()> bark_;
  std::atomic<std::int64_t> began_{kIdle};
  std::mutex mutex_;
  std::condition_variable ending_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace cudnn_lstm
