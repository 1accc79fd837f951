// Threads for long calls. libuv's pool is not used: the process needs it for its own I/O, and Node waits for it on
// exit, however long that takes (docs/adr/0011-own-threads.md).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace cudnn_lstm::binding {

class Executor {
 public:
  using Job = std::function<void()>;  // must not throw

  // At most `most` threads, each created when all others are busy.
  explicit Executor(int most);
  ~Executor();  // as close, without waiting
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs the job on a thread, at once or when one is free. Throws Error(kOutOfMemory) if the system provides none.
  void run(Job job);

  // Waits until no job is running or queued, but no longer than `patience`.
  void settle(std::chrono::milliseconds patience);

  // Drops queued jobs and waits for running ones, but no longer than `patience`: a thread still busy then ends by
  // itself after its job. Nothing is run from here on.
  void close(std::chrono::milliseconds patience);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
  std::vector<std::thread> threads_;
};

}  // namespace cudnn_lstm::binding
