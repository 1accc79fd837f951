// What of NVIDIA's libraries needs no GPU, against the real ones: cuDNN's descriptors with the very arguments that the
// backend uses, and a compilation by NVRTC as the loader has opened it. Where there is a GPU, also what memory cuDNN asks
// for; REQUIRE_GPU in the environment makes its absence a failure. argv[1]: where the libraries are; empty: searched for.
#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "check.h"
#include "cuda/rnn.h"

using namespace cudnn_lstm;
using namespace cudnn_lstm::cuda;

namespace {

// cuDNN compiles its persist-dynamic kernels with the NVRTC that is in the process.
void nvrtc_compiles(const Libraries& libraries, const std::vector<std::string>& searched) {
  begin_case("NVRTC compiles");
  for (const std::string& line : searched) {
    if (line.rfind("NVRTC", 0) == 0) std::printf("  %s\n", line.c_str());
  }
  expect(libraries.nvrtc, "not found");
  void* library = nullptr;
  for (const char* soname : {"libnvrtc.so.13", "libnvrtc.so.12"}) {
    if (library == nullptr) library = dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
  }
  if (library == nullptr) return expect(false, "not opened");
  // Signatures as NVIDIA's documentation gives them: the header is not among what the build needs. 0 is success.
  const auto create = reinterpret_cast<int (*)(void**, const char*, const char*, int, const char* const*,
                                               const char* const*)>(dlsym(library, "nvrtcCreateProgram"));
  const auto compile = reinterpret_cast<int (*)(void*, int, const char* const*)>(dlsym(library, "nvrtcCompileProgram"));
  const auto log = reinterpret_cast<int (*)(void*, char*)>(dlsym(library, "nvrtcGetProgramLog"));
  void* program = nullptr;
  expect(create(&program, "__global__ void one(float* x) { x[threadIdx.x] = tanhf(x[threadIdx.x]); }", "one.cu", 0,
                nullptr, nullptr) == 0,
         "nvrtcCreateProgram");
  const int status = compile(program, 0, nullptr);
  std::vector<char> text(1 << 16);
  log(program, text.data());
  expect(status == 0, "nvrtcCompileProgram gave " + std::to_string(status) + ": " + text.data());
}

// Bytes of workspace and reserve for the reference recipe's shapes, which decide how large a batch fits on a GPU.
void prints_temporary_space(const Libraries& libraries, cudnnRNNDescriptor_t rnn, cudnnDropoutDescriptor_t dropout,
                            cudnnRNNDataDescriptor_t data) {
  begin_case("what memory cuDNN asks for");
  const CudnnFunctions& cudnn = libraries.cudnn;
  cudnnHandle_t handle = nullptr;
  if (cudnn.cudnnCreate(&handle) != CUDNN_STATUS_SUCCESS) {
    std::printf("  no GPU to ask with\n");
    return expect(std::getenv("REQUIRE_GPU") == nullptr, "a GPU is required");
  }
  constexpr int kSteps = 100, kHidden = 256, kLayers = 2;
  for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16}) {
    const Numerics numerics = numerics_of(precision, 9);
    CHECK_CUDNN(libraries, cudnnSetRNNDescriptor_v8(rnn, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, CUDNN_RNN_SINGLE_INP_BIAS,
                                                    CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, numerics.type,
                                                    CUDNN_DATA_FLOAT, numerics.math, 1, kHidden, kHidden, kLayers,
                                                    dropout, CUDNN_RNN_PADDED_IO_ENABLED));
    for (const int batch : {64, 128, 512, 2048}) {
      const std::vector<int> lengths(batch, kSteps);
      CHECK_CUDNN(libraries,
                  cudnnSetRNNDataDescriptor(data, numerics.type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, kSteps,
                                            batch, 1, lengths.data(), nullptr));
      for (const cudnnForwardMode_t mode : {CUDNN_FWD_MODE_TRAINING, CUDNN_FWD_MODE_INFERENCE}) {
        std::size_t workspace = 0, reserve = 0;
        CHECK_CUDNN(libraries, cudnnGetRNNTempSpaceSizes(handle, rnn, mode, data, &workspace, &reserve));
        std::printf("  %s, batch %d, %s: workspace %zu, reserve %zu bytes\n", numerics.title, batch,
                    mode == CUDNN_FWD_MODE_TRAINING ? "training" : "inference", workspace, reserve);
        expect(mode == CUDNN_FWD_MODE_INFERENCE || reserve > 0, "no reserve for training");
      }
    }
  }
  cudnn.cudnnDestroy(handle);
}

}  // namespace

