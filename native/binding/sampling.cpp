#include "binding/sampling.h"

#include <algorithm>
#include <type_traits>

#include "binding/convert.h"

namespace cudnn_lstm::binding {
namespace {

constexpr int kMostStreams = 1 << 20;
constexpr int kMost = 1 << 28;
constexpr std::size_t kMostSymbols = 65536;

// Absent fields keep the defaults of SamplingOptions.
SampleStream read_stream(const Napi::Object& object, int vocabulary) {
  SampleStream stream;
  SamplingOptions& options = stream.options;
  options.greedy = object.Get("greedy").ToBoolean().Value();
  each_rule(options, [&](const char* name, auto& value) {
    if constexpr (std::is_same_v<decltype(value), int&>) {
      value = get_int(object, name, 0, kMost, value);
    } else {
      value = get_number(object, name, value);
    }
  });
  if (!(options.temperature > 0)) throw Error(kInvalidArgument, "temperature must be positive");
  options.seed = get_uint64(object, "seed", 0);
  options.stream = get_int(object, "stream", 0, kMost, 0);
  options.position = get_uint64(object, "position", 0);
  stream.history = get_ids(object, "history", vocabulary);
  std::vector<std::int32_t>& allowed = stream.constraints.allowed;
  allowed = get_ids(object, "allowed", vocabulary);
  std::sort(allowed.begin(), allowed.end());
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());
  const std::vector<std::int32_t> biased = get_ids(object, "biasedIds", vocabulary);
  const std::vector<float> biases = get_floats(object, "biases");
  require_size(biases.size(), biased.size(), "biases");
  for (std::size_t i = 0; i < biased.size(); ++i) stream.constraints.biases.push_back({biased[i], biases[i]});
  return stream;
}

// One object for all streams, which then take the coins of its `stream` and the following ones, or an array of one per
// stream.
std::vector<SampleStream> read_streams(const Napi::Value& value, int count, int vocabulary) {
  std::vector<SampleStream> streams;
  if (value.IsArray()) {
    const Napi::Array list = value.As<Napi::Array>();
    if (list.Length() != static_cast<std::uint32_t>(count)) {
      throw Error(kInvalidArgument, "sampling must be one object, or one a stream");
    }
    for (int s = 0; s < count; ++s) {
      const Napi::Value each = list[static_cast<std::uint32_t>(s)];
      if (!each.IsObject()) throw Error(kInvalidArgument, "sampling must hold objects");
      streams.push_back(read_stream(each.As<Napi::Object>(), vocabulary));
    }
    return streams;
  }
  if (!value.IsObject()) throw Error(kInvalidArgument, "sampling must be one object, or one a stream");
  streams.assign(count, read_stream(value.As<Napi::Object>(), vocabulary));
  for (int s = 0; s < count; ++s) streams[s].options.stream += static_cast<std::uint32_t>(s);
  return streams;
}

}  // namespace

SampleArguments read_sample_arguments(const Napi::Object& object, const ModelSpec& spec) {
  SampleArguments arguments;
  const int streams = get_int(object, "streams", 1, kMostStreams);
  arguments.count = get_int(object, "count", 0, kMost);
  arguments.window = get_int(object, "window", 0, kMost, 0);
  arguments.rivals = get_int(object, "rivals", 0, spec.vocabulary, 0);
  arguments.log_probabilities = arguments.rivals > 0 || object.Get("logProbabilities").ToBoolean().Value();
  if (static_cast<double>(streams) * arguments.count * std::max(1, arguments.rivals) > kMost) {
    throw Error(kInvalidArgument, "streams times count times rivals must be at most " + std::to_string(kMost));
  }
  arguments.ids = get_ids(object, "ids", spec.vocabulary);
  arguments.state = get_floats(object, "state");
  if (arguments.ids.empty() || arguments.ids.size() % streams != 0) {
    throw Error(kInvalidArgument, "ids must hold at least one row of `streams` ids, and whole rows");
  }
  if (!arguments.state.empty()) {
    require_size(arguments.state.size(), static_cast<std::size_t>(spec.layers) * 2 * streams * spec.hidden, "state");
  }
  arguments.streams = read_streams(get(object, "sampling"), streams, spec.vocabulary);
  return arguments;
}

Napi::Value draw_from_logits(Napi::Env env, const Napi::Object& object) {
  const int streams = get_int(object, "streams", 1, kMostStreams);
  const std::vector<float> logits = get_floats(object, "logits");
  if (logits.empty() || logits.size() % streams != 0 || logits.size() / streams > kMostSymbols) {
    throw Error(kInvalidArgument,
                "logits must hold a row of 1 to " + std::to_string(kMostSymbols) + " for each stream");
  }
  const int vocabulary = static_cast<int>(logits.size() / streams);
  const std::vector<SampleStream> options = read_streams(get(object, "sampling"), streams, vocabulary);
  std::vector<std::int32_t> drawn(streams);
  Sampler sampler(vocabulary);
  for (int s = 0; s < streams; ++s) {
    const auto& [rules, constraints, history] = options[s];
    const int recent = std::min(rules.penalty_window, static_cast<int>(history.size()));
    drawn[s] = sampler.draw(logits.data() + static_cast<std::size_t>(s) * vocabulary, rules,
                            history.data() + history.size() - recent, recent, draw_coin(rules, 0), constraints);
  }
  return to_typed_array<Napi::Int32Array>(env, drawn);
}

}  // namespace cudnn_lstm::binding
