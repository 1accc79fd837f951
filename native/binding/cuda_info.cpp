#include "binding/cuda_info.h"

#include "binding/convert.h"
#include "binding/set_own.h"
#include "binding/task.h"
#include "cuda/cuda.h"

namespace cudnn_lstm::binding {
namespace {

std::string string_or(const Napi::Object& options, const char* name, const char* otherwise) {
  return options.Get(name).IsUndefined() ? otherwise : get_string(options, name);
}

cuda::Precision to_precision(const std::string& name) {
  if (name == "fp32") return cuda::Precision::fp32;
  if (name == "tf32") return cuda::Precision::tf32;
  if (name == "bf16") return cuda::Precision::bf16;
  if (name == "fp16") return cuda::Precision::fp16;
  throw Error(kInvalidArgument, "precision must be fp32, tf32, bf16 or fp16");
}

cuda::Algorithm to_algorithm(const std::string& name) {
  if (name == "auto") return cuda::Algorithm::automatic;
  if (name == "standard") return cuda::Algorithm::standard;
  if (name == "persist-static") return cuda::Algorithm::persist_static;
  if (name == "persist-dynamic") return cuda::Algorithm::persist_dynamic;
  if (name == "persist-static-small-h") return cuda::Algorithm::persist_static_small_h;
  throw Error(kInvalidArgument, "algorithm must be auto, standard, persist-static or persist-dynamic");
}

Napi::Value to_object(Napi::Env env, const std::optional<cuda::CudaLibrary>& library) {
  if (!library) return env.Undefined();
  Napi::Object object = Napi::Object::New(env);
  set_own(object, "version", library->version);
  set_own(object, "path", library->path);
  return object;
}

Napi::Value to_object(Napi::Env env, const cuda::CudaInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  set_own(object, "compiled", true);
  set_own(object, "available", info.available);
  set_own(object, "reason", info.reason);
  if (info.driver) set_own(object, "driver", *info.driver);
  if (info.cudnn) set_own(object, "cudnn", to_object(env, info.cudnn));
  if (info.cublas) set_own(object, "cublas", to_object(env, info.cublas));
  if (info.nccl) set_own(object, "nccl", to_object(env, info.nccl));
  Napi::Array devices = Napi::Array::New(env, info.devices.size());
  for (std::size_t i = 0; i < info.devices.size(); ++i) {
    const cuda::CudaDevice& device = info.devices[i];
    Napi::Object entry = Napi::Object::New(env);
    set_own(entry, "ordinal", device.ordinal);
    set_own(entry, "name", device.name);
    set_own(entry, "memoryBytes", static_cast<double>(device.memory_bytes));
    set_own(entry, "freeBytes", static_cast<double>(device.free_bytes));
    set_own(entry, "computeCapability", device.compute_capability);
    set_own(devices, i, entry);
  }
  set_own(object, "devices", devices);
  Napi::Array searched = Napi::Array::New(env, info.searched.size());
  for (std::size_t i = 0; i < info.searched.size(); ++i) set_own(searched, i, info.searched[i]);
  set_own(object, "searched", searched);
  return object;
}

Napi::Value to_object(Napi::Env env, const std::optional<cuda::GpuUsage>& usage) {
  if (!usage) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  set_own(object, "name", usage->name);
  set_own(object, "gpuPercent", usage->gpu_percent);
  set_own(object, "memoryPercent", usage->memory_percent);
  set_own(object, "memoryUsedBytes", static_cast<double>(usage->memory_used_bytes));
  set_own(object, "memoryTotalBytes", static_cast<double>(usage->memory_total_bytes));
  return object;
}

}  // namespace

std::function<std::unique_ptr<Backend>()> cuda_factory(const ModelSpec& spec, const Napi::Object& options) {
  cuda::CudaOptions cuda;
  if (!options.Get("ordinal").IsUndefined()) cuda.ordinal = get_int(options, "ordinal", 0, 1023);
  cuda.precision = to_precision(string_or(options, "precision", "tf32"));
  cuda.algorithm = to_algorithm(string_or(options, "algorithm", "standard"));
  const std::string chosen = string_or(options, "chosenAlgorithm", "");
  if (!chosen.empty()) cuda.chosen = to_algorithm(chosen);
  cuda.library_path = string_or(options, "libraryPath", "");
  cuda.nccl = !options.Get("nccl").IsUndefined() && get_bool(options, "nccl");
  return [spec, cuda] { return cuda::create_cuda_backend(spec, cuda); };
}

Napi::Value start_cuda_info(const Napi::CallbackInfo& info) {
  std::string library_path;
  bool open_always = false;
  if (info.Length() > 0 && info[0].IsObject()) {
    const Napi::Object options = info[0].As<Napi::Object>();
    library_path = string_or(options, "libraryPath", "");
    if (!options.Get("openLibraries").IsUndefined()) open_always = get_bool(options, "openLibraries");
  }
  auto result = std::make_shared<cuda::CudaInfo>();
  return Tasks::of(info.Env())
      .start(
          info.Env(), std::make_shared<StopFlag>(false),
          [result, library_path, open_always](const StopFlag&) {
            *result = cuda::cuda_info(library_path, open_always);
          },
          [result](Napi::Env env) { return to_object(env, *result); });
}

Napi::Value read_gpu_usage(const Napi::CallbackInfo& info) {
  const int ordinal = info[0].IsUndefined() ? 0 : to_int(info[0], "ordinal", 0, 1023);
  auto result = std::make_shared<std::optional<cuda::GpuUsage>>();
  return Tasks::of(info.Env())
      .start(
          info.Env(), std::make_shared<StopFlag>(false),
          [result, ordinal](const StopFlag&) { *result = cuda::gpu_usage(ordinal); },
          [result](Napi::Env env) { return to_object(env, *result); });
}

}  // namespace cudnn_lstm::binding
