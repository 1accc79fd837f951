// From logits to an id: the sampling rules, on the host, the same for every device.
#pragma once

#include <cstdint>
#include <vector>

#include "core/backend.h"

namespace cudnn_lstm {

// Applied in this order: repetition penalty (Keskar et al. 2019), temperature, top-k (Fan et al. 2018), top-p (Holtzman
// et al. 2020), min-p (Nguyen et al. 2024); what is left is renormalised. Greedy takes the largest logit after the
// penalty, the lowest id on a tie.
struct SamplingOptions {
  bool greedy = false;
  double temperature = 1;
  int top_k = 0;     // 0: off
  double top_p = 1;  // 1: off
  double min_p = 0;  // 0: off
  double repetition_penalty = 1;
  int penalty_window = 64;
  std::uint64_t seed = 0;
};

class Sampler {
 public:
  Sampler(int vocabulary, const SamplingOptions& options) : vocabulary_(vocabulary), options_(options) {}

  // logits [V]; recent: the ids the penalty looks at; coin in [0, 1). Leaves logits as they are.
  std::int32_t draw(const float* logits, const std::int32_t* recent, int recent_count, double coin);

  // The coin of one draw: Philox(seed; stream, position), 53 bits.
  static double coin(std::uint64_t seed, std::uint32_t stream, std::uint64_t position);

 private:
  int vocabulary_;
  SamplingOptions options_;
  std::vector<double> scores_;
  std::vector<std::int32_t> order_;
};

struct SampleCall {
  const std::int32_t* ids;  // [rows, S]
  int rows;
  int streams;                  // S
  int count;                    // draws a stream
  int window;                   // 0: carry the state; else run the last `window` ids from zero state for every draw
  std::uint64_t position;       // index of the first draw
  const std::int32_t* history;  // [history_rows, S]
  int history_rows;
};

// Draws call.count ids for each stream into out [count, S]. With window 0 it starts from the backend's stream state,
// which it leaves as it is before the last id drawn is fed. Returns draws done (fewer if `stop` was set).
int sample(Backend& backend, const SampleCall& call, const SamplingOptions& options, std::int32_t* out,
           const std::atomic<bool>& stop);

}  // namespace cudnn_lstm