int main(int count, char** arguments) {
  try {
    std::vector<std::string> searched;
    const auto libraries = open_libraries(count > 1 ? arguments[1] : "", searched);
    const CudnnFunctions& cudnn = libraries->cudnn;
    begin_case("cuDNN " + libraries->cudnn_version.version);
    cudnnDropoutDescriptor_t dropout = nullptr;
    cudnnRNNDescriptor_t rnn = nullptr;
    cudnnRNNDataDescriptor_t data = nullptr;
    cudnnTensorDescriptor_t state = nullptr;
    CHECK_CUDNN(*libraries, cudnnCreateDropoutDescriptor(&dropout));
    CHECK_CUDNN(*libraries, cudnnCreateRNNDescriptor(&rnn));
    CHECK_CUDNN(*libraries, cudnnCreateRNNDataDescriptor(&data));
    CHECK_CUDNN(*libraries, cudnnCreateTensorDescriptor(&state));
    // A descriptor without dropout needs no state; some versions want a handle even then.
    const cudnnStatus_t seeded = cudnn.cudnnSetDropoutDescriptor(dropout, nullptr, 0.0f, nullptr, 0, 0);
    std::printf("  dropout descriptor without a handle: %d\n", static_cast<int>(seeded));
    for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16}) {
      const Numerics numerics = numerics_of(precision, 9);
      for (const int in : {1, 47, 24}) {
        for (const cudnnRNNAlgo_t algorithm : {CUDNN_RNN_ALGO_STANDARD, CUDNN_RNN_ALGO_PERSIST_STATIC,
                                               CUDNN_RNN_ALGO_PERSIST_DYNAMIC, CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H}) {
          for (const cudnnRNNBiasMode_t bias : {CUDNN_RNN_SINGLE_INP_BIAS, CUDNN_RNN_DOUBLE_BIAS}) {
            const cudnnStatus_t status = cudnn.cudnnSetRNNDescriptor_v8(
                rnn, algorithm, CUDNN_LSTM, bias, CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, numerics.type,
                CUDNN_DATA_FLOAT, numerics.math, in, 256, 256, 2, dropout, CUDNN_RNN_PADDED_IO_ENABLED);
            std::printf("  %s, %s, %d features, %s: %s\n", numerics.title, algorithm_title(algorithm), in,
                        bias == CUDNN_RNN_DOUBLE_BIAS ? "two biases" : "one bias", cudnn.cudnnGetErrorString(status));
            // The persistent algorithms have two biases only; which of them run on a GPU shows there.
            const bool needed = algorithm == CUDNN_RNN_ALGO_STANDARD || bias == CUDNN_RNN_DOUBLE_BIAS;
            expect(!needed || status == CUDNN_STATUS_SUCCESS, "refused");
          }
        }
      }
      const std::vector<int> lengths(64, 100);
      CHECK_CUDNN(*libraries, cudnnSetRNNDataDescriptor(data, numerics.type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED,
                                                        100, 64, 256, lengths.data(), nullptr));
      const int sizes[] = {2, 64, 256}, strides[] = {64 * 256, 256, 1};
      CHECK_CUDNN(*libraries, cudnnSetTensorNdDescriptor(state, numerics.type, 3, sizes, strides));
    }
    prints_temporary_space(*libraries, rnn, dropout, data);
    nvrtc_compiles(*libraries, searched);
    cudnn.cudnnDestroyTensorDescriptor(state);
    cudnn.cudnnDestroyRNNDataDescriptor(data);
    cudnn.cudnnDestroyRNNDescriptor(rnn);
    cudnn.cudnnDestroyDropoutDescriptor(dropout);
  } catch (const Error& error) {
    expect(false, error.what());
  }
  std::printf("%s\n", failures() == 0 ? "all passed" : "FAILED");
  return failures() == 0 ? 0 : 1;
}
