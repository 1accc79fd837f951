#include "binding/model.h"

#include <algorithm>
#include <cmath>

#include "binding/convert.h"
#include "binding/disposal.h"
#include "binding/ranks.h"
#include "binding/sampling.h"
#include "binding/set_own.h"
#include "binding/task.h"
#include "core/initialize.h"

namespace cudnn_lstm::binding {
namespace {

constexpr int kMost = 1 << 28;  // limit of any one extent: products of two stay far within 64 bits

// Marks the objects that this class made: a method may be called on any object, another addon's included.
constexpr napi_type_tag kModelTag = {0x3f0c9d1e6b7a4c58, 0x9a41e27d5f8b0c63};

InputCoding to_coding(const std::string& name) {
  if (name == "scalar") return InputCoding::scalar;
  if (name == "onehot") return InputCoding::onehot;
  if (name == "embedding") return InputCoding::embedding;
  throw Error(kInvalidArgument, "input must be scalar, onehot or embedding");
}

Optimizer to_optimizer(const std::string& name) {
  for (const Optimizer optimizer : kOptimizers) {
    bool found = false;
    with_rule(optimizer, [&](auto rule) { found = name == rule.kName; });
    if (found) return optimizer;
  }
  throw Error(kInvalidArgument, "no optimizer named " + name);
}

GateActivation to_gates(const std::string& name) {
  if (name == "sigmoid") return GateActivation::sigmoid;
  if (name == "hard_sigmoid") return GateActivation::hard_sigmoid;
  if (name == "hard_sigmoid_relu6") return GateActivation::hard_sigmoid_relu6;
  throw Error(kInvalidArgument, "gateActivation must be sigmoid, hard_sigmoid or hard_sigmoid_relu6");
}

Target to_target(const std::string& name) {
  if (name == "every") return Target::every;
  if (name == "last") return Target::last;
  throw Error(kInvalidArgument, "target must be every or last");
}

Slot to_slot(const Napi::Value& value) {
  if (!value.IsString()) throw Error(kInvalidArgument, "the slot must be a string");
  const std::string name = value.As<Napi::String>().Utf8Value();
  if (name == "parameters") return Slot::parameters;
  if (name == "gradients") return Slot::gradients;
  if (name == "firstMoments") return Slot::first_moments;
  if (name == "secondMoments") return Slot::second_moments;
  if (name == "trainingState") return Slot::training_state;
  if (name == "streamState") return Slot::stream_state;
  throw Error(kInvalidArgument, "no slot named " + name);
}

// An offset in a slot, or a number of its values.
std::size_t to_size(const Napi::Value& value, const char* name, std::size_t otherwise) {
  return value.IsUndefined() ? otherwise : static_cast<std::size_t>(to_uint64(to_number(value, name), name));
}

Napi::Object only_argument(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsObject()) throw Error(kInvalidArgument, "the argument must be an object");
  return info[0].As<Napi::Object>();
}

// Writes fresh weights from the seed. Throws Error(kStopped) if stopped, having written some of them or none.
void initialize_parameters(Backend& backend, const StopFlag& stop) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;  // written between checks of the stop flag
  const std::size_t size = backend.layout().size();
  const std::unique_ptr<float[]> values(new float[size]);  // not zeroed, which alone takes long
  bool whole = initialize(backend.spec(), backend.layout(), values.get(), stop);
  for (std::size_t at = 0; at < size && whole; at += kPiece) {
    whole = !stop.load(std::memory_order_relaxed);
    if (whole) backend.write_range(Slot::parameters, at, values.get() + at, std::min(kPiece, size - at));
  }
  if (!whole) throw Error(kStopped, "stopped before all weights were made");
}

}  // namespace

ModelSpec to_spec(const Napi::Object& object) {
  ModelSpec spec{};
  spec.vocabulary = get_int(object, "vocabulary", 1, 65536);
  spec.layers = get_int(object, "layers", 1, 64);
  spec.hidden = get_int(object, "hidden", 1, 65536);
  spec.coding = to_coding(get_string(object, "input"));
  spec.embedding = spec.coding == InputCoding::embedding ? get_int(object, "embedding", 1, 65536) : 0;
  const double dropout = get_number(object, "dropout");
  if (!(dropout >= 0 && dropout < 1)) throw Error(kInvalidArgument, "dropout must be at least 0 and below 1");
  spec.dropout = static_cast<float>(dropout);
  spec.seed = get_uint64(object, "seed");
  if (!object.Get("gateActivation").IsUndefined()) spec.gates = to_gates(get_string(object, "gateActivation"));
  spec.reset_symbol = get_int(object, "resetId", 0, spec.vocabulary - 1, -1);
  return spec;
}

