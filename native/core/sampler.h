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
  std::vector<std::int32_t> allowed;  // ascending, each once; empty: all
  bool none() const { return biases.empty() && allowed.empty(); }
};

// What one stream is drawn by. Neither its options nor its text depend on the streams that share a call with it.
struct SampleStream {
  SamplingOptions options;
  Constraints constraints;
  std::vector<std::int32_t> history;  // ids before the call's, which the repetition penalty looks back on
};

class Sampler {
 public:
  // Throws std::bad_alloc; drawing allocates nothing.
  explicit Sampler(int vocabulary);

  // logits [V], left as they are; recent: the ids that the penalty looks at; coin in [0, 1).
  std::int32_t draw(const float* logits, const SamplingOptions& options, const std::int32_t* recent, int recent_count,
                    double coin, const Constraints& constraints = {});

  // Natural logarithms of the model's own probabilities, no rule applied: of `id`, and of the likeliest `rivals`
  // symbols, in descending order, of equal ones the lower id first.
  float log_probability(const float* logits, std::int32_t id, int rivals, std::int32_t* rival_ids,
                        float* rival_log_probabilities);

 private:
  class Selection;
  struct Drawing;
  static int draw_from(DrawRow& row, const SamplingOptions& options, double coin, const Selection& selection);
  struct Candidate {
    float score;
    Weight weight;  // or, where symbols are put in order, the id
  };
  void penalize(double penalty, const std::int32_t* recent, int recent_count);

  std::vector<float> scores_;          // [V]
  std::vector<Weight> weights_;        // [V]
  std::vector<std::int32_t> ids_;      // [V]: of the symbols left, once some are dropped
  std::vector<Candidate> candidates_;  // [V]
  std::vector<Candidate> boundary_;    // [V]: the symbols among which a boundary is looked for
  std::vector<std::uint8_t> bins_;     // [V]: of scores, in which it is looked for first
  std::vector<std::uint32_t> seen_;    // [V]: the draw in which the penalty saw an id
  std::uint32_t draws_ = 0;
};

struct SampleCall {
  const std::int32_t* ids;  // [rows, S]
  int rows;
  int streams;                  // S
  int count;                    // draws a stream
  int window;                   // 0: carry the state; else run the last `window` ids from zero state for every draw
  const SampleStream* options;  // [S]
  float* log_probabilities = nullptr;        // [count, S], see Sampler::log_probability; nullptr: not wanted
  int rivals = 0;                            // with them
  std::int32_t* rival_ids = nullptr;         // [count, S, rivals]
  float* rival_log_probabilities = nullptr;  // [count, S, rivals]
};

// Draws call.count ids for each stream into out [count, S]. With window 0 it starts from the backend's stream state,
// which it leaves as it is before the last id drawn is fed. Returns draws done (fewer if `stop` was set).
int sample(Backend& backend, const SampleCall& call, std::int32_t* out, const std::atomic<bool>& stop);

}  // namespace cudnn_lstm
