// A warp of 32 lanes on the host, in lockstep from one collective to the next: what a row body of the kernels does with
// its lanes is done here too, and lanes that part company are a fault.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>

#include "standin.h"

namespace standin {

class Warp {
 public:
  static constexpr int kLanes = 32;
  enum class Kind { none, sum_float, sum_double, sum_whole, max_float, ballot, barrier };

  // One a thread: a row runs to its end on the thread that began it.
  static Warp& of_this_thread() {
    static thread_local Warp warp;
    return warp;
  }

  // body(lane) by all lanes.
  void run(const std::function<void(int)>& body) {
    body_ = &body;
    for (Fiber& fiber : fibers_) fiber.done = false;
    for (bool up = true;; up = !up) {  // each order shows what the other hides, where a barrier is missing
      for (int i = 0; i < kLanes; ++i) {
        Fiber& fiber = fibers_[up ? i : kLanes - 1 - i];
        fiber.kind = Kind::none;
        if (!fiber.done) resume(fiber);
      }
      int done = 0;
      for (const Fiber& fiber : fibers_) done += fiber.done ? 1 : 0;
      if (done == kLanes) return;
      for (const Fiber& fiber : fibers_) {
        if (fiber.done || fiber.kind == fibers_[0].kind) continue;
        fault("the lanes of a warp meet in different collectives");
        std::abort();  // there is no going on
      }
      if (done > 0) {
        fault("a lane of a warp has ended where others meet in a collective");
        std::abort();
      }
      combine();
    }
  }

  std::uint64_t meet(int lane, Kind kind, std::uint64_t bits) {
    Fiber& fiber = fibers_[lane];
    fiber.kind = kind;
    fiber.bits = bits;
    leave(fiber);
    return fiber.bits;
  }

 private:
  static constexpr std::size_t kStack = std::size_t{1} << 17;
  struct Fiber {
    ucontext_t start;
    jmp_buf here;
    std::unique_ptr<char[]> stack;
    bool done = false;
    Kind kind = Kind::none;
    std::uint64_t bits = 0;
  };

  // Switching by setjmp takes nanoseconds; contexts, which ask the system each time, only make the stacks.
  __attribute__((noinline)) void resume(Fiber& fiber) {
    current_ = static_cast<int>(&fiber - fibers_);
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.stack != nullptr) _longjmp(fiber.here, 1);
    fiber.stack = std::make_unique<char[]>(kStack);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = kStack;
    fiber.start.uc_link = nullptr;
    entering() = this;
    makecontext(&fiber.start, &Warp::enter, 0);
    setcontext(&fiber.start);
  }
  __attribute__((noinline)) void leave(Fiber& fiber) {
    if (_setjmp(fiber.here) == 0) _longjmp(scheduler_, 1);
  }
  static Warp*& entering() {
    static thread_local Warp* warp = nullptr;
    return warp;
  }
  static void enter() { entering()->live(entering()->current_); }
  [[noreturn]] void live(int lane) {
    while (true) {
      (*body_)(lane);
      fibers_[lane].done = true;
      leave(fibers_[lane]);
    }
  }

  template <class Value, class Combine>
  void butterfly(Combine combine_two) {
    Value values[kLanes], next[kLanes];
    for (int i = 0; i < kLanes; ++i) std::memcpy(&values[i], &fibers_[i].bits, sizeof(Value));
    for (int other = kLanes / 2; other > 0; other /= 2) {
      for (int i = 0; i < kLanes; ++i) next[i] = combine_two(values[i], values[i ^ other]);
      std::memcpy(values, next, sizeof values);
    }
    for (int i = 0; i < kLanes; ++i) std::memcpy(&fibers_[i].bits, &values[i], sizeof(Value));
  }
  void combine() {
    switch (fibers_[0].kind) {
      case Kind::sum_float:
        return butterfly<float>([](float a, float b) { return a + b; });
      case Kind::sum_double:
        return butterfly<double>([](double a, double b) { return a + b; });
      case Kind::sum_whole:
        return butterfly<std::uint64_t>([](std::uint64_t a, std::uint64_t b) { return a + b; });
      case Kind::max_float:
        return butterfly<float>([](float a, float b) { return fmaxf(a, b); });
      case Kind::ballot: {
        std::uint64_t flags = 0;
        for (int i = 0; i < kLanes; ++i) flags |= fibers_[i].bits << i;
        for (Fiber& fiber : fibers_) fiber.bits = flags;
        return;
      }
      default:
        return;
    }
  }

  Fiber fibers_[kLanes];
  jmp_buf scheduler_;
  int current_ = 0;
  const std::function<void(int)>* body_ = nullptr;
};

// What a row body is given.
class HostLanes {
 public:
  HostLanes(Warp& warp, int lane) : warp_(&warp), lane_(lane) {}
  int index() const { return lane_; }
  int count() const { return Warp::kLanes; }
  float sum(float value) const { return meet(Warp::Kind::sum_float, value); }
  double sum(double value) const { return meet(Warp::Kind::sum_double, value); }
  std::uint64_t sum(std::uint64_t value) const { return meet(Warp::Kind::sum_whole, value); }
  float max(float value) const { return meet(Warp::Kind::max_float, value); }
  std::uint32_t ballot(bool flag) const {
    return static_cast<std::uint32_t>(meet(Warp::Kind::ballot, std::uint64_t{flag ? 1u : 0u}));
  }
  void barrier() const { meet(Warp::Kind::barrier, std::uint64_t{0}); }

 private:
  template <class Value>
  Value meet(Warp::Kind kind, Value value) const {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = warp_->meet(lane_, kind, bits);
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  Warp* warp_;
  int lane_;
};

}  // namespace standin