Napi::Function Model::define(Napi::Env env) {
  return DefineClass(
      env, "Model",
      {InstanceAccessor<&Model::parameter_count>("parameterCount"), InstanceAccessor<&Model::parameters>("parameters"),
       InstanceAccessor<&Model::description>("description"),
       InstanceAccessor<&Model::chosen_algorithm>("chosenAlgorithm"), InstanceAccessor<&Model::host_bytes>("hostBytes"),
       InstanceAccessor<&Model::device_bytes>("deviceBytes"),
       InstanceAccessor<&Model::step_count, &Model::set_step_count>("stepCount"),
       InstanceMethod<&Model::initialize>("initialize"), InstanceMethod<&Model::train_steps>("trainSteps"),
       InstanceMethod<&Model::evaluate>("evaluate"),
       InstanceMethod<&Model::reset_evaluation_state>("resetEvaluationState"),
       InstanceMethod<&Model::reset_training_state>("resetTrainingState"), InstanceMethod<&Model::sample>("sample"),
       InstanceMethod<&Model::logits>("logits"), InstanceMethod<&Model::read>("read"),
       InstanceMethod<&Model::write>("write"), InstanceMethod<&Model::stop>("stop"),
       InstanceMethod<&Model::dispose>("dispose")});
}

Model::Model(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Model>(info), state_(std::make_shared<ModelState>()) {
  info.This().As<Napi::Object>().TypeTag(&kModelTag);
  state_->disposed = true;
}

void Model::adopt(Napi::Env env, std::unique_ptr<Backend> backend) {
  vocabulary_ = backend->spec().vocabulary;
  executor_ = Tasks::of(env).executor();
  state_->backend = std::move(backend);
  state_->disposed = false;
  report_memory(env);
}

Model::~Model() {
  state_->stop.store(true);
  if (!state_->busy) give_up_backend();
  if (reported_bytes_ != 0) Napi::MemoryManagement::AdjustExternalMemory(Env(), -reported_bytes_);
}

// V8 does not see native memory: without this, models made and dropped in a loop would never be collected.
void Model::report_memory(Napi::Env env) {
  const std::int64_t bytes = state_->backend ? static_cast<std::int64_t>(state_->backend->host_bytes()) : 0;
  if (bytes == reported_bytes_) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes - reported_bytes_);
  reported_bytes_ = bytes;
}

void Model::give_up_backend() {
  if (state_->backend) destroy_elsewhere(*executor_, std::move(state_->backend));
}

template <typename Body>
Napi::Value Model::enter(const Napi::CallbackInfo& info, Body body) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info.This().IsObject() || !info.This().As<Napi::Object>().CheckTypeTag(&kModelTag)) {
      throw Error(kInvalidArgument, "this is not a model");
    }
    return body();
  });
}

Backend& Model::living_backend() {
  if (state_->disposed) throw Error("ERR_DISPOSED", "the model has been disposed");
  return *state_->backend;
}

Backend& Model::idle_backend() {
  Backend& backend = living_backend();
  if (state_->busy) throw Error("ERR_BUSY", "the model is in another call: await it first");
  return backend;
}

Napi::Promise Model::start(Napi::Env env, std::function<void(Backend&, const std::atomic<bool>&)> execution,
                           std::function<Napi::Value(Napi::Env)> completion) {
  idle_backend();
  state_->stop.store(false);
  state_->busy = true;
  Ref();  // keeps the object alive during its call
  const auto end = [this](Napi::Env inner) {
    state_->busy = false;
    if (state_->disposed) give_up_backend();
    report_memory(inner);
    Unref();
  };
  auto execute = [state = state_, execution = std::move(execution)](const StopFlag& stop) {
    execution(*state->backend, stop);
  };
  try {
    // Creating a promise runs the hooks of async_hooks: the model is already marked busy.
    return Tasks::of(env).start(env, std::shared_ptr<StopFlag>(state_, &state_->stop), std::move(execute),
                                std::move(completion), end);
  } catch (...) {
    end(env);
    throw;
  }
}

Napi::Value Model::parameter_count(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(living_backend().layout().size()));
  });
}

