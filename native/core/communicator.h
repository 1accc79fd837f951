// The ranks of a job: processes, on one machine or several, that train one model together. Each computes the gradients
// of its share of a batch; the gradients are summed, and every rank makes the same update. Apart from that, the ranks
// exchange only small agreements that keep their steps the same.
#pragma once

#include <chrono>
#include <cstddef>

namespace cudnn_lstm {

// The combined result of the ranks' parts of a step.
struct Agreement {
  double nats;   // summed in rank order
  bool stopped;  // some rank was asked to stop, so none applies the step
};

// One per process. Every call but `abort` is collective: all ranks make the same calls in the same order, and each
// waits for the others. Calls may come from any thread, one at a time. They throw Error(kDeviceFailed) if the library
// reports a failure; most failures of another rank end this process instead (see native/mpi).
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // 0 to size() - 1
  virtual int size() const = 0;
  virtual int local_rank() const = 0;  // among the ranks of this machine
  virtual int local_size() const = 0;
  // How long a call waits for the other ranks; 0: for ever.
  virtual std::chrono::milliseconds patience() const { return std::chrono::milliseconds(0); }

  // Replaces values[i] by its sum over the ranks: the same bits on every rank, and the same again for the same values
  // and number of ranks.
  virtual void sum(float* values, std::size_t count) = 0;
  // all[size][bytes]: every rank's bytes, in rank order.
  virtual void gather(const void* mine, std::size_t bytes, void* all) = 0;
  virtual void broadcast(void* data, std::size_t bytes) = 0;  // from rank 0
  virtual void barrier() = 0;

  // Leaves the job once all ranks do; no other call may follow. A launcher may take a process that exits without it for
  // a failed one. False if the ranks' work is done but the library joining them does not let go: the process may exit
  // all the same.
  [[nodiscard]] virtual bool finish() = 0;
  // Ends all ranks at once, including this one; the launcher exits with `code`.
  [[noreturn]] virtual void abort(int code) = 0;

  // The ranks' agreement on a step, once each has done its part.
  Agreement agree(double nats, bool stopped);
  // Whether `mine` holds on every rank.
  bool all(bool mine);
};

}  // namespace cudnn_lstm
