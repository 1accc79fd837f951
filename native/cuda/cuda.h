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

// automatic: the fast algorithms are timed against the standard one when the first training shape is used.
enum class Algorithm { automatic, standard, persist_static, persist_dynamic, persist_static_small_h };

struct CudaOptions {
  int ordinal = 0;
  Precision precision = Precision::tf32;
  Algorithm algorithm = Algorithm::standard;
  // What Algorithm::automatic came to in the run that this one continues: it is not tried again. Not automatic itself.
  std::optional<Algorithm> chosen;
  // Into how many pieces T is cut where masks between the layers make training a call a layer: a layer's piece then
  // runs beside the next piece of the layer below. 1: one after the other, until a GPU has shown which number is
  // better.
  int pieces = 1;
  // Whether the gradients of ranks are summed by NCCL, between their GPUs, and not by way of the host's memory: the
  // same on all ranks.
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
  std::vector<std::string> searched;  // everything looked for, where, and what came of it
};

// What the management library reports of one GPU now.
struct GpuUsage {
  std::string name;
  int gpu_percent;     // of the last sample period with a kernel running
  int memory_percent;  // of the last sample period with memory traffic
  std::size_t memory_used_bytes;
  std::size_t memory_total_bytes;
};

// Throws Error: kDeviceUnavailable (no driver, GPU or library; lists what was looked for), kOutOfMemory, kDeviceFailed,
// kInvalidArgument (a precision or algorithm that this GPU or cuDNN does not have).
std::unique_ptr<Backend> create_cuda_backend(const ModelSpec& spec, const CudaOptions& options);

// Sets CUBLAS_WORKSPACE_CONFIG, unless it is set, to what makes cuBLAS's results, those inside cuDNN included, the same
// in every run on one architecture; and NCCL_ALGO, unless it is set, so that the one algorithm is not taken whose sums
// differ from call to call. To be called when the addon is loaded: no thread may read the environment
// meanwhile.
void prepare_process();

// Never throws for a missing or broken part of the system; says so in `reason` and `searched`. Without a GPU the
// libraries are opened, which takes a second, only if their folder was named or `open_always`.
CudaInfo cuda_info(const std::string& library_path, bool open_always = false);

// A rank of a job that nothing but NCCL brings together.
struct NcclJob {
  int rank, size;
  int local_rank, local_size;
  int ordinal;                         // of its GPU
  std::chrono::milliseconds patience;  // with a call that waits for the others; 0: for ever
};
struct JoinedByNccl {
  std::shared_ptr<Communicator> ranks;
  CudaLibrary library;
};

// Sets NCCL_COMM_ID, unless it is set: where rank 0 listens, "host:port". No thread may read the environment meanwhile.
void prepare_nccl(const std::string& address);

// Waits for all ranks. Throws Error: kDeviceUnavailable (no GPU of that number, no NCCL), kDeviceFailed.
JoinedByNccl join_by_nccl(const NcclJob& job, const std::string& library_path);

// Empty where the management library or the GPU is missing.
std::optional<GpuUsage> gpu_usage(int ordinal);

}  // namespace cudnn_lstm::cuda
