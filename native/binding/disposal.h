// Models that are given up. To destroy a backend may take long, and on a GPU it waits for whatever runs there, another
// model's call included: it is done on a thread of the executor, not on the JavaScript thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "binding/executor.h"
#include "core/backend.h"

namespace cudnn_lstm::binding {

// Destroys the backend on a thread, or at once where none is to be had or the executor is closed.
void destroy_elsewhere(Executor& executor, std::unique_ptr<Backend> backend);

// Names the destructions of this process that were asked for until now.
std::uint64_t latest_destruction();

// Waits until those have ended, for what runs next must find the memory free; but no longer than that: a GPU that never
// answers must not hold up others.
void await_destructions(std::uint64_t latest, std::chrono::milliseconds patience);

}  // namespace cudnn_lstm::binding
