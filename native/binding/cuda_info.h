// The CUDA backend's part of the addon; compiled only with CUDA.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "core/backend.h"

namespace cudnn_lstm::binding {

// Returns the function that creates the backend, on an executor thread, from createModel's options: ordinal, precision,
// algorithm, chosenAlgorithm, nccl, libraryPath.
std::function<std::unique_ptr<Backend>()> cuda_factory(const ModelSpec& spec, const Napi::Object& options);

// cudaInfo({ libraryPath, openLibraries }?): a promise of NativeCudaInfo (lib/device/native.ts).
Napi::Value start_cuda_info(const Napi::CallbackInfo& info);

// gpuUsage(ordinal?): a promise of { name, gpuPercent, memoryPercent, memoryUsedBytes, memoryTotalBytes }, or of null.
Napi::Value read_gpu_usage(const Napi::CallbackInfo& info);

}  // namespace cudnn_lstm::binding
