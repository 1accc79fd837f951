// The JavaScript object that owns a backend. lib/device/native.ts declares and documents its methods.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "binding/executor.h"
#include "core/backend.h"

namespace cudnn_lstm::binding {

// Shared between the object and the call in flight, so that either may end first.
struct ModelState {
  std::unique_ptr<Backend> backend;
  std::atomic<bool> stop{false};
  bool busy = false;              // JavaScript thread only
  bool disposed = false;          // the same; the backend goes when the call in flight has ended
  std::vector<std::int32_t> ids;  // the same; the last training call's, whose memory the next reuses (get_ids)
};

class Model final : public Napi::ObjectWrap<Model> {
 public:
  static Napi::Function define(Napi::Env env);
  // One made by JavaScript behaves as if disposed of; createModel lets it adopt a backend.
  explicit Model(const Napi::CallbackInfo& info);
  ~Model() override;
  void adopt(Napi::Env env, std::unique_ptr<Backend> backend);

 private:
  Napi::Value parameter_count(const Napi::CallbackInfo& info);
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value description(const Napi::CallbackInfo& info);
  Napi::Value chosen_algorithm(const Napi::CallbackInfo& info);
  Napi::Value host_bytes(const Napi::CallbackInfo& info);
  Napi::Value device_bytes(const Napi::CallbackInfo& info);
  Napi::Value step_count(const Napi::CallbackInfo& info);
  void set_step_count(const Napi::CallbackInfo& info, const Napi::Value& value);
  Napi::Value initialize(const Napi::CallbackInfo& info);
  Napi::Value train_steps(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value reset_evaluation_state(const Napi::CallbackInfo& info);
  Napi::Value reset_training_state(const Napi::CallbackInfo& info);
  Napi::Value sample(const Napi::CallbackInfo& info);
  Napi::Value logits(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value stop(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  // Runs an entry point's body if it was called on a model, and throws its errors to JavaScript.
  template <typename Body>
  Napi::Value enter(const Napi::CallbackInfo& info, Body body);
  // The backend of a model that has no call in flight, or that has not been disposed of. Any JavaScript may change
  // either, so none may run between this and the backend's use: read arguments first.
  Backend& idle_backend();
  Backend& living_backend();
  // Starts the call in flight: `execution` gets the backend and the flag that asks it to end.
  Napi::Promise start(Napi::Env env, std::function<void(Backend&, const std::atomic<bool>& stop)> execution,
                      std::function<Napi::Value(Napi::Env)> completion);
  void report_memory(Napi::Env env);
  void give_up_backend();

  std::shared_ptr<ModelState> state_;
  std::shared_ptr<Executor> executor_;
  int vocabulary_ = 0;
  std::int64_t reported_bytes_ = 0;
};

ModelSpec to_spec(const Napi::Object& object);

}  // namespace cudnn_lstm::binding