Napi::Value Model::parameters(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    const std::vector<Parameter>& parameters = living_backend().layout().parameters();
    Napi::Array list = Napi::Array::New(info.Env(), parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      Napi::Object item = Napi::Object::New(info.Env());
      Napi::Array shape = Napi::Array::New(info.Env(), parameters[i].shape.size());
      for (std::size_t j = 0; j < parameters[i].shape.size(); ++j) set_own(shape, j, parameters[i].shape[j]);
      set_own(item, "name", parameters[i].name);
      set_own(item, "shape", shape);
      set_own(item, "offset", static_cast<double>(parameters[i].offset));
      set_own(item, "size", static_cast<double>(parameters[i].size));
      set_own(list, i, item);
    }
    return list;
  });
}

Napi::Value Model::chosen_algorithm(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    const std::string name = living_backend().chosen_algorithm();
    return name.empty() ? info.Env().Undefined() : Napi::String::New(info.Env(), name);
  });
}

Napi::Value Model::description(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value { return Napi::String::New(info.Env(), living_backend().description()); });
}

Napi::Value Model::host_bytes(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(living_backend().host_bytes()));
  });
}

Napi::Value Model::device_bytes(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(living_backend().device_bytes()));
  });
}

Napi::Value Model::step_count(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(living_backend().step_count()));
  });
}

void Model::set_step_count(const Napi::CallbackInfo& info, const Napi::Value& value) {
  enter(info, [&]() -> Napi::Value {
    const std::uint64_t steps = to_uint64(to_number(value, "stepCount"), "stepCount");
    idle_backend().set_step_count(steps);
    return info.Env().Undefined();
  });
}

Napi::Value Model::initialize(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    return start(
        info.Env(), [](Backend& backend, const StopFlag& stop) { initialize_parameters(backend, stop); },
        [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
  });
}

Napi::Value Model::train_steps(const Napi::CallbackInfo& info) {
  struct Call {
    std::vector<std::int32_t> ids;
    Batch batch;
    std::vector<OptimizerStep> optimizers;
    std::vector<StepResult> results;
    std::shared_ptr<Communicator> ranks;
    int completed = 0;
    bool stopped = false;
  };
  return enter(info, [&]() -> Napi::Value {
    idle_backend();  // first, as the more important of two errors; start() checks again
    const Napi::Object options = only_argument(info);
    auto call = std::make_shared<Call>();
    const int count = get_int(options, "count", 1, kMost);
    const int all = get_int(options, "globalBatch", 1, kMost, 0);
    call->batch = {nullptr, get_int(options, "steps", 1, kMost), get_int(options, "batch", all > 0 ? 0 : 1, kMost),
                   to_target(get_string(options, "target")), get_bool(options, "carryState")};
    if (all > 0) {
      call->ranks = joined_ranks();
      call->batch.ranks = call->ranks.get();
      call->batch.first_sequence = get_int(options, "firstSequence", 0, kMost);
      call->batch.global_batch = all;
    }
    call->ids = get_ids(options, "ids", vocabulary_, std::move(state_->ids));
    require_size(
        call->ids.size(),
        static_cast<std::size_t>(count) * (static_cast<std::size_t>(call->batch.steps) + 1) * call->batch.batch, "ids");
    call->batch.ids = call->ids.data();
    const std::vector<double> rates = get_doubles(options, "learningRates");
    require_size(rates.size(), count, "learningRates");
    OptimizerStep optimizer{};
    optimizer.beta1 = get_number(options, "beta1");
    optimizer.beta2 = get_number(options, "beta2");
    optimizer.epsilon = get_number(options, "epsilon");
    optimizer.clip = get_number(options, "clip");
    if (options.Has("optimizer")) optimizer.optimizer = to_optimizer(get_string(options, "optimizer"));
    optimizer.momentum = get_number(options, "momentum", optimizer.momentum);
    optimizer.weight_decay = get_number(options, "weightDecay", optimizer.weight_decay);
    optimizer.frozen = get_uint64(options, "frozen", 0);
    call->optimizers.assign(count, optimizer);
    for (int i = 0; i < count; ++i) call->optimizers[i].learning_rate = rates[i];
    call->results.assign(count, {std::nan(""), std::nan(""), false});
    auto state = state_;
    return start(
        info.Env(),
        [call](Backend& backend, const StopFlag& stop) {
          call->completed = backend.train_steps(call->batch, call->optimizers.data(),
                                                static_cast<int>(call->optimizers.size()), call->results.data(), stop);
          const auto& results = call->results;
          const bool whole = call->completed == static_cast<int>(results.size());
          // All ranks report the same: a flag set too late to be agreed on is not what ended the call.
          call->stopped = (!whole && results[call->completed].stopped) || (!call->ranks && stop.load());
        },
        [call, state](Napi::Env env) -> Napi::Value {
          if (!state->disposed) state->ids = std::move(call->ids);
          const std::size_t size = call->results.size();
          std::vector<double> losses(size), norms(size);
          for (std::size_t i = 0; i < size; ++i) {
            losses[i] = call->results[i].loss;
            norms[i] = call->results[i].gradient_norm;
          }
          Napi::Object result = Napi::Object::New(env);
          set_own(result, "losses", to_typed_array<Napi::Float64Array>(env, losses));
          set_own(result, "norms", to_typed_array<Napi::Float64Array>(env, norms));
          set_own(result, "completed", call->completed);
          set_own(result, "stopped", call->stopped);
          return result;
        });
  });
}

