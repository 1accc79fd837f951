// Disposal of models. Destroying a backend may take long, and on a GPU it waits for whatever runs there, another
// model's call included, so it is done on an executor thread, not on the JavaScript thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "binding/executor.h"
#include "core/backend.h"

namespace cudnn_lstm::binding {

// Destroys the backend on a thread, or at once if none is available or the executor is closed.
void destroy_elsewhere(Executor& executor, std::unique_ptr<Backend> backend);

// Identifies the destructions requested in this process so far.
std::uint64_t latest_destruction();

// Waits until the destructions up to `latest` have finished, so that what runs next finds the memory free, but no
// longer than `patience`: a GPU that never answers must not hold up others.
void await_destructions(std::uint64_t latest, std::chrono::milliseconds patience);

}  // namespace cudnn_lstm::binding
