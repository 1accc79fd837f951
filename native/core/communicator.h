// The ranks of a job: processes, on one machine or several, that train one model together. Each computes the gradients
// of its share of a batch; these are summed, and every rank makes the same update. Nothing else crosses between them
// but small agreements, so that all do the same steps.
#pragma once

#include <chrono>
#include <cstddef>

namespace cudnn_lstm {

// What the ranks' parts of a step come to.
struct Agreement {
  double nats;   // added in the order of the ranks
  bool stopped;  // some rank was asked to stop: none applies the step
};

// One a process. Every call but `abort` is a collective one: all ranks make the same calls in the same order, and each
// waits for the others. At most one is made at a time, from whichever thread. They throw Error(kDeviceFailed) where the
// library reports a failure; most failures of another rank end this process instead (see native/mpi).
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // 0 to size() - 1
  virtual int size() const = 0;
  virtual int local_rank() const = 0;  // among the ranks of this machine
  virtual int local_size() const = 0;
  // How long a call waits for the other ranks; 0: for ever.
  virtual std::chrono::milliseconds patience() const { return std::chrono::milliseconds(0); }

  // values[i] becomes its sum over the ranks: the same bits on every rank, and the same again for the same values and
  // number of ranks.
  virtual void sum(float* values, std::size_t count) = 0;
  // all[size][bytes]: everybody's, in the order of the ranks.
  virtual void gather(const void* mine, std::size_t bytes, void* all) = 0;
  virtual void broadcast(void* data, std::size_t bytes) = 0;  // rank 0's
  virtual void barrier() = 0;

  // Leaves when all ranks do; no other call may follow. A launcher may take a process that ends without it for one that
  // failed. False if the ranks' work is over and yet what joins them does not let go: the process may end all the same.
  [[nodiscard]] virtual bool finish() = 0;
  // Ends all ranks at once, this one too; the launcher ends with `code`.
  [[noreturn]] virtual void abort(int code) = 0;

  // Of a step that each rank has done its part of.
  Agreement agree(double nats, bool stopped);
  // Whether it is so on every rank.
  bool all(bool mine);
};

}  // namespace cudnn_lstm
