#include "cuda/graph.h"

#include <exception>

namespace cudnn_lstm::cuda {

GraphExec capture_graph(cudaStream_t stream, const std::function<void()>& work) {
  // A failure here is not an error yet: if the device itself is lost, the calls queued instead will say so.
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
  // Upload now rather than in the first replay, which may be timed.
  if (cudaGraphUpload(executable, stream) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  return replayed;
}

}  // namespace cudnn_lstm::cuda
