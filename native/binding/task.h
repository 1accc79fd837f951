// Asynchronous calls: each runs on an executor thread and settles a promise. Errors keep their code.
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

// Describes the exception being handled, which is not a JavaScript one.
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

// Runs a synchronous entry point's body; the one place where C++ exceptions become JavaScript errors.
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

// Asks a call to end early; the call checks it often.
using StopFlag = std::atomic<bool>;

// The calls of one JavaScript environment.
class Tasks {
 public:
  using Execution = std::function<void(const StopFlag&)>;    // on a thread, no JavaScript
  using Completion = std::function<Napi::Value(Napi::Env)>;  // on the JavaScript thread: makes the result
  using Always = std::function<void(Napi::Env)>;             // on the JavaScript thread, however it ended

  // The calls of the addon instance that `env` has loaded.
  static Tasks& of(Napi::Env env);

  explicit Tasks(Napi::Env env);
  ~Tasks();  // closes, unless the environment has ended
  Tasks(const Tasks&) = delete;
  Tasks& operator=(const Tasks&) = delete;

  Napi::Promise start(Napi::Env env, std::shared_ptr<StopFlag> stop, Execution execution, Completion completion,
                      Always always = {});

  // Stops all calls and waits until they have ended, except for any that cannot be stopped. For process.exit(), which
  // would otherwise end the process under them.
  void stop();
  // The same, for good: no JavaScript runs from here on.
  void close();

  // The threads that run the calls. May outlive this object: once closed, it runs nothing.
  const std::shared_ptr<Executor>& executor() const { return executor_; }

 private:
  struct Task;
  // What a thread needs to hand back a task.
  struct Return {
    std::mutex mutex;
    napi_threadsafe_function function = nullptr;  // nullptr: closed
  };

  static void settle(napi_env env, napi_value callback, void* context, void* data);
  static void close_at_end(void* tasks);
  void ask_to_stop();

  const napi_env env_;
  std::shared_ptr<Return> return_ = std::make_shared<Return>();
  std::map<const Task*, std::shared_ptr<StopFlag>> running_;  // running or queued
  const std::shared_ptr<Executor> executor_;
};

}  // namespace cudnn_lstm::binding
