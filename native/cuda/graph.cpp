#include "cuda/graph.h"

#include <exception>

namespace cudnn_lstm::cuda {

GraphExec capture_graph(cudaStream_t stream, const std::function<void()>& work) {
  // A failure here is no error yet: if the device itself is lost, the calls that are queued instead will say so.
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  bool recorded = true;
  try {
    work();
  } catch (const std::exception&) {
    recorded = false;
  }
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &captured);
  const Graph graph(captured, cudaGraphDestroy);
  cudaGraphExec_t executable = nullptr;
  if (!recorded || ended != cudaSuccess || cudaGraphInstantiate(&executable, graph.get(), 0) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  GraphExec replayed(executable, cudaGraphExecDestroy);
  // Now, and not in the first replay, whose time may be taken.
  if (cudaGraphUpload(executable, stream) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  return replayed;
}

}  // namespace cudnn_lstm::cuda
