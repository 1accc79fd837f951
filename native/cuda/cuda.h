// The CUDA backend's entry points for the binding.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/communicator.h"

namespace cudnn_lstm::cuda {

// fp32: true FMA. tf32: float32 storage, products on tensor cores with 10-bit mantissas (GPUs of compute capability 8
// and above; fp32 elsewhere). bf16, fp16: 16-bit storage with float32 master weights and moments; fp16 scales the loss.
enum class Precision { fp32, tf32, bf16, fp16 };

// automatic: times the fast algorithms against the standard one when the first training shape is used.
enum class Algorithm { automatic, standard, persist_static, persist_dynamic, persist_static_small_h };

struct CudaOptions {
  int ordinal = 0;
  Precision precision = Precision::tf32;
  Algorithm algorithm = Algorithm::standard;
  // The outcome of Algorithm::automatic in the run that this one continues, to skip the trial. Not automatic itself.
  std::optional<Algorithm> chosen;
  // How many pieces T is cut into where masks between the layers make training one call per layer: a layer's piece then
  // runs concurrently with the next piece of the layer below. 1: one after the other, until a GPU has shown which
  // number is better.
  int pieces = 1;
  // Whether NCCL sums the ranks' gradients between their GPUs, instead of through host memory. The same on all ranks.
  bool nccl = false;
  std::string library_path;  // folder searched first for NVIDIA's libraries; may be empty
};

struct CudaDevice {
  int ordinal;
  std::string name;
  std::size_t memory_bytes;
  std::size_t free_bytes;
  std::string compute_capability;  // "9.0"
  std::string fault;               // why this build cannot use it; empty if it can
};

struct CudaLibrary {
  std::string version;
  std::string path;
};

struct CudaInfo {
  bool available = false;
  std::string reason;                 // one line: why not, or what was found
  std::optional<std::string> driver;  // "580.65.06 (CUDA 13.0)"
  std::optional<CudaLibrary> cudnn;
  std::optional<CudaLibrary> cublas;
  std::optional<CudaLibrary> nccl;
  std::vector<CudaDevice> devices;
  std::vector<std::string> searched;  // everything looked for, where, and the result
};

// The management library's current readings for one GPU.
struct GpuUsage {
  std::string name;
  int gpu_percent;     // of the last sample period with a kernel running
  int memory_percent;  // of the last sample period with memory traffic
  std::size_t memory_used_bytes;
  std::size_t memory_total_bytes;
};

// Throws Error: kDeviceUnavailable (no driver, GPU or library; lists what was looked for), kOutOfMemory, kDeviceFailed,
// kInvalidArgument (a precision or algorithm that this GPU or cuDNN lacks).
std::unique_ptr<Backend> create_cuda_backend(const ModelSpec& spec, const CudaOptions& options);

// Sets CUBLAS_WORKSPACE_CONFIG, unless already set, so that cuBLAS's results, including those inside cuDNN, are the
// same in every run on one architecture; and NCCL_ALGO, unless already set, to exclude the one algorithm whose sums
// differ from call to call. Call when the addon is loaded: no thread may read the environment meanwhile.
void prepare_process();

// Never throws for a missing or broken part of the system; says so in `reason` and `searched`. Without a GPU, opens the
// libraries, which takes a second, only if their folder was named or `open_always` is set.
CudaInfo cuda_info(const std::string& library_path, bool open_always = false);

// A rank of a job joined by NCCL alone.
struct NcclJob {
  int rank, size;
  int local_rank, local_size;
  int ordinal;                         // of its GPU
  std::chrono::milliseconds patience;  // how long a call waits for the others; 0: for ever
};
struct JoinedByNccl {
  std::shared_ptr<Communicator> ranks;
  CudaLibrary library;
};

// Sets NCCL_COMM_ID, unless already set, to where rank 0 listens, "host:port". No thread may read the environment
// meanwhile.
void prepare_nccl(const std::string& address);

// Waits for all ranks. Throws Error: kDeviceUnavailable (no GPU of that number, no NCCL), kDeviceFailed.
JoinedByNccl join_by_nccl(const NcclJob& job, const std::string& library_path);

// Empty if the management library or the GPU is missing.
std::optional<GpuUsage> gpu_usage(int ordinal);

}  // namespace cudnn_lstm::cuda
