// The addon's module object: one per JavaScript environment, with no globals, so that every worker thread can load it.
#include <napi.h>

#include <chrono>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "binding/convert.h"
#include "binding/file_lock.h"
#include "binding/model.h"
#include "binding/ranks.h"
#include "binding/sampling.h"
#include "binding/set_own.h"
#include "binding/task.h"
#include "cpu/cpu_backend.h"

#ifdef CUDNN_LSTM_CUDA
#include "binding/cuda_info.h"
#include "cuda/cuda.h"
#endif

namespace cudnn_lstm::binding {

constexpr int kMostThreads = 1024;

// How a model chooses its threads: options.team, else CUDNN_LSTM_TEAM.
cpu::TeamTuner::Mode to_team_mode(const Napi::Object& options) {
  using Mode = cpu::TeamTuner::Mode;
  const bool given = !options.Get("team").IsUndefined();
  const char* const variable = std::getenv("CUDNN_LSTM_TEAM");
  const std::string name = given ? get_string(options, "team") : variable != nullptr ? variable : "";
  if (name == "adapt" || (!given && name.empty())) return Mode::adapt;
  if (name == "fixed") return Mode::fixed;
  if (name == "random") return Mode::random;
  throw Error(kInvalidArgument,
              std::string(given ? "team" : "CUDNN_LSTM_TEAM") + " must be adapt, fixed or random, not " + name);
}

namespace {

WeightForm weight_form(const Napi::Object& options) {
  if (options.Get("weights").IsUndefined()) return WeightForm::fp32;
  const std::string name = get_string(options, "weights");
  if (name == "fp32") return WeightForm::fp32;
  if (name == "bf16") return WeightForm::bf16;
  if (name == "int8") return WeightForm::int8;
  throw Error(kInvalidArgument, "weights must be fp32, bf16 or int8");
}

// The arithmetic a CPU trains in: bfloat16 if asked for, fp32 in place of the GPU's other precisions.
Arithmetic arithmetic_of(const Napi::Object& options) {
  if (options.Get("precision").IsUndefined()) return Arithmetic::fp32;
  const std::string name = get_string(options, "precision");
  if (name == "bf16") return Arithmetic::bf16;
  if (name == "fp32" || name == "tf32" || name == "fp16") return Arithmetic::fp32;
  throw Error(kInvalidArgument, "precision must be fp32, tf32, bf16 or fp16");
}

}  // namespace

class LstmAddon final : public Napi::Addon<LstmAddon> {
 public:
  LstmAddon(Napi::Env env, Napi::Object exports) {
#ifdef CUDNN_LSTM_CUDA
    static std::once_flag prepared;
    std::call_once(prepared, cuda::prepare_process);
#endif
    model_ = Napi::Persistent(Model::define(env));
    tasks_ = std::make_shared<Tasks>(env);
    stop_at_exit(env);
    DefineAddon(
        exports,
        {InstanceMethod("createModel", &LstmAddon::create_model), InstanceMethod("cpuInfo", &LstmAddon::cpu_info),
         InstanceMethod("cpuAllowance", &LstmAddon::cpu_allowance), InstanceMethod("cudaInfo", &LstmAddon::cuda_info),
         InstanceMethod("gpuUsage", &LstmAddon::gpu_usage), InstanceMethod("measurePeak", &LstmAddon::measure_peak),
         InstanceMethod("lockFile", &LstmAddon::lock_file), InstanceMethod("exitWithin", &LstmAddon::exit_within),
         InstanceMethod("draw", &LstmAddon::draw)});
    define_ranks(env, exports);
  }

  Tasks& tasks() { return *tasks_; }

