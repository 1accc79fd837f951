// The ranks that this process has joined, for JavaScript: lib/device/native.ts says what each function does.
#pragma once

#include <napi.h>

#include <memory>

#include "core/communicator.h"

namespace cudnn_lstm::binding {

// Puts openMpi, findMpi, and the calls between ranks on the addon.
void define_ranks(Napi::Env env, Napi::Object exports);

// Throws Error(kInvalidArgument) if the process has joined none.
std::shared_ptr<Communicator> joined_ranks();

}  // namespace cudnn_lstm::binding
