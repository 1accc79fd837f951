// NVIDIA's management library, opened at run time: the driver's version, a GPU's utilisation and memory.
#pragma once

#include <optional>
#include <string>

#include "cuda/cuda.h"

namespace cudnn_lstm::cuda {

// "580.65.06"; empty without the library.
std::optional<std::string> driver_version();

// The GPU with this PCI bus id ("0000:01:00.0"): NVML's own numbering ignores CUDA_VISIBLE_DEVICES.
std::optional<GpuUsage> usage_of(const std::string& pci_bus_id);

}  // namespace cudnn_lstm::cuda
