// Sums over the ranks of a job (core/communicator.h) of what they have on their GPUs.
#pragma once

#include <cstddef>
#include <memory>

#include "core/communicator.h"
#include "cuda/device_memory.h"

namespace cudnn_lstm::cuda {

// One a model. All ranks queue the same sums in the same order.
class RankSum {
 public:
  virtual ~RankSum() = default;

  // In the stream's order, and into a graph where one is recorded: values [count] and *nats, on the device, become
  // their sums over the ranks, the same bits on each. Throws Error.
  virtual void enqueue(float* values, double* nats, cudaStream_t stream) = 0;

  // Waits for what is queued, or for the event. Throws Error(kDeviceFailed) where the other ranks do not answer.
  virtual void wait(cudaStream_t stream) = 0;
  virtual void wait(cudaEvent_t event) = 0;

  // To be called when what was queued has run. Throws Error(kDeviceFailed) if a sum has failed since the last call; the
  // steps from that one on were not applied.
  virtual void check() = 0;

  // After a failure: ends what is under way, so that the stream can be waited for. The graphs that hold sums must be
  // gone.
  virtual void give_up() = 0;
};

// By way of the host's memory: any communicator will do. values [count] in each call.
std::unique_ptr<RankSum> sum_by_host(Communicator& ranks, std::size_t count, MemoryAccount& account);

}  // namespace cudnn_lstm::cuda
