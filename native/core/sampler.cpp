#include "core/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"

namespace cudnn_lstm {
namespace {

constexpr int kFedAtOnce = 256;  // rows between two looks at `stop`

}  // namespace

double Sampler::coin(std::uint64_t seed, std::uint32_t stream, std::uint64_t position) {
  const auto words = philox4x32({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32),
                                 stream, static_cast<std::uint32_t>(RandomSite::sampling)},
                                philox_key(seed));
  const std::uint64_t bits = (std::uint64_t{words[0]} << 21) ^ (words[1] >> 11);
  return static_cast<double>(bits) / 9007199254740992.0;  // 2^53
}

std::int32_t Sampler::draw(const float* logits, const std::int32_t* recent, int recent_count, double coin) {
  scores_.assign(logits, logits + vocabulary_);
  if (options_.repetition_penalty != 1) {
    for (int i = 0; i < recent_count; ++i) {
      // Each id once, however often it was seen: the penalty is a division, not a count.
      if (std::find(recent, recent + i, recent[i]) != recent + i) continue;
      double& score = scores_[recent[i]];
      score = score > 0 ? score / options_.repetition_penalty : score * options_.repetition_penalty;
    }
  }
  if (options_.greedy) {
    return static_cast<std::int32_t>(std::max_element(scores_.begin(), scores_.end()) - scores_.begin());
  }
  // Descending, ties by id, so that what top-k and top-p cut does not depend on the sort.
  order_.resize(vocabulary_);
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [this](std::int32_t a, std::int32_t b) {
    return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b;
  });
  std::size_t kept = order_.size();
  if (options_.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options_.top_k));
  const double largest = scores_[order_[0]];
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    double& score = scores_[order_[i]];
    score = std::exp((score - largest) / options_.temperature);
    total += score;
  }
  if (options_.top_p < 1) {
    double sum = 0;
    std::size_t count = 0;
    while (count < kept && sum < options_.top_p * total) sum += scores_[order_[count++]];
    kept = std::max<std::size_t>(count, 1);
  }
  if (options_.min_p > 0) {
    // Probabilities are relative to the largest, whose score is exp(0) = 1.
    std::size_t count = 1;
    while (count < kept && scores_[order_[count]] >= options_.min_p) ++count;
    kept = count;
  }
  total = 0;
  for (std::size_t i = 0; i < kept; ++i) total += scores_[order_[i]];
  double left = coin * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= scores_[order_[i]];
    if (left < 0) return order_[i];
  }
  return order_[kept - 1];
}

int sample(Backend& backend, const SampleCall& call, const SamplingOptions& options, std::int32_t* out,
           const std::atomic<bool>& stop) {
  const int streams = call.streams;
  const int vocabulary = backend.spec().vocabulary;
  std::vector<float> logits(static_cast<std::size_t>(streams) * vocabulary);
  Sampler sampler(vocabulary, options);
  // Every id of every stream so far, time-major: what a window is cut from and the penalty looks back on.
  std::vector<std::int32_t> seen;
  seen.insert(seen.end(), call.history, call.history + static_cast<std::size_t>(call.history_rows) * streams);
  seen.insert(seen.end(), call.ids, call.ids + static_cast<std::size_t>(call.rows) * streams);
  std::vector<std::int32_t> recent;
  for (int draw = 0; draw < call.count; ++draw) {
    const int rows = static_cast<int>(seen.size() / streams);
    int row = draw == 0 ? rows - call.rows : rows - 1;
    if (call.window > 0) {
      backend.reset_stream_state(streams);
      row = std::max(0, rows - call.window);
    }
    // All that is to be fed, but in pieces, so that a stop is prompt; and where the device may draw, all but the last
    // row.
    const bool ask_device = draw == 0 && call.window == 0;
    while (row < rows) {
      if (stop.load(std::memory_order_relaxed)) return draw;
      const std::int32_t* ids = seen.data() + static_cast<std::size_t>(row) * streams;
      if (ask_device && row == rows - 1) {
        const int drawn = backend.draw(ids, streams, options, call.position, call.count, out, stop);
        if (drawn >= 0) return drawn;
      }
      const int steps = std::min(kFedAtOnce, std::max(1, rows - row - (ask_device ? 1 : 0)));
      backend.next_logits(ids, steps, streams, logits.data());
      row += steps;
    }
    const int reach = std::min(options.penalty_window, rows);
    for (int s = 0; s < streams; ++s) {
      recent.clear();
      if (options.repetition_penalty != 1) {
        for (int row = rows - reach; row < rows; ++row)
          recent.push_back(seen[static_cast<std::size_t>(row) * streams + s]);
      }
      out[static_cast<std::size_t>(draw) * streams + s] =
          sampler.draw(logits.data() + static_cast<std::size_t>(s) * vocabulary, recent.data(),
                       static_cast<int>(recent.size()), Sampler::coin(options.seed, s, call.position + draw));
    }
    seen.insert(seen.end(), out + static_cast<std::size_t>(draw) * streams,
                out + static_cast<std::size_t>(draw + 1) * streams);
  }
  return call.count;
}

}  // namespace cudnn_lstm
