#include "core/backend.h"

#include <limits>

#include "core/error.h"

namespace cudnn_lstm {

int Backend::train_steps(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                         const std::atomic<bool>& stop) {
  Batch batch = first;
  const std::size_t stride = static_cast<std::size_t>(first.steps + 1) * first.batch;
  for (int i = 0; i < count; ++i) {
    batch.ids = first.ids + i * stride;
    results[i] = train_step(batch, optimizers[i], stop);
    if (!results[i].applied) return i;
    if (batch.ranks == nullptr && stop.load(std::memory_order_relaxed)) return i + 1;
  }
  return count;
}

int Backend::draw(const std::int32_t*, int, const SamplingOptions*, int, std::int32_t*, const std::atomic<bool>&) {
  return -1;
}

void Backend::share(int count, const std::function<void(int)>& work) {
  for (int i = 0; i < count; ++i) work(i);
}

void Backend::write(Slot slot, const float* values, std::size_t count) {
  if (slot != Slot::training_state && slot != Slot::stream_state && count != slot_size(slot)) {
    throw Error(kInvalidArgument,
                "this model has " + std::to_string(slot_size(slot)) + " parameters, not " + std::to_string(count));
  }
  write_range(slot, 0, values, count);
}

void Backend::check_range(Slot slot, std::size_t offset, std::size_t count, bool writing) const {
  const std::size_t size = slot_size(slot);
  if (slot == Slot::training_state || slot == Slot::stream_state) {
    if (offset != 0 || (!writing && count != size)) {
      throw Error(kInvalidArgument, "a state is read and written as a whole");
    }
    const std::size_t each = static_cast<std::size_t>(spec().layers) * 2 * spec().hidden;
    if (count % each != 0 || count / each > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
      throw Error(kInvalidArgument, "a state must hold a multiple of " + std::to_string(each) + " values");
    }
    return;
  }
  if (offset > size || count > size - offset) {
    throw Error(kInvalidArgument, "values " + std::to_string(offset) + " to " + std::to_string(offset + count) +
                                      " are not among the " + std::to_string(size) + " that there are");
  }
}

}  // namespace cudnn_lstm
