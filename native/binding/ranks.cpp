#include "binding/ranks.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "binding/convert.h"
#include "binding/set_own.h"
#include "binding/task.h"
#ifdef CUDNN_LSTM_CUDA
#include "cuda/cuda.h"
#endif
#include "mpi/mpi_communicator.h"

namespace cudnn_lstm::binding {
namespace {

using mpi::MpiCommunicator;

// The library that joins the ranks, as JavaScript sees it.
struct Means {
  std::string library, abi, version;
};

// One per process: MPI can be started only once in it, whichever JavaScript thread does so.
struct Joined {
  std::mutex mutex;
  bool tried = false;
  std::shared_ptr<Communicator> ranks;
  Means means;
};

Joined& joined() {
  static auto* const held = new Joined;  // never destroyed: a call may be under way when the process ends
  return *held;
}

std::vector<std::string> get_names(const Napi::Value& value) {
  if (!value.IsArray()) throw Error(kInvalidArgument, "names must be an array");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < array.Length(); ++i) names.push_back(array.Get(i).ToString().Utf8Value());
  return names;
}

std::vector<std::uint8_t> get_bytes(const Napi::Value& value) {
  return copy_values<Napi::Uint8Array, std::uint8_t>(value, napi_uint8_array, "bytes must be a Uint8Array");
}

Means means_of(const mpi::Library& library) { return {library.name(), library.abi(), library.version()}; }

Napi::Object describe(Napi::Env env, const Means& means) {
  Napi::Object result = Napi::Object::New(env);
  set_own(result, "library", means.library);
  set_own(result, "abi", means.abi);
  set_own(result, "version", means.version);
  return result;
}

// Starts a call between the ranks. `result` makes its result on the JavaScript thread.
template <typename Execution, typename Result>
Napi::Value start(Napi::Env env, Execution execution, Result result) {
  return Tasks::of(env).start(
      env, std::make_shared<StopFlag>(false), [execution](const StopFlag&) { execution(); }, result);
}

Napi::Value find_mpi(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::vector<std::string> names = get_names(info[0]);
    mpi::prepare_environment();
    auto found = std::make_shared<std::shared_ptr<mpi::Library>>();
    return start(
        info.Env(), [=] { *found = mpi::open_library(names, false); },
        [found](Napi::Env env) -> Napi::Value { return describe(env, means_of(**found)); });
  });
}

// Joins the ranks: `open` returns what `join` takes, and `join` waits for all ranks of the job.
template <typename Open, typename Join>
Napi::Value start_joining(Napi::Env env, Open open, Join join) {
  return start(
      env,
      [=] {
        Joined& held = joined();
        std::unique_lock<std::mutex> lock(held.mutex);
        if (held.tried) {
          throw Error(kDeviceUnavailable,
                      "this process has joined the ranks of its job before, which it can do once: train in one of its "
                      "threads, one training after another");
        }
        auto opened = open();
        held.tried = true;
        // Without the lock, which JavaScript threads take.
        lock.unlock();
        auto [ranks, means] = join(std::move(opened));
        lock.lock();
        held.ranks = std::move(ranks);
        held.means = std::move(means);
      },
      [](Napi::Env inner) -> Napi::Value {
        const auto ranks = joined_ranks();
        Napi::Object result = describe(inner, joined().means);
        set_own(result, "rank", ranks->rank());
        set_own(result, "size", ranks->size());
        set_own(result, "localRank", ranks->local_rank());
        set_own(result, "localSize", ranks->local_size());
        return result;
      });
}

std::chrono::milliseconds get_timeout(const Napi::Value& value) {
  const double seconds = to_number(value, "timeout");
  if (!(seconds >= 0 && seconds <= 1e6)) throw Error(kInvalidArgument, "timeout must be 0 to 1e6 seconds");
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

Napi::Value open_mpi(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::vector<std::string> names = get_names(info[0]);
    const std::chrono::milliseconds patience = get_timeout(info[1]);
    mpi::prepare_environment();
    return start_joining(
        info.Env(), [=] { return mpi::open_library(names); },
        [=](std::unique_ptr<mpi::Library> library) {
          const Means means = means_of(*library);
          std::shared_ptr<Communicator> ranks = std::make_shared<MpiCommunicator>(std::move(library), patience);
          return std::make_pair(std::move(ranks), means);
        });
  });
}

