#include "cpu/parking.h"

#include <chrono>

// Systems without such a call use condition variables; -DCUDNN_LSTM_PORTABLE_PARKING selects them for tests.
#if defined(CUDNN_LSTM_PORTABLE_PARKING)
#include <condition_variable>
#include <mutex>
#elif defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#define CUDNN_LSTM_PORTABLE_PARKING
#include <condition_variable>
#include <mutex>
#endif

namespace cudnn_lstm::cpu {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t), "the kernel compares the plain word");

std::int64_t nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

#if defined(CUDNN_LSTM_PORTABLE_PARKING)

namespace {

struct Lot {
  std::mutex mutex;
  std::condition_variable changed;
};

// Never freed: a thread may outlive the process's statics at exit.
Lot& lot_of(const void* address) {
  constexpr std::size_t kLots = 64;
  static Lot* const lots = new Lot[kLots];
  return lots[reinterpret_cast<std::uintptr_t>(address) / 64 % kLots];
}

}  // namespace

void park(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  Lot& lot = lot_of(&word);
  std::unique_lock<std::mutex> lock(lot.mutex);
  if (word.load(std::memory_order_seq_cst) == expected) lot.changed.wait(lock);
}

void unpark(std::atomic<std::uint32_t>& word) {
  Lot& lot = lot_of(&word);
  // Once this lock has been taken, any thread that saw the old word is asleep.
  { std::lock_guard<std::mutex> lock(lot.mutex); }
  lot.changed.notify_all();
}

#elif defined(__linux__)

void park(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void unpark(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

#else

void park(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  WaitOnAddress(&word, &expected, sizeof expected, INFINITE);
}

void unpark(std::atomic<std::uint32_t>& word) { WakeByAddressAll(&word); }

#endif

}  // namespace cudnn_lstm::cpu