 private:
  // process.exit() on the main thread ends the process without running its environment's clean-up hooks, so calls are
  // stopped here first. (A worker's calls are stopped by a hook, even if the worker is terminated.) The listener may
  // outlive an addon whose start fails after this.
  void stop_at_exit(Napi::Env env) {
    const Napi::Object process = env.Global().Get("process").As<Napi::Object>();
    const auto stop = Napi::Function::New(env, [held = std::weak_ptr<Tasks>(tasks_)](const Napi::CallbackInfo&) {
      if (const std::shared_ptr<Tasks> tasks = held.lock()) tasks->stop();
    });
    process.Get("on").As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), stop});
  }

  Napi::Value create_model(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      if (info.Length() < 2 || !info[0].IsObject() || !info[1].IsObject()) {
        throw Error(kInvalidArgument, "createModel takes a specification and options");
      }
      const ModelSpec spec = to_spec(info[0].As<Napi::Object>());
      const Napi::Object options = info[1].As<Napi::Object>();
      const std::string device = get_string(options, "device");
      std::function<std::unique_ptr<Backend>()> make;
      if (device == "cpu") {
        const int threads = options.Get("threads").IsUndefined() ? 1 : get_int(options, "threads", 1, kMostThreads);
        const cpu::TeamTuner::Mode mode = to_team_mode(options);
        const WeightForm form = weight_form(options);
        const Arithmetic arithmetic = arithmetic_of(options);
        make = [=] { return cpu::create_cpu_backend(spec, threads, mode, form, arithmetic); };
      } else if (device == "cuda") {
#ifdef CUDNN_LSTM_CUDA
        make = cuda_factory(spec, options);
#else
        throw Error(kDeviceUnavailable,
                    "this build of the addon has no CUDA support: install the CUDA toolkit and cuDNN and build it again "
                    "(npx cudnn-lstm build), or use device cpu");
#endif
      } else {
        throw Error(kInvalidArgument, "device must be cpu or cuda");
      }
      auto backend = std::make_shared<std::unique_ptr<Backend>>();
      return tasks_->start(
          env, std::make_shared<StopFlag>(false), [backend, make](const StopFlag&) { *backend = make(); },
          [this, backend](Napi::Env inner) -> Napi::Value {
            const Napi::Object model = model_.New({});
            Model::Unwrap(model)->adopt(inner, std::move(*backend));
            return model;
          });
    });
  }

  Napi::Value cpu_info(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Napi::Object result = Napi::Object::New(info.Env());
      set_own(result, "isa", cpu::choose_kernels().name);
      const auto supported = cpu::supported_kernels();
      Napi::Array names = Napi::Array::New(info.Env(), supported.size());
      for (std::size_t i = 0; i < supported.size(); ++i) set_own(names, i, supported[i]->name);
      set_own(result, "supported", names);
      return result;
    });
  }

  Napi::Value cpu_allowance(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      if (!info[0].IsUndefined() && !info[0].IsString()) throw Error(kInvalidArgument, "the root must be a string");
      const std::string root = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "/";
      const cpu::CpuAllowance allowance = cpu::read_cpu_allowance(root);
      Napi::Object result = Napi::Object::New(info.Env());
      set_own(result, "cpus", allowance.cpus);
      set_own(result, "quota", allowance.quota);
      set_own(result, "threads", allowance.threads());
      return result;
    });
  }

  Napi::Value cuda_info(const Napi::CallbackInfo& info) {
#ifdef CUDNN_LSTM_CUDA
    return guarded(info.Env(), [&] { return start_cuda_info(info); });
#else
    return tasks_->start(
        info.Env(), std::make_shared<StopFlag>(false), [](const StopFlag&) {},
        [](Napi::Env env) -> Napi::Value {
          Napi::Object result = Napi::Object::New(env);
          set_own(result, "compiled", false);
          set_own(result, "available", false);
          set_own(result, "reason", "this build of the addon has no CUDA support");
          set_own(result, "devices", Napi::Array::New(env));
          set_own(result, "searched", Napi::Array::New(env));
          return result;
        });
#endif
  }

  // What the driver's management library currently reports for a GPU: a promise, of null if there is none.
  Napi::Value gpu_usage(const Napi::CallbackInfo& info) {
#ifdef CUDNN_LSTM_CUDA
    return guarded(info.Env(), [&] { return read_gpu_usage(info); });
#else
    return tasks_->start(
        info.Env(), std::make_shared<StopFlag>(false), [](const StopFlag&) {},
        [](Napi::Env env) -> Napi::Value { return env.Null(); });
#endif
  }

  Napi::Value measure_peak(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int threads = to_int(info[0], "threads", 1, kMostThreads);
      const int milliseconds = to_int(info[1], "milliseconds", 1, 60'000);
      auto peak = std::make_shared<double>(0);
      return tasks_->start(
          info.Env(), std::make_shared<StopFlag>(false),
          [=](const StopFlag& stop) { *peak = cpu::measure_peak(threads, milliseconds, stop); },
          [peak](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, *peak); });
    });
  }

  Napi::Value draw(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      if (!info[0].IsObject()) throw Error(kInvalidArgument, "draw takes an object");
      return draw_from_logits(info.Env(), info[0].As<Napi::Object>());
    });
  }

  Napi::Value lock_file(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int descriptor = to_int(info[0], "descriptor", 0, std::numeric_limits<int>::max());
      auto taken = std::make_shared<bool>(false);
      return tasks_->start(
          info.Env(), std::make_shared<StopFlag>(false),
          [=](const StopFlag&) { *taken = binding::lock_file(descriptor); },
          [taken](Napi::Env env) -> Napi::Value { return Napi::Boolean::New(env, *taken); });
    });
  }

  Napi::Value exit_within(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int code = to_int(info[0], "code", 0, 255);
      const int milliseconds = to_int(info[1], "milliseconds", 0, 60'000);
      if (milliseconds == 0) std::_Exit(code);
      try {
        std::thread([=] {
          std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
          std::_Exit(code);
        }).detach();
      } catch (const std::system_error&) {
        std::_Exit(code);  // no thread could be started
      }
      return info.Env().Undefined();
    });
  }

  Napi::FunctionReference model_;
  std::shared_ptr<Tasks> tasks_;
};

Tasks& Tasks::of(Napi::Env env) { return env.GetInstanceData<LstmAddon>()->tasks(); }

NODE_API_ADDON(LstmAddon)

}  // namespace cudnn_lstm::binding
