// The stand-in itself: it refuses what CUDA and cuDNN refuse, and finds what they would not say. Each case commits the
// offence.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "cuda/arithmetic.h"
#include "cuda/kernels.h"
#include "cuda/libraries.h"
#include "cuda/rnn.h"
#include "standin_case.h"
#include "standin_suites.h"
#include "warp.h"

using namespace cudnn_lstm::cuda;

namespace {

// The faults since the last look, which are then forgotten.
bool faulted(const std::string& with) {
  const std::vector<std::string> faults = standin::faults();
  standin::faults().clear();
  return std::any_of(faults.begin(), faults.end(), [&](const std::string& fault) { return fault.find(with) != std::string::npos; });
}
void expect_fault(const std::string& with) { expect(faulted(with), "no fault: " + with); }

// An LSTM of one layer and its calls, whose arguments a case may spoil. 2 ticks, 3 sequences, 5 features, 7 units.
class Lstm {
 public:
  static constexpr int kSteps = 2, kBatch = 3, kIn = 5, kHidden = 7;

  explicit Lstm(const Libraries& libraries, cudnnDataType_t type = CUDNN_DATA_HALF)
      : cudnn_(libraries.cudnn), type_(type), each_(type == CUDNN_DATA_FLOAT ? 4 : 2) {
    cudnn_.cudnnCreate(&handle);
    stream = make_stream();
    cudnn_.cudnnSetStream(handle, stream.get());
    cudnn_.cudnnCreateDropoutDescriptor(&dropout);
    cudnn_.cudnnSetDropoutDescriptor(dropout, handle, 0, nullptr, 0, 0);
    cudnn_.cudnnCreateRNNDescriptor(&rnn);
    cudnn_.cudnnSetRNNDescriptor_v8(rnn, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, CUDNN_RNN_SINGLE_INP_BIAS,
                                    CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, type, CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH,
                                    kIn, kHidden, kHidden, 1, dropout, CUDNN_RNN_PADDED_IO_ENABLED);
    for (auto* descriptor : {&x_desc, &y_desc, &wide_desc, &short_desc}) cudnn_.cudnnCreateRNNDataDescriptor(descriptor);
    shape(x_desc, kSteps, kIn);
    shape(y_desc, kSteps, kHidden);
    shape(wide_desc, kSteps, kHidden + 1);
    shape(short_desc, kSteps - 1, kIn);
    for (auto* descriptor : {&h_desc, &deep_desc}) cudnn_.cudnnCreateTensorDescriptor(descriptor);
    const int strides[] = {kBatch * kHidden, kHidden, 1};
    const int one[] = {1, kBatch, kHidden}, two[] = {2, kBatch, kHidden};
    cudnn_.cudnnSetTensorNdDescriptor(h_desc, type, 3, one, strides);
    cudnn_.cudnnSetTensorNdDescriptor(deep_desc, type, 3, two, strides);
    cudnn_.cudnnGetRNNWeightSpaceSize(handle, rnn, &weight_bytes);
    cudnn_.cudnnGetRNNTempSpaceSizes(handle, rnn, CUDNN_FWD_MODE_TRAINING, x_desc, &work_bytes, &reserve_bytes);
    for (DeviceBuffer* buffer : {&x, &y, &dx, &dy, &h, &c, &hy, &cy}) {
      *buffer = DeviceBuffer(account_, 4096, "a case");
      cudaMemsetAsync(buffer->data(), 0, buffer->bytes(), stream.get());
    }
    for (DeviceBuffer* buffer : {&weights, &gradients}) {
      *buffer = DeviceBuffer(account_, weight_bytes, "a case");
      cudaMemsetAsync(buffer->data(), 0, buffer->bytes(), stream.get());
    }
    work = DeviceBuffer(account_, work_bytes, "a case");
    reserve = DeviceBuffer(account_, reserve_bytes, "a case");
    other_reserve = DeviceBuffer(account_, reserve_bytes, "a case");
  }
  ~Lstm() {
    for (auto descriptor : {h_desc, deep_desc}) cudnn_.cudnnDestroyTensorDescriptor(descriptor);
    for (auto descriptor : {x_desc, y_desc, wide_desc, short_desc}) cudnn_.cudnnDestroyRNNDataDescriptor(descriptor);
    cudnn_.cudnnDestroyRNNDescriptor(rnn);
    cudnn_.cudnnDestroyDropoutDescriptor(dropout);
    cudnn_.cudnnDestroy(handle);
  }