Napi::Value Model::evaluate(const Napi::CallbackInfo& info) {
  struct Call {
    std::vector<std::int32_t> ids;
    Batch batch;
    bool dropout;
    std::uint64_t mask_step;
    std::vector<float> losses;
  };
  return enter(info, [&]() -> Napi::Value {
    idle_backend();
    const Napi::Object options = only_argument(info);
    auto call = std::make_shared<Call>();
    call->batch = {nullptr, get_int(options, "steps", 1, kMost), get_int(options, "batch", 1, kMost),
                   to_target(get_string(options, "target")), get_bool(options, "carryState")};
    call->ids = get_ids(options, "ids", vocabulary_);
    require_size(call->ids.size(), (static_cast<std::size_t>(call->batch.steps) + 1) * call->batch.batch, "ids");
    call->batch.ids = call->ids.data();
    call->dropout = get_bool(options, "dropout");
    call->mask_step = get_uint64(options, "maskStep", 0);
    const std::size_t positions = call->batch.target == Target::last ? 1 : call->batch.steps;
    call->losses.assign(positions * call->batch.batch, std::nanf(""));
    return start(
        info.Env(),
        [call](Backend& backend, const StopFlag& stop) {
          backend.evaluate(call->batch, call->dropout, call->mask_step, call->losses.data(), stop);
        },
        [call](Napi::Env env) -> Napi::Value { return to_typed_array<Napi::Float32Array>(env, call->losses); });
  });
}

Napi::Value Model::reset_evaluation_state(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    idle_backend().reset_evaluation_state();
    return info.Env().Undefined();
  });
}

Napi::Value Model::reset_training_state(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    idle_backend().reset_training_state();
    return info.Env().Undefined();
  });
}

Napi::Value Model::sample(const Napi::CallbackInfo& info) {
  struct Call {
    SampleArguments arguments;
    std::vector<std::int32_t> out, rival_ids;
    std::vector<float> state, log_probabilities, rival_log_probabilities;
  };
  return enter(info, [&]() -> Napi::Value {
    const ModelSpec spec = idle_backend().spec();
    auto call = std::make_shared<Call>();
    call->arguments = read_sample_arguments(only_argument(info), spec);
    call->out.assign(call->arguments.streams.size() * call->arguments.count, 0);
    return start(
        info.Env(),
        [call](Backend& backend, const StopFlag& stop) {
          const SampleArguments& arguments = call->arguments;
          if (arguments.state.empty()) {
            backend.reset_stream_state(static_cast<int>(arguments.streams.size()));
          } else {
            backend.write(Slot::stream_state, arguments.state.data(), arguments.state.size());
          }
          const std::size_t streams = arguments.streams.size();
          SampleCall sample{arguments.ids.data(),      static_cast<int>(arguments.ids.size() / streams),
                            static_cast<int>(streams), arguments.count,
                            arguments.window,          arguments.streams.data()};
          if (arguments.log_probabilities) {
            call->log_probabilities.resize(call->out.size());
            call->rival_ids.resize(call->out.size() * arguments.rivals);
            call->rival_log_probabilities.resize(call->rival_ids.size());
            sample.log_probabilities = call->log_probabilities.data();
            sample.rivals = arguments.rivals;
            sample.rival_ids = call->rival_ids.data();
            sample.rival_log_probabilities = call->rival_log_probabilities.data();
          }
          const int drawn = cudnn_lstm::sample(backend, sample, call->out.data(), stop);
          call->out.resize(streams * drawn);
          if (arguments.log_probabilities) {
            call->log_probabilities.resize(call->out.size());
            call->rival_ids.resize(call->out.size() * arguments.rivals);
            call->rival_log_probabilities.resize(call->rival_ids.size());
          }
          call->state.assign(backend.slot_size(Slot::stream_state), 0.0f);
          backend.read(Slot::stream_state, call->state.data());
        },
        [call](Napi::Env env) -> Napi::Value {
          Napi::Object result = Napi::Object::New(env);
          set_own(result, "ids", to_typed_array<Napi::Int32Array>(env, call->out));
          set_own(result, "state", to_typed_array<Napi::Float32Array>(env, call->state));
          if (call->arguments.log_probabilities) {
            set_own(result, "logProbabilities", to_typed_array<Napi::Float32Array>(env, call->log_probabilities));
            set_own(result, "rivals", to_typed_array<Napi::Int32Array>(env, call->rival_ids));
            set_own(result, "rivalLogProbabilities",
                    to_typed_array<Napi::Float32Array>(env, call->rival_log_probabilities));
          }
          return result;
        });
  });
}

