// cuDNN and cuBLAS, opened at run time: function tables whose signatures come from NVIDIA's headers, and the loader
// that fills them or throws one error that lists what was looked for. docs/adr/0003-dlopen-of-cudnn.md says why.
#pragma once

#include <cublas_v2.h>
#include <cudnn.h>

#include <memory>
#include <string>
#include <vector>

#include "cuda/check.h"

namespace cudnn_lstm::cuda {

// clang-format off
#define CUDNN_LSTM_CUDNN_FUNCTIONS(X) \
  X(cudnnGetVersion) \
  X(cudnnGraphVersionCheck) \
  X(cudnnOpsVersionCheck) \
  X(cudnnCnnVersionCheck) \
  X(cudnnAdvVersionCheck) \
  X(cudnnGetErrorString) \
  X(cudnnCreate) \
  X(cudnnDestroy) \
  X(cudnnSetStream) \
  X(cudnnCreateTensorDescriptor) \
  X(cudnnDestroyTensorDescriptor) \
  X(cudnnSetTensorNdDescriptor) \
  X(cudnnGetTensorNdDescriptor) \
  X(cudnnCreateDropoutDescriptor) \
  X(cudnnDestroyDropoutDescriptor) \
  X(cudnnSetDropoutDescriptor) \
  X(cudnnCreateRNNDescriptor) \
  X(cudnnDestroyRNNDescriptor) \
  X(cudnnSetRNNDescriptor_v8) \
  X(cudnnBuildRNNDynamic) \
  X(cudnnCreateRNNDataDescriptor) \
  X(cudnnDestroyRNNDataDescriptor) \
  X(cudnnSetRNNDataDescriptor) \
  X(cudnnGetRNNWeightSpaceSize) \
  X(cudnnGetRNNWeightParams) \
  X(cudnnGetRNNTempSpaceSizes) \
  X(cudnnRNNForward) \
  X(cudnnRNNBackwardData_v8) \
  X(cudnnRNNBackwardWeights_v8)

// Some of these names are macros for their _v2 forms; the table has the expanded names throughout. GemmEx is an
// overload in C++, which decltype cannot name; its 64-bit form is not.
#define CUDNN_LSTM_CUBLAS_FUNCTIONS(X) \
  X(cublasCreate) \
  X(cublasDestroy) \
  X(cublasSetStream) \
  X(cublasSetWorkspace) \
  X(cublasGetVersion) \
  X(cublasGemmEx_64) \
  X(cublasGetStatusString)
// clang-format on

struct CudnnFunctions {
#define MEMBER(name) decltype(&::name) name = nullptr;
  CUDNN_LSTM_CUDNN_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct CublasFunctions {
#define MEMBER(name) decltype(&::name) name = nullptr;
  CUDNN_LSTM_CUBLAS_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct LibraryVersion {
  std::string version;  // "9.24.0"
  std::string path;
};

// The tables. The libraries stay loaded until the process ends: NVIDIA's libraries keep state that does not survive
// dlclose.
struct Libraries {
  CudnnFunctions cudnn;
  CublasFunctions cublas;
  LibraryVersion cudnn_version;
  LibraryVersion cublas_version;
  bool nvrtc = false;  // available, for algorithms compiled at run time
};

// Looks for the libraries as library_search.h says, checks every cuDNN file before opening any, opens them and checks
// their versions. `searched` gets a line for each thing looked for and the result, even when this throws. Throws
// Error(kDeviceUnavailable); never lets cuDNN abort the process over a missing part.
std::shared_ptr<const Libraries> open_libraries(const std::string& library_path, std::vector<std::string>& searched);

// The first half of open_libraries: finds and checks files, opens nothing (opening takes a second if nothing is
// cached).
void find_libraries(const std::string& library_path, std::vector<std::string>& searched);

}  // namespace cudnn_lstm::cuda

#define CHECK_CUDNN(libraries, call)                                                                         \
  do {                                                                                                       \
    const cudnnStatus_t check_status = (libraries).cudnn.call;                                               \
    if (check_status != CUDNN_STATUS_SUCCESS) {                                                              \
      const int check_code = static_cast<int>(check_status);                                                 \
      ::cudnn_lstm::cuda::fail_library(                                                                      \
          "cuDNN", check_code, (libraries).cudnn.cudnnGetErrorString(check_status),                          \
          check_code == 4003 || check_code == 4004 /* allocation of host, device memory */, #call, __FILE__, \
          __LINE__);                                                                                         \
    }                                                                                                        \
  } while (false)

#define CHECK_CUBLAS(libraries, call)                                                                          \
  do {                                                                                                         \
    const cublasStatus_t check_status = (libraries).cublas.call;                                               \
    if (check_status != CUBLAS_STATUS_SUCCESS) {                                                               \
      ::cudnn_lstm::cuda::fail_library("cuBLAS", static_cast<int>(check_status),                               \
                                       (libraries).cublas.cublasGetStatusString(check_status),                 \
                                       check_status == CUBLAS_STATUS_ALLOC_FAILED, #call, __FILE__, __LINE__); \
    }                                                                                                          \
  } while (false)
