#include "binding/task.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "binding/disposal.h"

namespace cudnn_lstm::binding {
namespace {

// How long a call that cannot be stopped may still take when the process or its JavaScript thread ends: creating a
// model on a GPU is in the hands of NVIDIA's libraries.
constexpr std::chrono::milliseconds kPatience{1000};

// As many concurrent calls as libuv's pool would run, or more if there are enough cores.
int most_threads() { return std::max(4, static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace

struct Tasks::Task {
  Napi::Promise::Deferred deferred;
  std::shared_ptr<StopFlag> stop;
  Execution execution;
  Completion completion;
  Always always;
  std::optional<Failure> failure;
  std::uint64_t destructions = latest_destruction();

  void execute() {
    try {
      // Wait for the memory of models disposed of before this call was made.
      await_destructions(destructions, kPatience);
      execution(*stop);
    } catch (const std::exception&) {
      failure = current_failure();
    }
    execution = nullptr;
  }

  void settle(Napi::Env env) {
    Napi::HandleScope scope(env);
    try {
      if (always) always(env);
      if (failure) {
        deferred.Reject(make_error(env, failure->code, failure->message).Value());
      } else {
        deferred.Resolve(completion(env));
      }
    } catch (const Napi::Error& error) {
      deferred.Reject(error.Value());
    } catch (const std::exception&) {
      const Failure other = current_failure();
      deferred.Reject(make_error(env, other.code, other.message).Value());
    }
  }
};

Tasks::Tasks(Napi::Env env) : env_(env), executor_(std::make_shared<Executor>(most_threads())) {
  const napi_value name = Napi::String::New(env, "cudnn-lstm");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, settle,
                                      &return_->function) != napi_ok ||
      napi_unref_threadsafe_function(env, return_->function) != napi_ok) {
    throw Napi::Error::New(env);
  }
  // Added after the function's own hook, so run before it when the environment ends: hooks run in reverse order.
  napi_add_env_cleanup_hook(env, close_at_end, this);
}

// An addon whose start fails, for instance because its worker is terminated meanwhile, is destroyed long before its
// environment ends: nothing may then point here.
Tasks::~Tasks() {
  const napi_threadsafe_function function = return_->function;
  if (function == nullptr) return;  // the hook has run
  napi_remove_env_cleanup_hook(env_, close_at_end, this);
  close();
  napi_release_threadsafe_function(function, napi_tsfn_abort);
}

void Tasks::close_at_end(void* tasks) { static_cast<Tasks*>(tasks)->close(); }

Napi::Promise Tasks::start(Napi::Env env, std::shared_ptr<StopFlag> stop, Execution execution, Completion completion,
                           Always always) {
  auto task = std::make_unique<Task>(Task{Napi::Promise::Deferred::New(env),
                                          std::move(stop),
                                          std::move(execution),
                                          std::move(completion),
                                          std::move(always),
                                          {}});
  const Napi::Promise promise = task->deferred.Promise();
  // The thread holds the task until it is handed back, or until nobody would take it any more.
  auto held = std::make_shared<std::unique_ptr<Task>>();
  const auto running = std::make_pair(task.get(), task->stop);
  *held = std::move(task);
  executor_->run([held, back = return_] {
    (*held)->execute();
    std::lock_guard<std::mutex> lock(back->mutex);
    if (back->function == nullptr) return;
    if (napi_call_threadsafe_function(back->function, held->get(), napi_tsfn_nonblocking) == napi_ok) {
      static_cast<void>(held->release());  // settle has it
    }
  });
  // A call in progress keeps the event loop alive.
  if (running_.empty()) napi_ref_threadsafe_function(env, return_->function);
  running_.insert(running);
  return promise;
}

void Tasks::settle(napi_env env, napi_value /*callback*/, void* context, void* data) {
  const std::unique_ptr<Task> task(static_cast<Task*>(data));
  if (env == nullptr) return;  // the environment is ending: nobody waits for the promise
  auto& tasks = *static_cast<Tasks*>(context);
  tasks.running_.erase(task.get());
  if (tasks.running_.empty()) napi_unref_threadsafe_function(env, tasks.return_->function);
  try {
    task->settle(env);
  } catch (const Napi::Error&) {
    // A worker being terminated runs no JavaScript: nobody waits for the promise there either.
  }
}

void Tasks::ask_to_stop() {
  for (const auto& running : running_) running.second->store(true);
}

void Tasks::stop() {
  ask_to_stop();
  executor_->settle(kPatience);
}

void Tasks::close() {
  ask_to_stop();
  executor_->close(kPatience);
  const std::lock_guard<std::mutex> lock(return_->mutex);
  return_->function = nullptr;
  running_.clear();
}

}  // namespace cudnn_lstm::binding
