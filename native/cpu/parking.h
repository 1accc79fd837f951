// Waiting in the kernel for a word of memory to change, for threads that have spun long enough.
#pragma once

#include <atomic>
#include <cstdint>

namespace cudnn_lstm::cpu {

// Sleeps while `word` holds `expected`. May return early: the caller must check again.
void park(std::atomic<std::uint32_t>& word, std::uint32_t expected);

// Wakes all threads that sleep on `word`, which the caller has changed.
void unpark(std::atomic<std::uint32_t>& word);

// A word that threads wait for, first spinning, then parked.
class Signal {
 public:
  std::uint32_t value() const { return word_.load(std::memory_order_acquire); }
  // Only while nobody waits.
  void reset(std::uint32_t value) { word_.store(value, std::memory_order_relaxed); }

  // Adds `by` to the word and, if wakes(value before), wakes the sleepers.
  template <typename Wakes>
  void add(std::uint32_t by, Wakes wakes) {
    // Totally ordered with wait's count of sleepers and its load of the word: one of the two sees the other.
    const std::uint32_t before = word_.fetch_add(by, std::memory_order_seq_cst);
    if (wakes(before) && sleepers_.load(std::memory_order_seq_cst) != 0) unpark(word_);
  }
  void add(std::uint32_t by) {
    add(by, [](std::uint32_t) { return true; });
  }

  // Waits while waiting(value) is true, spinning for at most about `spin` nanoseconds. Returns how long it took in
  // nanoseconds, or 0 if that was too short to consult the clock.
  template <typename Waiting>
  std::int64_t wait(std::int64_t spin, Waiting waiting);

 private:
  std::atomic<std::uint32_t> word_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};

// From a clock that never goes back.
std::int64_t nanoseconds();

inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

template <typename Waiting>
std::int64_t Signal::wait(std::int64_t spin, Waiting waiting) {
  constexpr int kBetweenClocks = 32;
  for (int i = 0; i < kBetweenClocks; ++i) {
    if (!waiting(value())) return 0;
    relax();
  }
  const std::int64_t start = nanoseconds();
  std::int64_t now = start;
  while (now - start < spin) {
    for (int i = 0; i < kBetweenClocks; ++i) {
      if (!waiting(value())) return now - start;
      relax();
    }
    now = nanoseconds();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  for (std::uint32_t seen = word_.load(std::memory_order_seq_cst); waiting(seen);
       seen = word_.load(std::memory_order_seq_cst)) {
    park(word_, seen);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
  return nanoseconds() - start;
}

}  // namespace cudnn_lstm::cpu
