// What a device must do: own one whole model and train, evaluate and sample it. Not an operator library: cuDNN's LSTM
// is one fused, opaque call, so a finer interface would only be a mirror of cuDNN
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

// ids is the only thing that crosses into a step: int32 [T + 1, B], time-major. Inputs are rows 0..T-1, targets
// rows 1..T (for Target::last the target is row T alone). Every id is in 0..V-1; the binding has checked it.
struct Batch {
  const std::int32_t* ids;
  int steps;  // T
  int batch;  // B
  Target target;
  bool carry_state;  // start from the state that the last step of this B left; otherwise, and if B changed, from zero

  // A train step of several ranks: `batch` counts this rank's sequences, of those of the global batch from
  // first_sequence on, a multiple of 16; it may be 0. All ranks call with the same global_batch, and get the same
  // result. Null: `batch` is all there is.
  Communicator* ranks = nullptr;
  int first_sequence = 0;
  int global_batch = 0;

  int all_sequences() const { return ranks != nullptr ? global_batch : batch; }
};

// loss: mean nats a target, dropout on. gradient_norm: global L2 norm, of what is not frozen, before clipping. A step
// whose loss or norm is not finite changes nothing but `applied` = false (the parameters, moments and step count stay
// as they were). stopped: it was not applied because this rank, or another one, was asked to stop.
struct StepResult {
  double loss;
  double gradient_norm;
  bool applied;
  bool stopped = false;
};

// What can be read and written, always in the canonical layout (layout.h), as float32:
//   parameters, gradients: [parameter_count]
//   first_moments, second_moments: [parameter_count], the slots of the optimiser's rule (optimizers.h)
//   training_state: [L, 2, B, H], h then c of each layer: what carry_state continues from; B as of the last step
//   stream_state:   [L, 2, S, H]: what next_logits continues from
enum class Slot { parameters, gradients, first_moments, second_moments, training_state, stream_state };

struct SamplingOptions;  // draw_rules.h

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const ModelSpec& spec() const = 0;
  virtual const Layout& layout() const = 0;

  // One optimiser step. `stop` is polled inside the time loop where a step is long; a step that saw it set returns
  // applied = false, stopped = true, loss = NaN and leaves the model as the last completed step left it (training state
  // included).
  virtual StepResult train_step(const Batch& batch, const OptimizerStep& optimizer, const std::atomic<bool>& stop) = 0;

  // As train_step for `count` batches of one shape that lie behind one another in batch.ids; results[count]. A backend
  // that can queue several steps without a host synchronisation overrides it. Returns how many were completed (stop, or
  // a step not applied, ends it; that step's result is written too). Where the batch is shared among ranks, all of them
  // complete as many: a stop between two steps is left for the next one to see. `frozen` is the same in all of
  // `optimizers`.
  virtual int train_steps(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                          const std::atomic<bool>& stop);

  // Loss in nats of each target: losses [T, B] (Target::every) or [B] (last). Does not touch gradients or parameters,
  // nor the training state unless batch.carry_state (then an evaluation state of its own is carried, apart from
  // training's; it is zeroed by reset_evaluation_state). dropout: apply the masks as in training (keyed by mask_step),
  // for the reference's metric.
  virtual void evaluate(const Batch& batch, bool dropout, std::uint64_t mask_step, float* losses,
                        const std::atomic<bool>& stop) = 0;
  virtual void reset_evaluation_state() = 0;
  virtual void reset_training_state() = 0;

  // Feeds ids [T, S] to S streams and gives the logits [S, V] after the last; dropout off; continues from the stream
  // state. Ends early once `stop` is set: logits and state are of no use then.
  virtual void next_logits(const std::int32_t* ids, int steps, int streams, float* logits,
                           const std::atomic<bool>& stop) = 0;
  void next_logits(const std::int32_t* ids, int steps, int streams, float* logits) {
    const std::atomic<bool> never{false};
    next_logits(ids, steps, streams, logits, never);
  }
  virtual void reset_stream_state(int streams) = 0;  // zero state for S streams

  // Feeds ids [S], draws by the rules of draw_rules.h, each stream by its own options [S], feeds what was drawn, and so
  // on, without the host between two draws: out [count, S]. Continues from the stream state and leaves it as it is
  // before the last ids drawn are fed. Returns the draws done (fewer if `stop` was set), or -1, having done nothing,
  // where the device leaves drawing to the host. No repetition penalty is asked of it.
  virtual int draw(const std::int32_t* ids, int streams, const SamplingOptions* options, int count, std::int32_t* out,
                   const std::atomic<bool>& stop);

  // Runs work(0) to work(count - 1), 1 <= count <= sharers(), at once where the backend has the threads. `work` must
  // not throw.
  virtual int sharers() const { return 1; }
  virtual void share(int count, const std::function<void(int)>& work);

  // Number of floats that read(slot) gives now; write must be given as many (for the state slots: any multiple of
  // L*2*H, which sets B or S).
  virtual std::size_t slot_size(Slot slot) const = 0;
  void read(Slot slot, float* out) const { read_range(slot, 0, slot_size(slot), out); }
  void write(Slot slot, const float* values, std::size_t count);

  // Values [offset, offset + count) of a slot, so that a large one is moved in pieces; states are moved as a whole.
  // Values of a slot that were never written are zero. Throw Error(kInvalidArgument) where the range does not fit.
  virtual void read_range(Slot slot, std::size_t offset, std::size_t count, float* out) const = 0;
  virtual void write_range(Slot slot, std::size_t offset, const float* values, std::size_t count) = 0;

  // Optimiser steps done: the t of their rules, and the step of the dropout key (seed, step, site). All the random
  // state there is.
  virtual std::uint64_t step_count() const = 0;
  virtual void set_step_count(std::uint64_t steps) = 0;

  // Bytes held on the host and on the device, for AdjustExternalMemory and the run's summary.
  virtual std::size_t host_bytes() const = 0;
  virtual std::size_t device_bytes() const = 0;

  // One line for the run's summary: what computes, at which precision, e.g. "CPU (AVX-512, 2 threads, fp32)".
  virtual std::string description() const = 0;

  // The algorithm that the backend has chosen among several by measuring, where it was asked to; empty otherwise. A run
  // that continues in another process names it, and so gets the same bits.
  virtual std::string chosen_algorithm() const { return {}; }

 protected:
  // Throws Error(kInvalidArgument) unless [offset, offset + count) lies in the slot, or is all of a state that is
  // written.
  void check_range(Slot slot, std::size_t offset, std::size_t count, bool writing) const;
};

}  // namespace cudnn_lstm
