// The arguments of `sample` as plain values.
#pragma once

#include <napi.h>

#include <vector>

#include "core/layout.h"
#include "core/sampler.h"

namespace cudnn_lstm::binding {

struct SampleArguments {
  std::vector<std::int32_t> ids;  // [rows, S]
  std::vector<float> state;       // [L, 2, S, H]; empty: zero
  std::vector<SampleStream> streams;
  int count;
  int window;
  bool log_probabilities;
  int rivals;
};

// Throws Error(kInvalidArgument).
SampleArguments read_sample_arguments(const Napi::Object& object, const ModelSpec& spec);

// Draws one id per stream from logits that the caller has: the addon's `draw`. Throws Error(kInvalidArgument).
Napi::Value draw_from_logits(Napi::Env env, const Napi::Object& object);

}  // namespace cudnn_lstm::binding