Napi::Value Model::logits(const Napi::CallbackInfo& info) {
  struct Call {
    std::vector<std::int32_t> ids;
    std::vector<float> state, out;
    int streams;
  };
  return enter(info, [&]() -> Napi::Value {
    const ModelSpec spec = idle_backend().spec();
    const Napi::Object options = only_argument(info);
    auto call = std::make_shared<Call>();
    call->ids = get_ids(options, "ids", vocabulary_);
    call->state = get_floats(options, "state");
    call->streams = get_int(options, "streams", 1, 1 << 20);
    if (call->ids.size() % call->streams != 0)
      throw Error(kInvalidArgument, "ids must hold whole rows of `streams` ids");
    if (!call->state.empty()) {
      require_size(call->state.size(), static_cast<std::size_t>(spec.layers) * 2 * call->streams * spec.hidden,
                   "state");
    }
    call->out.resize(call->ids.size() * spec.vocabulary);
    return start(
        info.Env(),
        [call](Backend& backend, const StopFlag& stop) {
          backend.reset_stream_state(call->streams);
          if (!call->state.empty()) backend.write(Slot::stream_state, call->state.data(), call->state.size());
          for (std::size_t row = 0; row < call->ids.size() && !stop.load(); row += call->streams) {
            backend.next_logits(call->ids.data() + row, 1, call->streams,
                                call->out.data() + row * backend.spec().vocabulary, stop);
          }
        },
        [call](Napi::Env env) -> Napi::Value { return to_typed_array<Napi::Float32Array>(env, call->out); });
  });
}

Napi::Value Model::read(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    const Slot slot = to_slot(info[0]);
    const std::size_t offset = to_size(info[1], "offset", 0);
    const bool whole = info[2].IsUndefined();
    const std::size_t wanted = to_size(info[2], "count", 0);
    const Backend& backend = idle_backend();
    const std::size_t size = backend.slot_size(slot);
    if (offset > size || wanted > size - offset) {
      throw Error(kInvalidArgument, "there are " + std::to_string(size) + " values");
    }
    const std::size_t count = whole ? size - offset : wanted;
    Napi::Float32Array out = Napi::Float32Array::New(info.Env(), count);
    backend.read_range(slot, offset, count, out.Data());
    return out;
  });
}

Napi::Value Model::write(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    const Slot slot = to_slot(info[0]);
    const bool whole = info[2].IsUndefined();
    const std::size_t offset = to_size(info[2], "offset", 0);
    if (!is_typed(info[1], napi_float32_array)) throw Error(kInvalidArgument, "values must be a Float32Array");
    Backend& backend = idle_backend();
    const auto values = info[1].As<Napi::Float32Array>();
    if (whole) {
      backend.write(slot, values.Data(), values.ElementLength());
    } else {
      backend.write_range(slot, offset, values.Data(), values.ElementLength());
    }
    return info.Env().Undefined();
  });
}

Napi::Value Model::stop(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    state_->stop.store(true);
    return info.Env().Undefined();
  });
}

Napi::Value Model::dispose(const Napi::CallbackInfo& info) {
  return enter(info, [&]() -> Napi::Value {
    state_->stop.store(true);
    state_->disposed = true;
    state_->ids = {};
    if (!state_->busy) {
      give_up_backend();
      report_memory(info.Env());
    }
    return info.Env().Undefined();
  });
}

}  // namespace cudnn_lstm::binding
