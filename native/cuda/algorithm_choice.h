// Chooses the cuDNN algorithm for a training shape.
#pragma once

#include "cuda/layers.h"

namespace cudnn_lstm::cuda {

// The layers of a training shape, with the algorithm that they run. A persistent algorithm is faster where it applies,
// but has conditions that no query reports and has been wrong on GPUs with few multiprocessors. It is used only if the
// replays of its graph, with the plan's masks and state, give the same results as the standard algorithm's. For the
// first shape under Algorithm::automatic the replays are also timed, and context.choice keeps the outcome; later shapes
// use that, if it passes for them, without timing. Throws Error.
template <class T>
std::unique_ptr<Layers<T>> choose_layers(const Context<T>& context, const LayersShape& shape, const StepView& view,
                                         bool carry, cudnnRNNAlgo_t& algorithm);

}  // namespace cudnn_lstm::cuda
