// kernels.h for host memory: the same bodies, a row by 32 lanes.
#include "cuda/kernels.h"

#include <typeinfo>

#include "cuda/arithmetic.h"
#include "cuda/check.h"
#include "cuda/draw.h"
#include "standin.h"
#include "warp.h"

namespace cudnn_lstm::cuda {

// As after a launch in kernels.cu: what an earlier call has left is found too.
static void launched(const char* name) {
  CHECK_CUDA(static_cast<cudaError_t>(standin::enter(name)));
  CHECK_CUDA(cudaGetLastError());
}

template <class Body>
void for_each_element(cudaStream_t stream, std::size_t count, const Body& body) {
  launched("for_each_element");
  standin::submit(stream, [=] {
    standin::running_kernel() = typeid(Body).name();
    for (std::size_t i = 0; i < count; ++i) body(i);
  });
}

template <class Body>
void for_each_row(cudaStream_t stream, std::size_t rows, const Body& body) {
  launched("for_each_row");
  standin::submit(stream, [=] {
    standin::running_kernel() = typeid(Body).name();
#if defined(__SANITIZE_ADDRESS__)
    // The sanitizer does not follow a thread from stack to stack.
    for (std::size_t row = 0; row < rows; ++row) body(row, SingleLane{});
#else
    standin::Warp& warp = standin::Warp::of_this_thread();
    for (std::size_t row = 0; row < rows; ++row) {
      warp.run([&](int lane) { body(row, standin::HostLanes(warp, lane)); });
    }
#endif
  });
}

#define INSTANTIATE(...) template void for_each_element(cudaStream_t, std::size_t, const __VA_ARGS__&);
CUDNN_LSTM_ELEMENT_BODIES(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(...) template void for_each_row(cudaStream_t, std::size_t, const __VA_ARGS__&);
CUDNN_LSTM_ROW_BODIES(INSTANTIATE)
#undef INSTANTIATE

}  // namespace cudnn_lstm::cuda
