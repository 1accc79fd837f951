// One asynchronous call: runs on libuv's pool, settles a promise. Errors carry their code across.
#pragma once

#include <napi.h>

#include <functional>
#include <new>
#include <string>

#include "core/error.h"

namespace cudnn_lstm::binding {

inline Napi::Error make_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

// Runs a synchronous entry point's body; the one place where C++ exceptions become JavaScript's.
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& error) {
    throw make_error(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw make_error(env, kOutOfMemory, "not enough memory");
  }
}

class Task final : public Napi::AsyncWorker {
 public:
  using Execution = std::function<void()>;                   // on the pool, no JavaScript
  using Completion = std::function<Napi::Value(Napi::Env)>;  // on the JavaScript thread: makes the result
  using Always = std::function<void(Napi::Env)>;             // on the JavaScript thread, however it ended

  static Napi::Promise start(Napi::Env env, Execution execution, Completion completion, Always always = {}) {
    auto* task = new Task(env, std::move(execution), std::move(completion), std::move(always));
    Napi::Promise promise = task->deferred_.Promise();
    task->Queue();  // deletes itself when it has ended
    return promise;
  }

 private:
  Task(Napi::Env env, Execution execution, Completion completion, Always always)
      : Napi::AsyncWorker(env, "cudnn-lstm"),
        deferred_(Napi::Promise::Deferred::New(env)),
        execution_(std::move(execution)),
        completion_(std::move(completion)),
        always_(std::move(always)) {}

  void Execute() override {
    try {
      execution_();
    } catch (const Error& error) {
      code_ = error.code();
      SetError(error.what());
    } catch (const std::bad_alloc&) {
      code_ = kOutOfMemory;
      SetError("not enough memory");
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (always_) always_(Env());
    try {
      deferred_.Resolve(completion_(Env()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (const std::exception& error) {
      deferred_.Reject(make_error(Env(), kInvalidArgument, error.what()).Value());
    }
  }
  void OnError(const Napi::Error& error) override {
    Napi::HandleScope scope(Env());
    if (always_) always_(Env());
    if (!code_.empty()) error.Set("code", Napi::String::New(Env(), code_));
    deferred_.Reject(error.Value());
  }

  Napi::Promise::Deferred deferred_;
  Execution execution_;
  Completion completion_;
  Always always_;
  std::string code_;
};

}  // namespace cudnn_lstm::binding
