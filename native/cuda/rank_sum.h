// Sums of GPU values over the ranks of a job (core/communicator.h).
#pragma once

#include <cstddef>
#include <memory>

#include "core/communicator.h"
#include "cuda/device_memory.h"

namespace cudnn_lstm::cuda {

// One per model. All ranks queue the same sums in the same order.
class RankSum {
 public:
  virtual ~RankSum() = default;

  // Queued on the stream, or recorded into its graph: values [count] and *nats, on the device, become their sums over
  // the ranks, with the same bits on each. Throws Error.
  virtual void enqueue(float* values, double* nats, cudaStream_t stream) = 0;

  // Waits for queued work, or for the event. Throws Error(kDeviceFailed) if the other ranks do not answer.
  virtual void wait(cudaStream_t stream) = 0;
  virtual void wait(cudaEvent_t event) = 0;

  // Call once the queued work has run. Throws Error(kDeviceFailed) if a sum has failed since the last call; the steps
  // from that one on were not applied.
  virtual void check() = 0;

  // After a failure: aborts what is in progress, so that the stream can be waited for. Graphs that contain sums must be
  // gone.
  virtual void give_up() = 0;
};

// Sums through host memory, which any communicator can do. values [count] in each call.
std::unique_ptr<RankSum> sum_by_host(Communicator& ranks, std::size_t count, MemoryAccount& account);

}  // namespace cudnn_lstm::cuda
