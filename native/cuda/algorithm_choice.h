// Which of cuDNN's algorithms a training shape runs with.
#pragma once

#include "cuda/layers.h"

namespace cudnn_lstm::cuda {

// The layers of a training shape, with the algorithm that they run. A persistent algorithm is faster where it applies,
// has conditions that no query tells, and has been wrong on GPUs with few multiprocessors; so it is taken only where
// the replays of its graph, with masks and state as the plan has them, give what the standard algorithm's do. Of the
// first shape of Algorithm::automatic they are timed as well, and context.choice keeps the outcome; later shapes take
// that, if it passes for them, and are not timed. Throws Error.
template <class T>
std::unique_ptr<Layers<T>> choose_layers(const Context<T>& context, const LayersShape& shape, const StepView& view,
                                         bool carry, cudnnRNNAlgo_t& algorithm);

}  // namespace cudnn_lstm::cuda