Napi::Value open_nccl(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
#ifdef CUDNN_LSTM_CUDA
    if (!info[0].IsObject()) throw Error(kInvalidArgument, "openNccl takes the rank's place");
    const auto place = info[0].As<Napi::Object>();
    const int size = get_int(place, "size", 1, std::numeric_limits<int>::max());
    const int local_size = get_int(place, "localSize", 1, size);
    const cuda::NcclJob job{get_int(place, "rank", 0, size - 1),
                            size,
                            get_int(place, "localRank", 0, std::numeric_limits<int>::max()),
                            local_size,
                            get_int(place, "ordinal", 0, 1023),
                            get_timeout(info[1])};
    cuda::prepare_nccl(get_string(place, "address"));
    return start_joining(
        info.Env(), [] { return 0; },
        [=](int) {
          cuda::JoinedByNccl joined = cuda::join_by_nccl(job, "");
          return std::make_pair(std::move(joined.ranks),
                                Means{joined.library.path, "NCCL", "NCCL " + joined.library.version});
        });
#else
    throw Error(kDeviceUnavailable, "this build of the addon has no CUDA support");
#endif
  });
}

Napi::Value gather(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto mine = std::make_shared<std::vector<std::uint8_t>>(get_bytes(info[0]));
    auto all = std::make_shared<std::vector<std::uint8_t>>();
    const auto ranks = joined_ranks();
    return start(
        info.Env(),
        [=] {
          all->resize(mine->size() * ranks->size());
          ranks->gather(mine->data(), mine->size(), all->data());
        },
        [all](Napi::Env env) -> Napi::Value { return to_typed_array<Napi::Uint8Array>(env, *all); });
  });
}

Napi::Value broadcast(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto bytes = std::make_shared<std::vector<std::uint8_t>>(get_bytes(info[0]));
    const auto ranks = joined_ranks();
    return start(
        info.Env(), [=] { ranks->broadcast(bytes->data(), bytes->size()); },
        [bytes](Napi::Env env) -> Napi::Value { return to_typed_array<Napi::Uint8Array>(env, *bytes); });
  });
}

Napi::Value sum(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto values = std::make_shared<std::vector<float>>(
        copy_values<Napi::Float32Array, float>(info[0], napi_float32_array, "values must be a Float32Array"));
    const auto ranks = joined_ranks();
    return start(
        info.Env(), [=] { ranks->sum(values->data(), values->size()); },
        [values](Napi::Env env) -> Napi::Value { return to_typed_array<Napi::Float32Array>(env, *values); });
  });
}

Napi::Value measure_sum(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int count = to_int(info[0], "count", 0, std::numeric_limits<int>::max());
    const int rounds = to_int(info[1], "rounds", 1, 1'000'000);
    const auto ranks = joined_ranks();
    auto microseconds = std::make_shared<std::vector<double>>();
    return start(
        info.Env(),
        [=] {
          std::vector<float> values(count);
          for (int round = 0; round <= rounds; ++round) {
            ranks->barrier();
            const auto began = std::chrono::steady_clock::now();
            ranks->sum(values.data(), values.size());
            const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
            if (round > 0) microseconds->push_back(took.count());  // the first sets up connections
          }
        },
        [microseconds](Napi::Env env) -> Napi::Value {
          return to_typed_array<Napi::Float64Array>(env, *microseconds);
        });
  });
}

Napi::Value leave(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto ranks = joined_ranks();
    auto finished = std::make_shared<bool>();
    return start(
        info.Env(),
        [=] {
          *finished = ranks->finish();
          Joined& held = joined();
          const std::lock_guard<std::mutex> lock(held.mutex);
          held.ranks.reset();
        },
        [finished](Napi::Env env) -> Napi::Value { return Napi::Boolean::New(env, *finished); });
  });
}

Napi::Value abort(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int code = to_int(info[0], "code", 0, 255);
    joined_ranks()->abort(code);
    return info.Env().Undefined();
  });
}

}  // namespace

std::shared_ptr<Communicator> joined_ranks() {
  Joined& held = joined();
  const std::lock_guard<std::mutex> lock(held.mutex);
  if (!held.ranks) throw Error(kInvalidArgument, "this process has joined no other ranks");
  return held.ranks;
}

void define_ranks(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    set_own(exports, name, Napi::Function::New(env, function, name));
  };
  define("findMpi", find_mpi);
  define("openMpi", open_mpi);
  define("openNccl", open_nccl);
  define("gather", gather);
  define("broadcast", broadcast);
  define("sum", sum);
  define("measureSum", measure_sum);
  define("leave", leave);
  define("abort", abort);
}

}  // namespace cudnn_lstm::binding
