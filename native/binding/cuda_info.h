// The CUDA backend's part of the addon; compiled where there is CUDA alone.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "core/backend.h"

namespace cudnn_lstm::binding {

// What makes the backend on a thread of the executor, from createModel's options: ordinal, precision, algorithm,
// libraryPath.
std::function<std::unique_ptr<Backend>()> cuda_factory(const ModelSpec& spec, const Napi::Object& options);

// cudaInfo({ libraryPath, openLibraries }?): a promise of NativeCudaInfo (lib/native.ts).
Napi::Value start_cuda_info(const Napi::CallbackInfo& info);

// gpuUsage(ordinal?): a promise of { name, gpuPercent, memoryPercent, memoryUsedBytes, memoryTotalBytes }, or of null.
Napi::Value read_gpu_usage(const Napi::CallbackInfo& info);

}  // namespace cudnn_lstm::binding
