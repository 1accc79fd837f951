// Ranks joined by MPI.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "core/communicator.h"
#include "core/watchdog.h"
#include "mpi/mpi_library.h"

namespace cudnn_lstm::mpi {

class MpiCommunicator final : public Communicator {
 public:
  // Starts MPI, which waits for all ranks of the job. A call that then waits longer than `patience` for the others ends
  // the process with exit code 4 and a line on stderr, which makes the launcher end the others; 0: no limit. Throws
  // Error(kDeviceUnavailable) if MPI cannot be started, or something else in this process has started it.
  MpiCommunicator(std::unique_ptr<Library> library, std::chrono::milliseconds patience);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  std::chrono::milliseconds patience() const override { return patience_; }
  void sum(float* values, std::size_t count) override;
  void gather(const void* mine, std::size_t bytes, void* all) override;
  void broadcast(void* data, std::size_t bytes) override;
  void barrier() override;
  bool finish() override;
  [[noreturn]] void abort(int code) override;

  const Library& library() const { return *library_; }

 private:
  template <typename Function>
  void call(Function function);
  void check(int code) const;
  [[noreturn]] void give_up();

  std::shared_ptr<Library> library_;  // shared with the thread that finalises it, which may not return
  int rank_ = 0, size_ = 0, local_rank_ = 0, local_size_ = 1;
  std::timed_mutex calls_;  // MPI was promised one call at a time
  std::chrono::milliseconds patience_;
  Watchdog watchdog_;
};

}  // namespace cudnn_lstm::mpi
