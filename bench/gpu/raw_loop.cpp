// The ceiling: cuDNN's and cuBLAS's calls of a training step in a C++ loop, and nothing else (no encoding, loss, norm or
// update), queued call by call and as a CUDA graph: all layers in one call, which is a step without dropout, and a call a
// layer with the masks between them, T in 1 to 8 pieces. A JSON object a line on stdout.
//
// --tiny: a model of no interest, to try the program itself.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>

#include "cuda/graph.h"
#include "cuda/layers.h"

using namespace cudnn_lstm;
using namespace cudnn_lstm::cuda;

namespace {

struct Sizes {
  int steps = 100, hidden = 256, vocabulary = 47, repeats = 7;
  std::vector<int> batches = {64, 128, 512, 2048};
};
Sizes sizes;

double seconds_of(cudaStream_t stream, const std::function<void()>& work, int count) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) work();
  CHECK_CUDA(cudaStreamSynchronize(stream));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / count;
}

// The median of seven, each of as many as take 20 ms: the machine may be rented by the minute.
double seconds_each(cudaStream_t stream, const std::function<void()>& work) {
  seconds_of(stream, work, 3);
  const int count = std::clamp(static_cast<int>(0.02 / seconds_of(stream, work, 1)), 1, 20);
  std::vector<double> times;
  for (int repeat = 0; repeat < sizes.repeats; ++repeat) times.push_back(seconds_of(stream, work, count));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// One model's buffers and calls. T: the storage type of weights and activations.
template <class T>
class RawStep {
 public:
  // pieces: 0 for all layers in one call, without masks.
  RawStep(const std::shared_ptr<const Libraries>& libraries, const Numerics& numerics, int batch, int pieces)
      : libraries_(*libraries),
        numerics_(numerics),
        batch_(batch),
        spec_{sizes.vocabulary, 2, sizes.hidden, InputCoding::scalar, 0, pieces == 0 ? 0.0f : 0.2f, 1},
        layout_(spec_),
        stream_(make_stream(true)),
        rnn_(libraries, spec_, numerics, false, pieces > 1, stream_.get()) {
    cublasHandle_t blas = nullptr;
    CHECK_CUBLAS(libraries_, cublasCreate_v2(&blas));
    blas_ = CublasHandle(blas, libraries_.cublas.cublasDestroy_v2);
    CHECK_CUBLAS(libraries_, cublasSetStream_v2(blas, stream_.get()));
    workspace_ = DeviceBuffer(account_, std::size_t{32} << 20, "cuBLAS's workspace");
    CHECK_CUBLAS(libraries_, cublasSetWorkspace_v2(blas, workspace_.data(), workspace_.bytes()));
    for (int layer = 0; layer < (pieces == 0 ? 1 : spec_.layers); ++layer) {
      const LayerRange range = pieces == 0 ? rnn_.all_layers() : LayerRange{layer, 1};
      if (pieces > 0) arena_.layers.push_back(arena_.lstm);
      arena_.lstm += aligned(rnn_.weight_elements(rnn_.make_descriptor(CUDNN_RNN_ALGO_STANDARD, range).get()));
    }
    arena_.parameters = buffer(arena_.lstm * sizeof(float));
    if (sizeof(T) != sizeof(float)) arena_.rounded = buffer(arena_.lstm * sizeof(T));
    gradients_ = buffer(arena_.lstm * sizeof(T));
    const std::size_t positions = static_cast<std::size_t>(sizes.steps) * batch;
    x_ = buffer(positions * sizeof(T));
    dx_ = buffer(positions * sizeof(T));
    next_ = buffer(state_layout_of(spec_, batch, pieces > 0).size() * sizeof(T));
    out_ = buffer(sizes.vocabulary * sizes.hidden * sizeof(float));
    dout_ = buffer(sizes.vocabulary * sizes.hidden * sizeof(float));
    logits_ = buffer(sizes.vocabulary * batch * sizeof(float));
    top_ = buffer(sizes.hidden * batch * sizeof(float));
    cursor_ = buffer(sizeof(Cursor));
    inputs_ = buffer(sizeof(StepInput));
    const Context<T> context{spec_,         layout_,  rnn_,    arena_, blas_.get(),    stream_.get(),
                             stream_.get(), account_, choice_, pieces, without_graphs_};
    layers_ = make_layers(context, LayersShape{sizes.steps, batch, true, pieces > 0},
                          StepView{cursor_.as<Cursor>(), inputs_.as<StepInput>(), nullptr, 0}, CUDNN_RNN_ALGO_STANDARD);
  }

  // Seconds of a step, call by call.
  double eager_seconds() {
    return seconds_each(stream_.get(), [this] { step(); });
  }
  // As a graph.
  double graph_seconds() {
    step();  // so that what is loaded at its first use is not loaded inside the capture
    CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
    const GraphExec graph = capture_graph(stream_.get(), [this] { step(); });
    if (!graph) throw Error(kDeviceFailed, "the step could not be recorded");
    return seconds_each(stream_.get(), [&] { CHECK_CUDA(cudaGraphLaunch(graph.get(), stream_.get())); });
  }

 private:
  DeviceBuffer buffer(std::size_t bytes) {
    DeviceBuffer made(account_, bytes, "the benchmark");
    CHECK_CUDA(cudaMemsetAsync(made.data(), 0, made.bytes(), stream_.get()));
    return made;
  }

  void product(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const DeviceBuffer& a, int lda,
               const DeviceBuffer& b, int ldb, const DeviceBuffer& c, cudaDataType_t c_type, int ldc) const {
    const float one = 1, zero = 0;
    CHECK_CUBLAS(libraries_, cublasGemmEx_64(blas_.get(), ta, tb, m, n, k, &one, a.data(), numerics_.blas_type, lda,
                                             b.data(), numerics_.blas_type, ldb, &zero, c.data(), c_type, ldc,
                                             numerics_.blas_compute, CUBLAS_GEMM_DEFAULT));
  }

  void step() {
    const T* x = x_.as<T>();
    layers_->forward(x, nullptr, next_.as<T>());
    const int V = sizes.vocabulary, H = sizes.hidden;
    product(CUBLAS_OP_T, CUBLAS_OP_N, V, batch_, H, out_, H, top_, H, logits_, CUDA_R_32F, V);
    product(CUBLAS_OP_N, CUBLAS_OP_T, H, V, batch_, top_, H, logits_, V, dout_, CUDA_R_32F, H);
    product(CUBLAS_OP_N, CUBLAS_OP_N, H, batch_, V, out_, H, logits_, V, top_, numerics_.blas_type, H);
    CHECK_CUDA(cudaMemsetAsync(gradients_.data(), 0, gradients_.bytes(), stream_.get()));
    layers_->backward(x, nullptr, dx_.as<T>(), gradients_.as<T>());
  }

  const Libraries& libraries_;
  const Numerics numerics_;
  const int batch_;
  const ModelSpec spec_;
  const Layout layout_;
  MemoryAccount account_;
  Stream stream_;
  Rnn rnn_;
  CublasHandle blas_;
  Arena<T> arena_;
  AlgorithmChoice choice_;
  std::atomic<bool> without_graphs_{false};
  DeviceBuffer workspace_, gradients_, x_, dx_, next_, out_, dout_, logits_, top_, cursor_, inputs_;
  std::unique_ptr<Layers<T>> layers_;
};

template <class T>
void measure(const std::shared_ptr<const Libraries>& libraries, Precision precision, int compute_capability,
             int batch) {
  const Numerics numerics = numerics_of(precision, compute_capability);
  RawStep<T> joined(libraries, numerics, batch, 0);
  const double eager = joined.eager_seconds(), graph = joined.graph_seconds();
  std::printf("{\"precision\":\"%s\",\"batch\":%d,\"eagerMilliseconds\":%.6f,\"graphMilliseconds\":%.6f,"
              "\"maskedGraphMilliseconds\":{",
              numerics.title, batch, eager * 1e3, graph * 1e3);
  for (const int pieces : {1, 2, 4, 8}) {
    const double masked = RawStep<T>(libraries, numerics, batch, pieces).graph_seconds();
    std::printf("%s\"%d\":%.6f", pieces == 1 ? "" : ",", pieces, masked * 1e3);
  }
  std::printf("}}\n");
  std::fflush(stdout);  // what is stopped keeps what it has
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "--tiny") == 0) sizes = {9, 6, 47, 1, {2, 3}};
  try {
    std::vector<std::string> searched;
    const auto libraries = open_libraries("", searched);
    cudaDeviceProp properties{};
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    for (const Precision precision : {Precision::tf32, Precision::bf16, Precision::fp32, Precision::fp16}) {
      for (const int batch : sizes.batches) {
        const auto run = precision == Precision::bf16   ? measure<BFloat16>
                         : precision == Precision::fp16 ? measure<Half>
                                                        : measure<float>;
        run(libraries, precision, properties.major, batch);
      }
    }
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
