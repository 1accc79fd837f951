// One asynchronous call: runs on libuv's pool, settles a promise. Errors carry their code across.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "binding/set_own.h"
#include "core/error.h"

namespace cudnn_lstm::binding {

inline Napi::Error make_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  set_own(error.Value(), "code", code);
  return error;
}

// An exception as JavaScript gets it.
struct Failure {
  std::string code;
  std::string message;
};

// Of the exception that is being handled; it is not one of JavaScript's.
inline Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {kOutOfMemory, "not enough memory"};
  } catch (const std::length_error&) {
    return {kOutOfMemory, "not enough memory"};  // more than any machine could have
  } catch (const std::exception& error) {
    return {kDeviceFailed, error.what()};
  }
}

// Runs a synchronous entry point's body; the one place where C++ exceptions become JavaScript's.
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception&) {
    const Failure failure = current_failure();
    throw make_error(env, failure.code, failure.message);
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
    } catch (const std::exception&) {
      const Failure failure = current_failure();
      code_ = failure.code;
      SetError(failure.message);
    }
  }
  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (always_) always_(Env());
    try {
      deferred_.Resolve(completion_(Env()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (const std::exception&) {
      const Failure failure = current_failure();
      deferred_.Reject(make_error(Env(), failure.code, failure.message).Value());
    }
  }
  void OnError(const Napi::Error& error) override {
    Napi::HandleScope scope(Env());
    if (always_) always_(Env());
    set_own(error.Value(), "code", code_);
    deferred_.Reject(error.Value());
  }

  Napi::Promise::Deferred deferred_;
  Execution execution_;
  Completion completion_;
  Always always_;
  std::string code_;
};

}  // namespace cudnn_lstm::binding
