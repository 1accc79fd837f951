// Creates a backend for an available GPU, or throws an error that says what is missing.
#include "cuda/cuda_backend.h"
#include "cuda/devices.h"

namespace cudnn_lstm::cuda {

std::unique_ptr<Backend> create_cuda_backend(const ModelSpec& spec, const CudaOptions& options) {
  if (spec.gates != GateActivation::sigmoid) {
    throw Error(kDeviceUnavailable,
                "cuDNN's LSTM has sigmoid gates only, and this model's are hard_sigmoid: use device cpu");
  }
  if (spec.reset_symbol >= 0) {
    throw Error(kDeviceUnavailable,
                "cuDNN's LSTM cannot begin anew within a sequence, as this model of single lines does: use device cpu");
  }
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status != cudaSuccess || count == 0) {
    const CudaInfo info = cuda_info(options.library_path);
    std::string searched;
    for (const std::string& line : info.searched) searched += (searched.empty() ? "" : "; ") + line;
    const std::string reason = info.available ? cudaGetErrorString(status) : info.reason;
    throw Error(kDeviceUnavailable, "no usable GPU: " + reason + ". Looked for: " + searched +
                                        ". Install NVIDIA's driver, or use device cpu");
  }
  if (options.ordinal < 0 || options.ordinal >= count) {
    throw Error(kDeviceUnavailable, "there is no GPU " + std::to_string(options.ordinal) + ": this machine has " +
                                        std::to_string(count) + " (cuda:0" +
                                        (count > 1 ? " to cuda:" + std::to_string(count - 1) : "") + ")");
  }
  std::vector<std::string> searched;
  const auto libraries = open_libraries(options.library_path, searched);
  use_device(options.ordinal);
  wait_without_spinning();
  cudaDeviceProp properties{};
  CHECK_CUDA(cudaGetDeviceProperties(&properties, options.ordinal));
  const std::string fault = fault_of_device(properties);
  if (!fault.empty()) throw Error(kDeviceUnavailable, fault + ": use device cpu");
  if (options.precision == Precision::bf16 && properties.major < 8) {
    throw Error(kInvalidArgument, std::string(properties.name) +
                                      " has no bf16 (compute capability 8.0 is needed): use fp16, "
                                      "tf32 or fp32");
  }
  const Numerics numerics = numerics_of(options.precision, properties.major);
  switch (options.precision) {
    case Precision::fp16:
      return std::make_unique<CudaBackend<Half>>(spec, options, libraries, properties.name, numerics);
    case Precision::bf16:
      return std::make_unique<CudaBackend<BFloat16>>(spec, options, libraries, properties.name, numerics);
    default:
      return std::make_unique<CudaBackend<float>>(spec, options, libraries, properties.name, numerics);
  }
}

}  // namespace cudnn_lstm::cuda