  // What a call takes; the members of it are what a case spoils.
  struct Arguments {
    cudnnForwardMode_t mode = CUDNN_FWD_MODE_TRAINING;
    cudnnRNNDataDescriptor_t x_desc, y_desc;
    cudnnTensorDescriptor_t h_desc;
    char *x, *y, *dx, *dy, *h, *c, *hy, *cy, *weights, *gradients, *work, *reserve;
    std::size_t weight_bytes, work_bytes, reserve_bytes;
  };
  Arguments arguments() const {
    return {CUDNN_FWD_MODE_TRAINING, x_desc,           y_desc,         h_desc,           x.as<char>(),       y.as<char>(),
            dx.as<char>(),           dy.as<char>(),    h.as<char>(),   c.as<char>(),     hy.as<char>(),      cy.as<char>(),
            weights.as<char>(),      gradients.as<char>(), work.as<char>(), reserve.as<char>(), weight_bytes, work_bytes,
            reserve_bytes};
  }
  cudnnStatus_t forward(const Arguments& a) const {
    return cudnn_.cudnnRNNForward(handle, rnn, a.mode, nullptr, a.x_desc, a.x, a.y_desc, a.y, a.h_desc, a.h, a.hy, a.h_desc,
                                  a.c, a.cy, a.weight_bytes, a.weights, a.work_bytes, a.work, a.reserve_bytes, a.reserve);
  }
  cudnnStatus_t data(const Arguments& a) const {
    return cudnn_.cudnnRNNBackwardData_v8(handle, rnn, nullptr, a.y_desc, a.y, a.dy, a.x_desc, a.dx, a.h_desc, a.h, nullptr,
                                          nullptr, a.h_desc, a.c, nullptr, nullptr, a.weight_bytes, a.weights, a.work_bytes,
                                          a.work, a.reserve_bytes, a.reserve);
  }
  cudnnStatus_t weights_call(const Arguments& a) const {
    return cudnn_.cudnnRNNBackwardWeights_v8(handle, rnn, CUDNN_WGRAD_MODE_ADD, nullptr, a.x_desc, a.x, a.h_desc, a.h,
                                             a.y_desc, a.y, a.weight_bytes, a.gradients, a.work_bytes, a.work,
                                             a.reserve_bytes, a.reserve);
  }

  cudnnHandle_t handle = nullptr;
  Stream stream;
  cudnnDropoutDescriptor_t dropout = nullptr;
  cudnnRNNDescriptor_t rnn = nullptr;
  cudnnRNNDataDescriptor_t x_desc = nullptr, y_desc = nullptr, wide_desc = nullptr, short_desc = nullptr;
  cudnnTensorDescriptor_t h_desc = nullptr, deep_desc = nullptr;
  std::size_t weight_bytes = 0, work_bytes = 0, reserve_bytes = 0;
  MemoryAccount account_;
  DeviceBuffer x, y, dx, dy, h, c, hy, cy, weights, gradients, work, reserve, other_reserve;

