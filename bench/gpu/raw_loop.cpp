// The ceiling: cuDNN's and cuBLAS's calls of a training step in a C++ loop, and nothing else (no encoding, loss, norm
// or Adam), queued call by call and as a CUDA graph; and the cost of seeding cuDNN's dropout. One JSON object on
// stdout.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "cuda/rnn.h"

using namespace cudnn_lstm;
using namespace cudnn_lstm::cuda;

namespace {

constexpr int kSteps = 100;

double seconds_each(cudaStream_t stream, const std::function<void()>& work) {
  for (int i = 0; i < 3; ++i) work();
  CHECK_CUDA(cudaStreamSynchronize(stream));
  std::vector<double> times;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 20; ++i) work();
    CHECK_CUDA(cudaStreamSynchronize(stream));
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 20);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void measure(const std::shared_ptr<const Libraries>& libraries, Precision precision, int compute_capability, int batch,
             bool first) {
  const ModelSpec spec{47, 2, 256, InputCoding::scalar, 0, 0.2f, 1};
  const Numerics numerics = numerics_of(precision, compute_capability);
  MemoryAccount account;
  const Stream stream = make_stream(true);
  Rnn rnn(libraries, spec, numerics, false, stream.get(), account);
  cublasHandle_t blas = nullptr;
  CHECK_CUBLAS(*libraries, cublasCreate_v2(&blas));
  const Owned<cublasHandle_t, cublasStatus_t> owned(blas, libraries->cublas.cublasDestroy_v2);
  CHECK_CUBLAS(*libraries, cublasSetStream_v2(blas, stream.get()));
  const DeviceBuffer workspace(account, std::size_t{32} << 20, "cuBLAS's workspace");
  CHECK_CUBLAS(*libraries, cublasSetWorkspace_v2(blas, workspace.data(), workspace.bytes()));

  const RnnPass pass(rnn, CUDNN_RNN_ALGO_STANDARD, rnn.make_descriptor(CUDNN_RNN_ALGO_STANDARD, true), kSteps, batch,
                     true, account);
  const std::size_t weights = rnn.weight_elements(pass.descriptor()) * numerics.bytes;
  auto buffer = [&](std::size_t values) {
    DeviceBuffer made(account, values * 4, "the benchmark");
    CHECK_CUDA(cudaMemsetAsync(made.data(), 0, made.bytes(), stream.get()));
    return made;
  };
  const std::size_t positions = static_cast<std::size_t>(kSteps) * batch;
  const DeviceBuffer w = buffer(weights / numerics.bytes), dw = buffer(weights / numerics.bytes);
  const DeviceBuffer x = buffer(positions), dx = buffer(positions), y = buffer(positions * 256),
                     dy = buffer(positions * 256);
  const DeviceBuffer out = buffer(47 * 256), dout = buffer(47 * 256), logits = buffer(47 * batch),
                     top = buffer(256 * batch);
  const float one = 1, zero = 0;
  auto product = [&](cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void* a, int lda,
                     const void* b, int ldb, void* c, cudaDataType_t c_type, int ldc) {
    CHECK_CUBLAS(*libraries,
                 cublasGemmEx_64(blas, ta, tb, m, n, k, &one, a, numerics.blas_type, lda, b, numerics.blas_type, ldb,
                                 &zero, c, c_type, ldc, numerics.blas_compute, CUBLAS_GEMM_DEFAULT));
  };
  const auto step = [&] {
    pass.forward(w.data(), x.data(), y.data(), nullptr, nullptr, nullptr, nullptr);
    product(CUBLAS_OP_T, CUBLAS_OP_N, 47, batch, 256, out.data(), 256, top.data(), 256, logits.data(), CUDA_R_32F, 47);
    product(CUBLAS_OP_N, CUBLAS_OP_T, 256, 47, batch, top.data(), 256, logits.data(), 47, dout.data(), CUDA_R_32F, 256);
    product(CUBLAS_OP_N, CUBLAS_OP_N, 256, batch, 47, out.data(), 256, logits.data(), 47, top.data(),
            numerics.blas_type, 256);
    CHECK_CUDA(cudaMemsetAsync(dw.data(), 0, weights, stream.get()));
    pass.backward_data(w.data(), y.data(), dy.data(), dx.data(), nullptr, nullptr);
    pass.backward_weights(x.data(), nullptr, y.data(), dw.data());
  };
  const double eager = seconds_each(stream.get(), step);
  cudaGraph_t captured = nullptr;
  CHECK_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  step();
  CHECK_CUDA(cudaStreamEndCapture(stream.get(), &captured));
  const Graph graph(captured, cudaGraphDestroy);
  cudaGraphExec_t executable = nullptr;
  CHECK_CUDA(cudaGraphInstantiate(&executable, captured, 0));
  const GraphExec exec(executable, cudaGraphExecDestroy);
  const double replayed = seconds_each(stream.get(), [&] { CHECK_CUDA(cudaGraphLaunch(executable, stream.get())); });
  std::uint64_t mask_step = 0;
  const double seeding = seconds_each(stream.get(), [&] { rnn.use_masks(++mask_step); });
  // As the package runs it: the masks of the next step are seeded while this one runs.
  const double seeded = seconds_each(stream.get(), [&] {
    rnn.use_masks(++mask_step);
    CHECK_CUDA(cudaGraphLaunch(executable, stream.get()));
    rnn.prepare_masks(mask_step + 1);
  });
  std::printf(
      "%s{\"precision\":\"%s\",\"batch\":%d,\"eagerMilliseconds\":%.6f,\"graphMilliseconds\":%.6f,"
      "\"dropoutSeedMilliseconds\":%.6f,\"seededGraphMilliseconds\":%.6f}",
      first ? "" : ",", numerics.title, batch, eager * 1e3, replayed * 1e3, seeding * 1e3, seeded * 1e3);
}

}  // namespace

int main() {
  try {
    std::vector<std::string> searched;
    const auto libraries = open_libraries("", searched);
    cudaDeviceProp properties{};
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    std::printf("[");
    bool first = true;
    for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16}) {
      for (const int batch : {64, 128, 512, 2048}) {
        measure(libraries, precision, properties.major, batch, first);
        first = false;
      }
    }
    std::printf("]\n");
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
