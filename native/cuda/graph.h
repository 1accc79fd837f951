// CUDA graphs: the calls of a pass, recorded once and replayed.
#pragma once

#include <functional>

#include "cuda/device_memory.h"

namespace cudnn_lstm::cuda {

// Records what `work` queues on `stream` instead of running it. Empty if some of it cannot be recorded with the
// libraries in use: the caller then queues call by call. Lazily loaded kernels must have run before.
GraphExec capture_graph(cudaStream_t stream, const std::function<void()>& work);

}  // namespace cudnn_lstm::cuda
