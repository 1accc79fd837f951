// Asynchronous calls: each runs on a thread of the executor and settles a promise. Errors carry their code across.
#pragma once

#include <napi.h>

#include <atomic>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>

#include "binding/executor.h"
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

// Asks a call to end early; who runs it looks at it often.
using StopFlag = std::atomic<bool>;

// The calls of one JavaScript environment.
class Tasks {
 public:
  using Execution = std::function<void(const StopFlag&)>;    // on a thread, no JavaScript
  using Completion = std::function<Napi::Value(Napi::Env)>;  // on the JavaScript thread: makes the result
  using Always = std::function<void(Napi::Env)>;             // on the JavaScript thread, however it ended

  // Those of the addon that `env` has loaded.
  static Tasks& of(Napi::Env env);

  explicit Tasks(Napi::Env env);
  Tasks(const Tasks&) = delete;
  Tasks& operator=(const Tasks&) = delete;

  Napi::Promise start(Napi::Env env, std::shared_ptr<StopFlag> stop, Execution execution, Completion completion,
                      Always always = {});

  // Stops all calls, and waits until they have ended, but not for one that cannot be stopped. For process.exit(), which
  // would otherwise end the process under them.
  void stop();
  // The same for good: no JavaScript is run from here on.
  void close();

  // What runs them. It may be held longer than they last: closed, it runs nothing.
  const std::shared_ptr<Executor>& executor() const { return executor_; }

 private:
  struct Task;
  // What a thread needs to hand back a task.
  struct Return {
    std::mutex mutex;
    napi_threadsafe_function function = nullptr;  // nullptr: closed
  };

  static void settle(napi_env env, napi_value callback, void* context, void* data);
  void ask_to_stop();

  std::shared_ptr<Return> return_ = std::make_shared<Return>();
  std::map<const Task*, std::shared_ptr<StopFlag>> running_;  // or waiting to
  const std::shared_ptr<Executor> executor_;
};

}  // namespace cudnn_lstm::binding
