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

// What one stream is drawn by. Neither its options nor its text depend on the streams that share a call with it.
struct SampleStream {
  SamplingOptions options;
  std::vector<std::int32_t> history;  // ids before the call's, which the repetition penalty looks back on
};

class Sampler {
 public:
  // Throws std::bad_alloc; drawing allocates nothing.
  explicit Sampler(int vocabulary);

  // logits [V], left as they are; recent: the ids that the penalty looks at; coin in [0, 1).
  std::int32_t draw(const float* logits, const SamplingOptions& options, const std::int32_t* recent, int recent_count,
                    double coin);

 private:
  class Selection;
  struct Candidate {
    float score;
    Weight weight;
  };
  void penalize(double penalty, const std::int32_t* recent, int recent_count);

  std::vector<float> scores_;          // [V]
  std::vector<Weight> weights_;        // [V]
  std::vector<std::int32_t> ids_;      // [V]: of the symbols left, once some are dropped
  std::vector<Candidate> candidates_;  // [V]
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
};

// Draws call.count ids for each stream into out [count, S]. With window 0 it starts from the backend's stream state,
// which it leaves as it is before the last id drawn is fed. Returns draws done (fewer if `stop` was set).
int sample(Backend& backend, const SampleCall& call, std::int32_t* out, const std::atomic<bool>& stop);

}  // namespace cudnn_lstm
