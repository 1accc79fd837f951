#include "cuda/nvml.h"

#include <dlfcn.h>

#include <mutex>

namespace cudnn_lstm::cuda {
namespace {

// The few declarations used, from NVML's documentation: no wheel contains its header. Success is 0.
using Device = struct nvmlDevice_st*;
struct Utilization {
  unsigned int gpu;
  unsigned int memory;
};
struct MemoryInfo {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};

// An initialised NVML session.
class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) return;
    resolve("nvmlInit_v2", init_);
    resolve("nvmlShutdown", shutdown_);
    resolve("nvmlSystemGetDriverVersion", system_driver_version);
    resolve("nvmlDeviceGetHandleByPciBusId_v2", device_by_bus_id);
    resolve("nvmlDeviceGetUtilizationRates", utilization);
    resolve("nvmlDeviceGetMemoryInfo", memory);
    resolve("nvmlDeviceGetName", name);
    ready_ = complete_ && init_() == 0;
  }
  // The library itself stays loaded.
  ~Nvml() {
    if (ready_) shutdown_();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  explicit operator bool() const { return ready_; }

  int (*system_driver_version)(char*, unsigned) = nullptr;
  int (*device_by_bus_id)(const char*, Device*) = nullptr;
  int (*utilization)(Device, Utilization*) = nullptr;
  int (*memory)(Device, MemoryInfo*) = nullptr;
  int (*name)(Device, char*, unsigned) = nullptr;

 private:
  template <class Function>
  void resolve(const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, symbol));
    complete_ = complete_ && function != nullptr;
  }

  void* library_;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  bool complete_ = true;
  bool ready_ = false;
};

// One session per process: a new one per reading would look for every GPU of the machine again. Never destroyed, since
// a reading may be in progress when the process ends. Until it is ready, each reading tries again.
const Nvml& session() {
  static std::mutex mutex;
  static const Nvml* kept = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (kept == nullptr || !*kept) {
    delete kept;
    kept = new Nvml;
  }
  return *kept;
}

}  // namespace

std::optional<std::string> driver_version() {
  const Nvml& nvml = session();
  char text[96] = {};
  if (!nvml || nvml.system_driver_version(text, sizeof text) != 0) return std::nullopt;
  return std::string(text);
}

std::optional<GpuUsage> usage_of(const std::string& pci_bus_id) {
  const Nvml& nvml = session();
  Device device = nullptr;
  Utilization utilization{};
  MemoryInfo memory{};
  char name[96] = {};
  if (!nvml || nvml.device_by_bus_id(pci_bus_id.c_str(), &device) != 0 || nvml.memory(device, &memory) != 0 ||
      nvml.name(device, name, sizeof name) != 0) {
    return std::nullopt;
  }
  // 0 if the GPU does not count its utilisation (a MIG slice does not).
  if (nvml.utilization(device, &utilization) != 0) utilization = {};
  return GpuUsage{name, static_cast<int>(utilization.gpu), static_cast<int>(utilization.memory), memory.used,
                  memory.total};
}

}  // namespace cudnn_lstm::cuda
