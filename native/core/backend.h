// The interface that every device implements: own one whole model and train, evaluate and sample it. It is not an
// operator library: cuDNN's LSTM is one fused, opaque call, so a finer interface would merely mirror cuDNN
// (docs/adr/0001-whole-model-backend.md).
//
// Shapes: B batch, T steps, H hidden, V vocabulary, L layers, S streams, E embedding size.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/layout.h"
#include "core/optimizers.h"

namespace cudnn_lstm {

class Communicator;  // communicator.h

// every: a loss at each of the T positions. last: only at position T-1 (the input is a window, the target the next
// symbol).
enum class Target { every, last };

// ids is the only data passed into a step: int32 [T + 1, B], time-major. Inputs are rows 0..T-1, targets rows 1..T (for
// Target::last, row T alone). Every id is in 0..V-1; the binding has checked it.
struct Batch {
  const std::int32_t* ids;
  int steps;  // T
  int batch;  // B
  Target target;
  bool carry_state;  // start from the state the last step left; if false, or if B changed, from zero

  // For a training step shared by several ranks, `batch` counts this rank's sequences, which start at first_sequence, a
  // multiple of 16, in the global batch; it may be 0. All ranks call with the same global_batch and get the same
  // result. Null: `batch` is the whole batch.
  Communicator* ranks = nullptr;
  int first_sequence = 0;
  int global_batch = 0;

  int all_sequences() const { return ranks != nullptr ? global_batch : batch; }
};

// loss: mean nats per target, with dropout. gradient_norm: global L2 norm of the gradients of parameters that are not
// frozen, before clipping. A step whose loss or norm is not finite changes nothing but `applied` = false (the
// parameters, moments and step count stay as they were). stopped: the step was not applied because this rank or another
// was asked to stop.
struct StepResult {
  double loss;
  double gradient_norm;
  bool applied;
  bool stopped = false;
};

// What can be read and written, always as float32 in the canonical layout (layout.h):
//   parameters, gradients: [parameter_count]
//   first_moments, second_moments: [parameter_count], the slots of the optimiser's rule (optimizers.h)
//   training_state: [L, 2, B, H], h then c of each layer: what carry_state continues from; B is the last step's
//   stream_state:   [L, 2, S, H]: what next_logits continues from
enum class Slot { parameters, gradients, first_moments, second_moments, training_state, stream_state };

struct SamplingOptions;  // draw_rules.h

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const ModelSpec& spec() const = 0;
  virtual const Layout& layout() const = 0;

  // One optimiser step. Long steps poll `stop` inside the time loop; a step that sees it set returns applied = false,
  // stopped = true, loss = NaN and leaves the model, training state included, as the last completed step left it.
  virtual StepResult train_step(const Batch& batch, const OptimizerStep& optimizer, const std::atomic<bool>& stop) = 0;

  // Runs train_step on `count` batches of one shape, contiguous in batch.ids; results[count]. Backends that can queue
  // several steps without a host synchronisation override it. Returns the number of steps completed: a stop, or a step
  // that is not applied, ends the call, and that step's result is written too. If the batch is shared among ranks, all
  // complete the same number: a stop between two steps is left for the next step to see. `frozen` is the same in all of
  // `optimizers`.
  virtual int train_steps(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                          const std::atomic<bool>& stop);

  // Loss in nats of each target: losses [T, B] (Target::every) or [B] (last). Does not touch the gradients, the
  // parameters or the training state; batch.carry_state carries a separate evaluation state, which
  // reset_evaluation_state zeroes. dropout: apply the masks as in training (keyed by mask_step), for the reference's
  // metric.
  virtual void evaluate(const Batch& batch, bool dropout, std::uint64_t mask_step, float* losses,
                        const std::atomic<bool>& stop) = 0;
  virtual void reset_evaluation_state() = 0;
  virtual void reset_training_state() = 0;

  // Feeds ids [T, S] to S streams and writes the logits [S, V] after the last row; no dropout; continues from the
  // stream state. Returns early once `stop` is set, with logits and state unusable.
  virtual void next_logits(const std::int32_t* ids, int steps, int streams, float* logits,
                           const std::atomic<bool>& stop) = 0;
  void next_logits(const std::int32_t* ids, int steps, int streams, float* logits) {
    const std::atomic<bool> never{false};
    next_logits(ids, steps, streams, logits, never);
  }
  virtual void reset_stream_state(int streams) = 0;  // zero state for S streams

  // Feeds ids [S], draws by the rules of draw_rules.h with each stream's own options [S], feeds the drawn ids, and so
  // on, without involving the host between draws: out [count, S]. Continues from the stream state, into which the last
  // ids drawn are not fed. Returns the number of draws (fewer if `stop` was set), or -1, having done nothing, if the
  // device leaves drawing to the host. Never asked for a repetition penalty.
  virtual int draw(const std::int32_t* ids, int streams, const SamplingOptions* options, int count, std::int32_t* out,
                   const std::atomic<bool>& stop);

  // Runs work(0) to work(count - 1), 1 <= count <= sharers(), in parallel if the backend has the threads. `work` must
  // not throw.
  virtual int sharers() const { return 1; }
  virtual void share(int count, const std::function<void(int)>& work);

  // Number of floats that read(slot) gives now; write must be given the same number (for the state slots, any multiple
  // of L*2*H, which sets B or S).
  virtual std::size_t slot_size(Slot slot) const = 0;
  void read(Slot slot, float* out) const { read_range(slot, 0, slot_size(slot), out); }
  void write(Slot slot, const float* values, std::size_t count);

  // Values [offset, offset + count) of a slot, so that a large one can be copied in pieces; states are copied whole.
  // Values never written are zero. Throw Error(kInvalidArgument) if the range does not fit.
  virtual void read_range(Slot slot, std::size_t offset, std::size_t count, float* out) const = 0;
  virtual void write_range(Slot slot, std::size_t offset, const float* values, std::size_t count) = 0;

  // Optimiser steps done: t in the optimisers' rules, and the step in the dropout key (seed, step, site). This is all
  // the random state there is.
  virtual std::uint64_t step_count() const = 0;
  virtual void set_step_count(std::uint64_t steps) = 0;

  // Bytes held on the host and on the device, for AdjustExternalMemory and the run's summary.
  virtual std::size_t host_bytes() const = 0;
  virtual std::size_t device_bytes() const = 0;

  // One line for the run's summary: the device and precision, e.g. "CPU (AVX-512, 2 threads, fp32)".
  virtual std::string description() const = 0;

  // The algorithm the backend chose by measuring several, if asked to; empty otherwise. A run that continues in another
  // process names it and so gets the same bits.
  virtual std::string chosen_algorithm() const { return {}; }

 protected:
  // Throws Error(kInvalidArgument) unless [offset, offset + count) lies in the slot, or is the whole of a state being
  // written.
  void check_range(Slot slot, std::size_t offset, std::size_t count, bool writing) const;
};

}  // namespace cudnn_lstm
