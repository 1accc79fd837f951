// The ranks this process has joined, for JavaScript; lib/device/native.ts documents the functions.
#pragma once

#include <napi.h>

#include <memory>

#include "core/communicator.h"

namespace cudnn_lstm::binding {

// Adds openMpi, openNccl, findMpi and the calls between ranks to the addon.
void define_ranks(Napi::Env env, Napi::Object exports);

// Throws Error(kInvalidArgument) if the process has joined none.
std::shared_ptr<Communicator> joined_ranks();

}  // namespace cudnn_lstm::binding
