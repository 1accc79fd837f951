// Drawing on the host, and the loop that feeds a backend and draws.
//
// Shapes: S streams, V vocabulary.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/draw_rules.h"

namespace cudnn_lstm {

struct LogitBias {
  std::int32_t id;
  float value;
};

// Applied before the rules: biases are added to the logits after the repetition penalty; a symbol that is not allowed
// is never drawn, whatever its logit.
struct Constraints {
  std::vector<LogitBias> biases;
  std::vector<std::int32_t> allowed;  // ascending, no duplicates; empty: all
  bool none() const { return biases.empty() && allowed.empty(); }
};

// How one stream is sampled. Neither its options nor its text depend on the other streams in the call.
struct SampleStream {
  SamplingOptions options;
  Constraints constraints;
  std::vector<std::int32_t> history;  // ids before the call's, for the repetition penalty
};

class Sampler {
 public:
  // Throws std::bad_alloc; drawing allocates nothing.
  explicit Sampler(int vocabulary);

  // logits [V], not modified; recent: the ids that the penalty looks at; coin in [0, 1).
  std::int32_t draw(const float* logits, const SamplingOptions& options, const std::int32_t* recent, int recent_count,
                    double coin, const Constraints& constraints = {});

  // Natural logarithms of the model's own probabilities, with no rule applied: of `id`, and of the `rivals` likeliest
  // symbols, in descending order, ties by lower id.
  float log_probability(const float* logits, std::int32_t id, int rivals, std::int32_t* rival_ids,
                        float* rival_log_probabilities);

 private:
  class Selection;
  struct Drawing;
  static int draw_from(DrawRow& row, const SamplingOptions& options, double coin, const Selection& selection);
  struct Candidate {
    float score;
    Weight weight;  // or the id, when symbols are sorted
  };
  void penalize(double penalty, const std::int32_t* recent, int recent_count);

  std::vector<float> scores_;          // [V]
  std::vector<Weight> weights_;        // [V]
  std::vector<std::int32_t> ids_;      // [V]: the remaining symbols, once some are dropped
  std::vector<Candidate> candidates_;  // [V]
  std::vector<Candidate> boundary_;    // [V]: the symbols among which a boundary is sought
  std::vector<std::uint8_t> bins_;     // [V]: each score's bin, to narrow that search
  std::vector<std::uint32_t> seen_;    // [V]: the draw in which the penalty last saw each id
  std::uint32_t draws_ = 0;
};

struct SampleCall {
  const std::int32_t* ids;  // [rows, S]
  int rows;
  int streams;                  // S
  int count;                    // draws per stream
  int window;                   // 0: carry the state; else run the last `window` ids from zero state for every draw
  const SampleStream* options;  // [S]
  float* log_probabilities = nullptr;        // [count, S], see Sampler::log_probability; nullptr: not wanted
  int rivals = 0;                            // how many to report with each
  std::int32_t* rival_ids = nullptr;         // [count, S, rivals]
  float* rival_log_probabilities = nullptr;  // [count, S, rivals]
};

// Draws call.count ids for each stream into out [count, S]. With window 0 it continues from the backend's stream state,
// into which the last ids drawn are not fed. Returns the number of draws (fewer if `stop` was set).
int sample(Backend& backend, const SampleCall& call, std::int32_t* out, const std::atomic<bool>& stop);

}  // namespace cudnn_lstm
