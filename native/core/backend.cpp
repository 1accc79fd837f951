#include "core/backend.h"

namespace cudnn_lstm {

int Backend::train_steps(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                         const std::atomic<bool>& stop) {
  Batch batch = first;
  const std::size_t stride = static_cast<std::size_t>(first.steps + 1) * first.batch;
  for (int i = 0; i < count; ++i) {
    batch.ids = first.ids + i * stride;
    results[i] = train_step(batch, optimizers[i], stop);
    if (!results[i].applied) return i;
    if (stop.load(std::memory_order_relaxed)) return i + 1;
  }
  return count;
}

int Backend::draw(const std::int32_t*, int, const SamplingOptions*, int, std::int32_t*, const std::atomic<bool>&) {
  return -1;
}

void Backend::share(int count, const std::function<void(int)>& work) {
  for (int i = 0; i < count; ++i) work(i);
}

}  // namespace cudnn_lstm