 private:
  void shape(cudnnRNNDataDescriptor_t descriptor, int steps, int width) const {
    const std::vector<int> lengths(kBatch, steps);
    cudnn_.cudnnSetRNNDataDescriptor(descriptor, type_, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, steps, kBatch, width,
                                     lengths.data(), nullptr);
  }
  const CudnnFunctions& cudnn_;
  const cudnnDataType_t type_;
  const std::size_t each_;
};

void misaligned_pointers(const Libraries& libraries) {
  using Member = char* Lstm::Arguments::*;
  using A = Lstm::Arguments;
  for (const cudnnDataType_t type : {CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16, CUDNN_DATA_FLOAT}) {
    begin_case("pointers that are not aligned, type " + std::to_string(static_cast<int>(type)));
    Lstm lstm(libraries, type);
    // An element on is an address that a GPU can read, and 16-bit tensor cores cannot.
    const int off = type == CUDNN_DATA_FLOAT ? 2 : 8;
    const auto refused = [&](cudnnStatus_t status) {
      expect(status == CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "status " + std::to_string(static_cast<int>(status)));
      expect_fault("not aligned");
    };
    expect(lstm.forward(lstm.arguments()) == CUDNN_STATUS_SUCCESS, "aligned");
    for (const Member member : {&A::x, &A::y, &A::h, &A::c, &A::hy, &A::cy, &A::weights, &A::work, &A::reserve}) {
      A spoilt = lstm.arguments();
      spoilt.*member += off;
      refused(lstm.forward(spoilt));
    }
    for (const Member member : {&A::y, &A::dy, &A::dx, &A::h, &A::c, &A::weights, &A::work, &A::reserve}) {
      A spoilt = lstm.arguments();
      spoilt.*member += off;
      refused(lstm.data(spoilt));
    }
    expect(lstm.data(lstm.arguments()) == CUDNN_STATUS_SUCCESS, "aligned");
    for (const Member member : {&A::x, &A::y, &A::h, &A::gradients, &A::work, &A::reserve}) {
      A spoilt = lstm.arguments();
      spoilt.*member += off;
      refused(lstm.weights_call(spoilt));
    }
    expect(lstm.weights_call(lstm.arguments()) == CUDNN_STATUS_SUCCESS, "aligned");
    expect_clean("aligned calls");
  }
}

void shapes_that_do_not_fit(const Libraries& libraries) {
  begin_case("descriptors of another shape");
  Lstm lstm(libraries);
  using A = Lstm::Arguments;
  const std::function<void(A&)> offences[] = {
      [&](A& a) { a.y_desc = lstm.wide_desc; }, [&](A& a) { a.x_desc = lstm.y_desc; },
      [&](A& a) { a.x_desc = lstm.short_desc; }, [&](A& a) { a.h_desc = lstm.deep_desc; },
      [&](A& a) { a.weight_bytes -= 2; },        [&](A& a) { a.work_bytes -= 1; },
      [&](A& a) { a.reserve_bytes -= 1; }};
  for (const auto& spoil : offences) {
    A spoilt = lstm.arguments();
    spoil(spoilt);
    expect(lstm.forward(spoilt) == CUDNN_STATUS_BAD_PARAM, "forward");
    expect_fault("another shape");
    expect(lstm.data(spoilt) == CUDNN_STATUS_BAD_PARAM, "BackwardData");
    expect_fault("another shape");
    expect(lstm.weights_call(spoilt) == CUDNN_STATUS_BAD_PARAM, "BackwardWeights");
    expect_fault("another shape");
  }
  const float probability = 0.5f;
  expect(libraries.cudnn.cudnnSetDropoutDescriptor(lstm.dropout, lstm.handle, probability, lstm.work.data(), 1024, 1) ==
             CUDNN_STATUS_NOT_SUPPORTED,
         "cuDNN's own dropout");
}

void reserves_out_of_order(const Libraries& libraries) {
  begin_case("reserve spaces out of order");
  Lstm lstm(libraries);
  const auto arguments = lstm.arguments();
  lstm.data(arguments);
  expect_fault("BackwardData on a reserve of no training pass");
  auto inference = arguments;
  inference.mode = CUDNN_FWD_MODE_INFERENCE;
  lstm.forward(inference);
  lstm.data(arguments);
  expect_fault("BackwardData on a reserve of no training pass");
  lstm.forward(arguments);
  lstm.weights_call(arguments);
  expect_fault("BackwardWeights without BackwardData");
  lstm.data(arguments);
  lstm.data(arguments);
  expect_fault("BackwardData without a forward pass");
  lstm.weights_call(arguments);
  lstm.weights_call(arguments);
  expect_fault("BackwardWeights without BackwardData");
  // One pass's reserve for another.
  lstm.forward(arguments);
  auto other = arguments;
  other.reserve = lstm.other_reserve.as<char>();
  lstm.data(other);
  expect_fault("BackwardData on a reserve of no training pass");
  Lstm shorter(libraries);
  auto one_tick = shorter.arguments();
  one_tick.x_desc = shorter.short_desc;
  one_tick.y_desc = shorter.y_desc;
  const std::vector<int> lengths(Lstm::kBatch, 1);
  libraries.cudnn.cudnnSetRNNDataDescriptor(shorter.y_desc, CUDNN_DATA_HALF, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 1,
                                            Lstm::kBatch, Lstm::kHidden, lengths.data(), nullptr);
  one_tick.reserve = arguments.reserve;
  expect(shorter.data(one_tick) == CUDNN_STATUS_SUCCESS, "the shapes fit one another");
  expect_fault("BackwardData on the reserve of another pass");
  lstm.data(arguments);
  lstm.weights_call(arguments);
  expect_clean("a pass in order");
}

void forbidden_in_captures(const Libraries& libraries) {
  begin_case("calls that a capture does not take");
  Lstm lstm(libraries);
  const Stream other = make_stream();
  const cudaStream_t stream = lstm.stream.get();
  MemoryAccount account;
  const PinnedBuffer pinned(account, 64, "a case");
  std::fill_n(pinned.as<char>(), 64, '\0');
  char pageable[64] = {};
  const Event event = make_event();
  cudaEventRecord(event.get(), other.get());
  void* made = nullptr;
  struct Offence {
    const char* name;
    std::function<int()> call;
    int status = cudaErrorStreamCaptureUnsupported;
  };
  const Offence offences[] = {
      {"cudaMalloc", [&] { return cudaMalloc(&made, 64); }},
      {"cudaHostAlloc", [&] { return cudaHostAlloc(&made, 64, 0); }},
      {"cudaFree", [&] { return cudaFree(lstm.x.data()); }},
      {"cudaFreeHost", [&] { return cudaFreeHost(pinned.data()); }},
      {"cudaStreamSynchronize", [&] { return cudaStreamSynchronize(stream); }},
      {"cudaEventSynchronize", [&] { return cudaEventSynchronize(event.get()); }},
      {"from pageable memory", [&] { return cudaMemcpyAsync(lstm.x.data(), pageable, 64, cudaMemcpyHostToDevice, stream); }},
      {"to pageable memory", [&] { return cudaMemcpyAsync(pageable, lstm.x.data(), 64, cudaMemcpyDeviceToHost, stream); }},
      {"outside it", [&] { return cudaStreamWaitEvent(stream, event.get(), 0); }, cudaErrorStreamCaptureIsolation},
      {"cudnnBuildRNNDynamic", [&] { return libraries.cudnn.cudnnBuildRNNDynamic(lstm.handle, lstm.rnn, 3); },
       CUDNN_STATUS_EXECUTION_FAILED},
  };
  for (const Offence& offence : offences) {
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    const int status = offence.call();
    expect(status == offence.status, std::string(offence.name) + " gave " + std::to_string(status));
    cudaGraph_t graph = nullptr;
    expect(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && graph == nullptr, offence.name);
    expect_fault(offence.name);
  }
  cudaGetLastError();

  // A stream that came in must be waited for.
  const auto forked = [&](bool joined) {
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    cudaEventRecord(event.get(), stream);
    cudaStreamWaitEvent(other.get(), event.get(), 0);
    cudaMemsetAsync(lstm.x.data(), 0, 64, other.get());
    if (joined) {
      cudaEventRecord(event.get(), other.get());
      cudaStreamWaitEvent(stream, event.get(), 0);
    }
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    return status;
  };
  expect(forked(false) == cudaErrorStreamCaptureUnjoined, "unjoined");
  expect(forked(true) == cudaSuccess, "joined");
  // An event of the capture is none for the host, nor, when it has ended, for a stream.
  expect(cudaEventSynchronize(event.get()) == cudaErrorCapturedEvent, "the host waits");
  expect_fault("an event of a capture");
  expect(cudaStreamWaitEvent(stream, event.get(), 0) == cudaErrorInvalidValue, "a stream waits");
  expect_fault("another capture");
  // The pieces of a graph run in any order that their events allow.
  expect_clean("captures");
}

// What lies elsewhere than in device memory, or is no thing of CUDA's.
void what_is_not_there(const Libraries& libraries) {
  begin_case("memory that is not the device's");
  Lstm lstm(libraries);
  using A = Lstm::Arguments;
  alignas(16) static char host[4096] = {};
  const cudaStream_t stream = lstm.stream.get();
  for (char* A::* member : {&A::x, &A::y, &A::h, &A::c, &A::hy, &A::cy, &A::weights, &A::work, &A::reserve}) {
    A spoilt = lstm.arguments();
    spoilt.*member = host;
    lstm.forward(spoilt);
    expect_fault("is not in device memory");
  }
  lstm.forward(lstm.arguments());
  for (char* A::* member : {&A::dy, &A::dx}) {
    A spoilt = lstm.arguments();
    spoilt.*member = host;
    lstm.data(spoilt);
    expect_fault("is not in device memory");
  }
  A spoilt = lstm.arguments();
  spoilt.gradients = host;
  lstm.weights_call(spoilt);
  expect_fault("is not in device memory");
  spoilt = lstm.arguments();
  spoilt.hy = spoilt.h;
  lstm.forward(spoilt);
  expect_fault("a state read and written in one call");

  MemoryAccount account;
  const PinnedBuffer pinned(account, 64, "a case");
  std::fill_n(pinned.as<char>(), 64, '\0');
  cudaMemsetAsync(host, 0, 64, stream);
  expect_fault("memset outside device memory");
  cudaMemcpyAsync(host, pinned.data(), 64, cudaMemcpyHostToDevice, stream);
  expect_fault("copy to outside device memory");
  cudaMemcpyAsync(pinned.data(), host, 64, cudaMemcpyDeviceToHost, stream);
  expect_fault("copy from outside device memory");
  expect(cudaFree(host) == cudaErrorInvalidValue, "freed");
  expect_fault("cudaFree of what is not device memory");

  cublasHandle_t blas = nullptr;
  libraries.cublas.cublasCreate_v2(&blas);
  libraries.cublas.cublasSetStream_v2(blas, stream);
  libraries.cublas.cublasSetWorkspace_v2(blas, host, 64);
  expect_fault("workspace outside device memory");
  const float one = 1, zero = 0;
  libraries.cublas.cublasGemmEx_64(blas, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, lstm.x.data(), CUDA_R_32F, 2,
                                   lstm.x.data(), CUDA_R_32F, 2, &zero, host, CUDA_R_32F, 2, CUBLAS_COMPUTE_32F,
                                   CUBLAS_GEMM_DEFAULT);
  expect_fault("product outside device memory");
  libraries.cublas.cublasDestroy_v2(blas);

  cudaGraph_t captured = nullptr;
  cudaGraphExec_t graph = nullptr;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  cudaMemsetAsync(lstm.x.data(), 0, 64, stream);
  cudaStreamEndCapture(stream, &captured);
  cudaGraphInstantiate(&graph, captured, 0);
  cudaGraphLaunch(graph, stream);
  expect_fault("before it is uploaded");
  cudaGraphExecDestroy(graph);
  cudaGraphDestroy(captured);

  // The persistent algorithms are for two biases; the one that is compiled is for the batch that it was compiled for.
  standin::settings().persist_supported = true;
  const auto persistent = [&](cudnnRNNBiasMode_t bias) {
    return libraries.cudnn.cudnnSetRNNDescriptor_v8(
        lstm.rnn, CUDNN_RNN_ALGO_PERSIST_DYNAMIC, CUDNN_LSTM, bias, CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT,
        CUDNN_DATA_HALF, CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH, Lstm::kIn, Lstm::kHidden, Lstm::kHidden, 1, lstm.dropout,
        CUDNN_RNN_PADDED_IO_ENABLED);
  };
  expect(persistent(CUDNN_RNN_SINGLE_INP_BIAS) == CUDNN_STATUS_NOT_SUPPORTED, "one bias");
  expect(persistent(CUDNN_RNN_DOUBLE_BIAS) == CUDNN_STATUS_SUCCESS, "two biases");
  spoilt = lstm.arguments();
  libraries.cudnn.cudnnGetRNNWeightSpaceSize(lstm.handle, lstm.rnn, &spoilt.weight_bytes);
  libraries.cudnn.cudnnBuildRNNDynamic(lstm.handle, lstm.rnn, Lstm::kBatch + 1);
  expect(lstm.forward(spoilt) == CUDNN_STATUS_BAD_PARAM, "compiled for another batch");
  standin::settings().persist_supported = false;
  expect_clean("afterwards");
}

void unwritten_memory(const Libraries& libraries) {
  begin_case("memory that nothing wrote");
  using A = Lstm::Arguments;
  MemoryAccount account;
  for (const cudnnDataType_t type : {CUDNN_DATA_FLOAT, CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16}) {
    Lstm lstm(libraries, type);
    const DeviceBuffer fresh(account, 4096, "a case");
    for (char* A::* member : {&A::x, &A::h, &A::c, &A::weights}) {
      A spoilt = lstm.arguments();
      spoilt.*member = fresh.as<char>();
      lstm.forward(spoilt);
      expect_fault("nothing wrote");
    }
    for (char* A::* member : {&A::y, &A::dy, &A::c}) {
      lstm.forward(lstm.arguments());
      expect_clean("a forward pass");
      A spoilt = lstm.arguments();
      spoilt.*member = fresh.as<char>();
      lstm.data(spoilt);
      expect_fault("nothing wrote");
    }
    lstm.forward(lstm.arguments());
    lstm.data(lstm.arguments());
    A spoilt = lstm.arguments();
    spoilt.gradients = fresh.as<char>();  // it adds to them
    lstm.weights_call(spoilt);
    expect_fault("nothing wrote");
  }
  const Stream stream = make_stream();
  const DeviceBuffer fresh(account, 256, "a case"), written(account, 256, "a case");
  cudaMemsetAsync(written.data(), 0, 256, stream.get());
  char host[256];
  cudaMemcpyAsync(host, written.data(), 256, cudaMemcpyDeviceToHost, stream.get());
  expect_clean("a copy of what was written");
  cudaMemcpyAsync(host, fresh.data(), 256, cudaMemcpyDeviceToHost, stream.get());
  expect_fault("device memory that nothing wrote");
  const PinnedBuffer pinned(account, 256, "a case");
  cudaMemcpyAsync(written.data(), pinned.data(), 256, cudaMemcpyHostToDevice, stream.get());
  expect_fault("pinned memory that nothing wrote");
  cudaMemcpyAsync(written.data(), nullptr, 0, cudaMemcpyHostToDevice, stream.get());
  expect_fault("from or to nowhere");
  // Each byte counts, and a copy within the device takes along which are written.
  cudaMemsetAsync(written.data(), 0, 256, stream.get());
  const DeviceBuffer partly(account, 256, "a case"), copy(account, 256, "a case");
  cudaMemsetAsync(partly.as<char>() + 1, 0, 255, stream.get());
  cudaMemcpyAsync(copy.data(), partly.data(), 256, cudaMemcpyDeviceToDevice, stream.get());
  for (const DeviceBuffer* buffer : {&partly, &copy}) {
    cudaMemcpyAsync(host, buffer->as<char>() + 1, 255, cudaMemcpyDeviceToHost, stream.get());
    expect_clean("a copy of what was written");
    cudaMemcpyAsync(host, buffer->data(), 256, cudaMemcpyDeviceToHost, stream.get());
    expect_fault("device memory that nothing wrote");
  }
  cublasHandle_t blas = nullptr;
  libraries.cublas.cublasCreate_v2(&blas);
  libraries.cublas.cublasSetStream_v2(blas, stream.get());
  const DeviceBuffer raw(account, 256, "a case");
  const float one = 1, zero = 0;
  libraries.cublas.cublasGemmEx_64(blas, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, raw.data(), CUDA_R_32F, 2, written.data(),
                                   CUDA_R_32F, 2, &zero, written.as<char>() + 64, CUDA_R_32F, 2, CUBLAS_COMPUTE_32F,
                                   CUBLAS_GEMM_DEFAULT);
  expect_fault("nothing wrote");
  libraries.cublas.cublasDestroy_v2(blas);
}

// What the arithmetic would hide is found where it is read: a largest value passes over NaN, and a mask drops it.
void unwritten_memory_in_kernels() {
  begin_case("memory that nothing wrote, in kernels");
  if (!standin::device_memory().watched) return;
  MemoryAccount account;
  const Stream stream = make_stream();
  const auto buffer = [&](bool write) {
    DeviceBuffer made(account, 4096, "a case");
    if (write) cudaMemsetAsync(made.data(), 0, made.bytes(), stream.get());
    return made;
  };
  const DeviceBuffer zeros = buffer(true);
  const StepView step{zeros.as<Cursor>(), zeros.as<StepInput>(), zeros.as<std::int32_t>(), 0};
  const auto commit = [&](const char* kernel, const std::function<void(DeviceBuffer&)>& launch) {
    for (const bool write : {true, false}) {
      DeviceBuffer input = buffer(write);
      launch(input);
      if (write) {
        expect_clean(kernel);
      } else {
        const auto& faults = standin::faults();
        expect(!faults.empty() && faults[0].find("read by the kernel") != std::string::npos &&
                   faults[0].find(kernel) != std::string::npos,
               std::string("no fault of ") + kernel);
        standin::faults().clear();
      }
    }
  };
  const DeviceBuffer out = buffer(false);
  commit("AddBias", [&](DeviceBuffer& logits) {
    for_each_element(stream.get(), 64, AddBias<float>{logits.as<float>(), zeros.as<float>(), 64});
  });
  commit("Dropout", [&](DeviceBuffer& x) {
    for_each_element(stream.get(), 2 * 1 * 7, Dropout<Half>{step, x.as<Half>(), out.as<Half>(), 3, 7, 0, 0, 65'000, 1});
  });
  commit("EncodeInput", [&](DeviceBuffer& ids) {
    const StepView unread{zeros.as<Cursor>(), zeros.as<StepInput>(), ids.as<std::int32_t>(), 0};
    for_each_element(stream.get(), 6,
                     EncodeInput<float>{unread, Encoding::scalar, 5, 1, nullptr, out.as<float>()});
  });
  commit("SoftmaxLoss", [&](DeviceBuffer& logits) {
    for_each_row(stream.get(), 2,
                 SoftmaxLoss<float>{step, logits.as<float>(), zeros.as<float>(), 40, 0, 2, out.as<float>(), nullptr});
  });
  commit("SumChunks", [&](DeviceBuffer& values) {
    for_each_row(stream.get(), 2, SumChunks{values.as<float>(), 70, 35, out.as<double>()});
  });
  commit("Update", [&](DeviceBuffer& gradients) {
    const DeviceBuffer cursor = buffer(true), moments = buffer(true);
    Cursor apply{};
    apply.apply = 1;
    cudaMemcpyAsync(cursor.data(), &apply, sizeof apply, cudaMemcpyHostToDevice, stream.get());
    const StepView own{cursor.as<Cursor>(), zeros.as<StepInput>(), zeros.as<std::int32_t>(), 0};
    const DeviceBuffer parameters = buffer(true);
    for_each_element(stream.get(), 9,
                     Update<float>{own, gradients.as<float>(), parameters.as<float>(), moments.as<float>(),
                                   moments.as<float>() + 512, nullptr, Spans{nullptr, 0}, 9, nullptr, nullptr});
  });
}

// In a process of its own, which the offence ends.
bool ends_itself(const std::function<void()>& offence, int by = SIGABRT) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    offence();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == by;
}

// Behind a block lies a page that may not be touched, and so is one that was freed.
void memory_that_is_not_there() {
  begin_case("memory past the end, and memory that was freed");
  if (!standin::device_memory().watched) return;
  MemoryAccount account;
  const Stream stream = make_stream();
  const auto set = [&](char* data) { for_each_element(stream.get(), 1, AdvanceCursor{reinterpret_cast<Cursor*>(data), 1}); };
  const auto zero = [&](const DeviceBuffer& buffer) { cudaMemsetAsync(buffer.data(), 0, buffer.bytes(), stream.get()); };
  for (const std::size_t bytes : {std::size_t{256}, std::size_t{4096}, std::size_t{4096 + 256}, std::size_t{1} << 20}) {
    const DeviceBuffer buffer(account, bytes, "a case");
    zero(buffer);
    expect(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256 == 0, "alignment");
    expect(!ends_itself([&] { set(buffer.as<char>() + bytes - sizeof(Cursor)); }, SIGSEGV), "the last of a block");
    expect(ends_itself([&] { set(buffer.as<char>() + bytes); }, SIGSEGV), "past the end");
    char* freed = nullptr;
    {
      const DeviceBuffer other(account, bytes, "a case");
      zero(other);
      freed = other.as<char>();
    }
    expect(ends_itself([&] { set(freed); }, SIGSEGV), "freed memory");
  }
}

void lanes_in_lockstep() {
  begin_case("32 lanes");
#if !defined(__SANITIZE_ADDRESS__)
  standin::Warp& warp = standin::Warp::of_this_thread();
  int met = 0;
  warp.run([&](int lane) {
    const standin::HostLanes lanes(warp, lane);
    const bool sums = lanes.sum(1.0f) == 32 && lanes.sum(0.5 * lane) == 248 &&
                      lanes.sum(std::uint64_t{1} << 40) == std::uint64_t{1} << 45;
    const bool others = lanes.max(static_cast<float>(-lane)) == 0 && lanes.ballot(lane % 2 == 1) == 0xaaaaaaaau;
    met += sums && others && lanes.count() == 32 ? 1 : 0;
  });
  expect(met == 32, std::to_string(met) + " lanes");
  // A value of another lane is there after a barrier, and without one in one of the orders only.
  int shared[32] = {}, right[2] = {};
  for (const bool barrier : {false, true}) {
    std::fill_n(shared, 32, -1);
    warp.run([&](int lane) {
      const standin::HostLanes lanes(warp, lane);
      shared[lane] = lane;
      if (barrier) lanes.barrier();
      right[barrier] += shared[31 - lane] == 31 - lane ? 1 : 0;
    });
  }
  expect(right[0] < 32 && right[1] == 32, "a missing barrier does not show");
  expect(ends_itself([&] {
           warp.run([&](int lane) {
             const standin::HostLanes lanes(warp, lane);
             if (lane < 5) {
               lanes.barrier();
             } else {
               lanes.sum(1.0f);
             }
           });
         }),
         "lanes that part in two collectives");
  expect(ends_itself([&] {
           warp.run([&](int lane) {
             if (lane != 9) standin::HostLanes(warp, lane).barrier();
           });
         }),
         "a lane that does not come");
#endif
}

void forbidden_in_host_functions() {
  begin_case("calls in a function of the host's");
  const Stream stream = make_stream();
  struct Call {
    cudaError_t status = cudaSuccess;
    static void make(void* self) { static_cast<Call*>(self)->status = cudaStreamQuery(nullptr); }
  } call;
  cudaLaunchHostFunc(stream.get(), &Call::make, &call);
  cudaStreamSynchronize(stream.get());
  expect(call.status == cudaErrorNotPermitted, "status " + std::to_string(call.status));
  expect_fault("cudaStreamQuery inside a host function");
  cudaLaunchHostFunc(stream.get(), [](void*) { standin::ask_about_pointer(); }, nullptr);
  cudaStreamSynchronize(stream.get());
  expect_fault("cudaPointerGetAttributes inside a host function");
}

}  // namespace

void check_strictness() {
  standin::reset();
  {
    std::vector<std::string> searched;
    const auto libraries = open_libraries(library_folder, searched);
    misaligned_pointers(*libraries);
    shapes_that_do_not_fit(*libraries);
    reserves_out_of_order(*libraries);
    forbidden_in_captures(*libraries);
    what_is_not_there(*libraries);
    unwritten_memory(*libraries);
  }
  unwritten_memory_in_kernels();
  memory_that_is_not_there();
  lanes_in_lockstep();
  forbidden_in_host_functions();
  expect_nothing_left();
}
