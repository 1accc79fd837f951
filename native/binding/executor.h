// Threads for calls that take long. Not libuv's pool, which the process's own reading and writing needs, and which Node
// waits for when it ends, however long that takes (docs/adr/0011-own-threads.md).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace cudnn_lstm::binding {

class Executor {
 public:
  using Job = std::function<void()>;  // throws nothing

  // At most `most` threads, each made when all others are at work.
  explicit Executor(int most);
  ~Executor();  // as close, waiting for nothing
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs the job on a thread, at once or when one is free. Throws Error(kOutOfMemory) if the system gives none.
  void run(Job job);

  // Waits until no job runs or waits, but no longer than that.
  void settle(std::chrono::milliseconds patience);

  // Drops the jobs that wait, and waits for those that run, but no longer than that: a thread that is still at work
  // then ends by itself, after its job. Nothing is run from here on.
  void close(std::chrono::milliseconds patience);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
  std::vector<std::thread> threads_;
};

}  // namespace cudnn_lstm::binding
