#include "core/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace cudnn_lstm {
namespace {

constexpr int kFedAtOnce = 256;  // rows between checks of `stop`

// Below this many logits per thread, waking the others costs more than it saves.
constexpr std::size_t kWorthSharing = 4096;

struct SingleLane {
  int index() const { return 0; }
  int count() const { return 1; }
  float max(float value) const { return value; }
  template <class Value>
  Value sum(Value value) const {
    return value;
  }
  void barrier() const {}
};

}  // namespace

// Drops symbols from the row, in time linear in its length: only a few at the boundary are sorted.
class Sampler::Selection {
 public:
  explicit Selection(Sampler& sampler) : sampler_(sampler) {}

  float largest(const DrawRow& row) const {
    return extreme(row, -INFINITY, [](float a, float b) { return a > b ? a : b; });
  }

  void best(DrawRow& row, int k) const {
    const float least = kth_largest(row, k);
    int equal = k;  // how many ties at the boundary are kept: k minus the number above it
    for (int i = 0; i < row.count; ++i) equal -= row.scores[i] > least ? 1 : 0;
    compact(row, [&](int i) {
      const bool tied = row.scores[i] == least && equal > 0;
      equal -= tied ? 1 : 0;
      return row.scores[i] > least || tied;
    });
  }

  void mass(DrawRow& row, Weight limit) const {
    Weight above = 0;  // weight of the symbols above the bin, then of those above the boundary
    const int count = collect(row, limit, above);
    const float least = boundary_score(count, limit, above);
    int ties = 0;
    for (int i = 0; i < count; ++i) {
      above += sampler_.boundary_[i].score > least ? sampler_.boundary_[i].weight : 0;
      ties += sampler_.boundary_[i].score == least ? 1 : 0;
    }
    if (ties == 1) {
      for (int i = 0; i < row.count; ++i) row.weights[i] = row.scores[i] >= least ? row.weights[i] : 0;
      return;
    }
    for (int i = 0; i < row.count; ++i) {
      const bool tied = row.scores[i] == least && above < limit;
      above += tied ? row.weights[i] : 0;
      row.weights[i] = tied || row.scores[i] > least ? row.weights[i] : 0;
    }
  }

 private:
  // In sixteen columns, which compilers vectorise.
  template <class Choose>
  static float extreme(const DrawRow& row, float start, const Choose& choose) {
    constexpr int kColumns = 16;
    float best[kColumns];
    for (float& value : best) value = start;
    int i = 0;
    for (; i + kColumns <= row.count; i += kColumns) {
      for (int j = 0; j < kColumns; ++j) best[j] = choose(row.scores[i + j], best[j]);
    }
    for (; i < row.count; ++i) best[0] = choose(row.scores[i], best[0]);
    for (const float value : best) best[0] = choose(value, best[0]);
    return best[0];
  }

  // The k best so far set a bound that few of the rest pass; those that do are collected until there are four times as
  // many.
  float kth_largest(const DrawRow& row, int k) const {
    std::vector<Candidate>& best = sampler_.candidates_;
    const auto end = [&](int count) { return best.begin() + count; };
    const auto descending = [](const Candidate& a, const Candidate& b) { return a.score > b.score; };
    const int room = std::min(row.count, std::max(4 * k, 256));
    float bound = -INFINITY;
    int count = 0;
    for (int i = 0; i < row.count; ++i) {
      if (!(row.scores[i] > bound) && count >= k) continue;
      if (count == room) {
        std::nth_element(end(0), end(k - 1), end(count), descending);
        count = k;
        bound = best[k - 1].score;
        if (!(row.scores[i] > bound)) continue;
      }
      best[count++].score = row.scores[i];
    }
    std::nth_element(end(0), end(k - 1), end(count), descending);
    return best[k - 1].score;
  }

  // Collects into the boundary the symbols of the bin of scores in which the weights, in descending order of score,
  // reach `limit`. Returns how many there are; `above` becomes the weight of the bins above.
  int collect(const DrawRow& row, Weight limit, Weight& above) const {
    constexpr int kBins = 256, kSample = 64;
    const float top = largest(row);
    // The bins divide the score range of a sample; anything below it falls into the last bin.
    float bottom = top;
    for (int i = 0; i < kSample; ++i) {
      const float score = row.scores[static_cast<long long>(row.count) * i / kSample];
      bottom = score < bottom && score > top - 1e6f ? score : bottom;
    }
    constexpr float kLast = kBins - 1;
    const float scale = bottom < top ? kLast / (top - bottom) : 0.0f;
    // Locals, which the bytes written cannot alias; otherwise compilers do not vectorise the loop.
    const int size = row.count;
    const float* const scores = row.scores;
    std::uint8_t* const bins = sampler_.bins_.data();
    for (int i = 0; i < size; ++i) {
      const float bin = (top - scores[i]) * scale;
      const float within = bin < kLast ? bin : kLast;  // NaN too
      bins[i] = static_cast<std::uint8_t>(static_cast<int>(within));
    }
    // Four tables in turn: neighbours in one bin would otherwise wait for each other.
    constexpr int kTables = 4;
    Weight weights[kTables][kBins] = {};
    int filled = 0;
    for (; filled + kTables <= row.count; filled += kTables) {
      for (int j = 0; j < kTables; ++j) weights[j][bins[filled + j]] += row.weights[filled + j];
    }
    for (; filled < row.count; ++filled) weights[0][bins[filled]] += row.weights[filled];
    int reached = 0;
    above = 0;
    for (; reached + 1 < kBins; ++reached) {
      Weight with = above;
      for (const Weight* table : weights) with += table[reached];
      if (with >= limit) break;
      above = with;
    }
    Candidate* const boundary = sampler_.boundary_.data();
    int count = 0;
    const auto take = [&](int from, int end) {
      for (int i = from; i < end; ++i) {
        if (bins[i] == reached) boundary[count++] = {row.scores[i], row.weights[i]};
      }
    };
    // Eight at a time, mostly with none in the bin: then no byte of their difference is zero.
    constexpr std::uint64_t kOnes = 0x0101010101010101, kHighest = 0x8080808080808080;
    const std::uint64_t searched = kOnes * static_cast<std::uint64_t>(reached);
    int i = 0;
    for (; i + 8 <= row.count; i += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, bins + i, sizeof eight);
      const std::uint64_t difference = eight ^ searched;
      if (((difference - kOnes) & ~difference & kHighest) != 0) take(i, i + 8);
    }
    take(i, row.count);
    return count;
  }

  // The score in the boundary at which the weights, in descending order of score and starting from `above`, reach
  // `limit`: halves the range in which that happens until one symbol is left.
  float boundary_score(int count, Weight limit, Weight above) const {
    const auto at = [&](int index) { return sampler_.boundary_.begin() + index; };
    int first = 0, last = count;
    while (last - first > 1) {
      const int middle = first + (last - first) / 2;
      std::nth_element(at(first), at(middle), at(last),
                       [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
      Weight upper = 0;
      for (int i = first; i < middle; ++i) upper += at(i)->weight;
      if (above + upper >= limit) {
        last = middle;
      } else {
        above += upper;
        first = middle;
      }
    }
    return at(first)->score;
  }

  template <class Kept>
  void compact(DrawRow& row, const Kept& kept) const {
    const bool whole = row.count == static_cast<int>(sampler_.ids_.size());
    int count = 0;
    for (int i = 0; i < row.count; ++i) {
      // Always written, and overwritten if not kept: a branch would be mispredicted half the time.
      row.scores[count] = row.scores[i];
      row.weights[count] = row.weights[i];
      sampler_.ids_[count] = whole ? i : sampler_.ids_[i];
      count += kept(i) ? 1 : 0;
    }
    row.count = count;
  }

  Sampler& sampler_;
};

// draw_symbol with everything inlined, in 32-byte vectors where the processor has them and the compiler can be told to
// use them: this takes half the time. No fused multiply-adds are involved, so the results are the same.
#if defined(__x86_64__) && !defined(_WIN32)
#define CUDNN_LSTM_WIDE __attribute__((target("avx2"), flatten))
#endif

struct Sampler::Drawing {
  static int draw(DrawRow& row, const SamplingOptions& options, double coin, const Selection& selection) {
    return draw_symbol(row, options, coin, SingleLane{}, selection);
  }
#if defined(CUDNN_LSTM_WIDE)
  CUDNN_LSTM_WIDE static int draw_wide(DrawRow& row, const SamplingOptions& options, double coin,
                                       const Selection& selection) {
    return draw_symbol(row, options, coin, SingleLane{}, selection);
  }
#endif
};

int Sampler::draw_from(DrawRow& row, const SamplingOptions& options, double coin, const Selection& selection) {
#if defined(CUDNN_LSTM_WIDE)
  static const bool wide = __builtin_cpu_supports("avx2") != 0;
  if (wide) return Drawing::draw_wide(row, options, coin, selection);
#endif
  return Drawing::draw(row, options, coin, selection);
}

Sampler::Sampler(int vocabulary)
    : scores_(vocabulary),
      weights_(vocabulary),
      ids_(vocabulary),
      candidates_(vocabulary),
      boundary_(vocabulary),
      bins_(vocabulary),
      seen_(vocabulary) {}

void Sampler::penalize(double penalty, const std::int32_t* recent, int recent_count) {
  ++draws_;
  for (int i = 0; i < recent_count; ++i) {
    // Each id once, however often it was seen: the penalty is a division, not a count.
    if (seen_[recent[i]] == draws_) continue;
    seen_[recent[i]] = draws_;
    const double score = scores_[recent[i]];
    scores_[recent[i]] = to_score(static_cast<float>(score > 0 ? score / penalty : score * penalty));
  }
}

std::int32_t Sampler::draw(const float* logits, const SamplingOptions& options, const std::int32_t* recent,
                           int recent_count, double coin, const Constraints& constraints) {
  const int vocabulary = static_cast<int>(scores_.size());
  for (int v = 0; v < vocabulary; ++v) scores_[v] = to_score(logits[v]);
  if (options.repetition_penalty != 1) penalize(options.repetition_penalty, recent, recent_count);
  for (const LogitBias& bias : constraints.biases) scores_[bias.id] = to_score(scores_[bias.id] + bias.value);
  DrawRow row{vocabulary, scores_.data(), weights_.data()};
  if (!constraints.allowed.empty()) {
    row.count = 0;
    for (const std::int32_t id : constraints.allowed) {
      scores_[row.count] = scores_[id];
      ids_[row.count++] = id;
    }
  }
  const int drawn = draw_from(row, options, coin, Selection(*this));
  return row.count == vocabulary ? drawn : ids_[drawn];
}

float Sampler::log_probability(const float* logits, std::int32_t id, int rivals, std::int32_t* rival_ids,
                               float* rival_log_probabilities) {
  const int vocabulary = static_cast<int>(scores_.size());
  for (int v = 0; v < vocabulary; ++v) scores_[v] = to_score(logits[v]);
  DrawRow row{vocabulary, scores_.data(), weights_.data()};
  const Selection selection(*this);
  const double largest = selection.largest(row);
  for (int v = 0; v < vocabulary; ++v) weights_[v] = weight_of(scores_[v] - largest);
  const double log_total =
      std::log(static_cast<double>(total_weight(row, SingleLane{})) / static_cast<double>(kFullWeight));
  const auto log_of = [&](float score) { return static_cast<float>(score - largest - log_total); };
  const float result = log_of(scores_[id]);
  if (rivals == 0) return result;
  for (int v = 0; v < vocabulary; ++v) ids_[v] = v;
  if (rivals < vocabulary) selection.best(row, rivals);
  for (int i = 0; i < row.count; ++i) candidates_[i] = {row.scores[i], static_cast<Weight>(ids_[i])};
  std::sort(candidates_.begin(), candidates_.begin() + row.count, [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.weight < b.weight;
  });
  for (int i = 0; i < row.count; ++i) {
    rival_ids[i] = static_cast<std::int32_t>(candidates_[i].weight);
    rival_log_probabilities[i] = log_of(candidates_[i].score);
  }
  return result;
}

int sample(Backend& backend, const SampleCall& call, std::int32_t* out, const std::atomic<bool>& stop) {
  const int streams = call.streams;
  const int vocabulary = backend.spec().vocabulary;
  std::vector<float> logits(static_cast<std::size_t>(streams) * vocabulary);
  const int sharers =
      static_cast<int>(std::clamp<std::size_t>(logits.size() / kWorthSharing, 1, std::min(backend.sharers(), streams)));
  std::vector<Sampler> samplers;
  samplers.reserve(sharers);
  for (int i = 0; i < sharers; ++i) samplers.emplace_back(vocabulary);
  std::vector<std::vector<std::int32_t>> recent(sharers);
  bool on_device = call.window == 0 && call.log_probabilities == nullptr;
  for (int s = 0; s < streams; ++s) {
    const SamplingOptions& options = call.options[s].options;
    if (!call.options[s].constraints.none()) on_device = false;
    if (options.repetition_penalty == 1) continue;
    on_device = false;
    for (auto& ids : recent) ids.reserve(options.penalty_window);
  }
  // The call's ids so far, time-major, from which windows are cut and the penalty is computed.
  std::vector<std::int32_t> seen(call.ids, call.ids + static_cast<std::size_t>(call.rows) * streams);
  for (int draw = 0; draw < call.count; ++draw) {
    const int rows = static_cast<int>(seen.size() / streams);
    int row = draw == 0 ? 0 : rows - 1;
    if (call.window > 0) {
      backend.reset_stream_state(streams);
      row = std::max(0, rows - call.window);
    }
    // Feed everything, in pieces so that a stop is prompt; if the device may draw, keep the last row back for it.
    const bool ask_device = draw == 0 && on_device;
    while (row < rows) {
      if (stop.load(std::memory_order_relaxed)) return draw;
      const std::int32_t* ids = seen.data() + static_cast<std::size_t>(row) * streams;
      if (ask_device && row == rows - 1) {
        std::vector<SamplingOptions> options(streams);
        for (int s = 0; s < streams; ++s) options[s] = call.options[s].options;
        const int drawn = backend.draw(ids, streams, options.data(), call.count, out, stop);
        if (drawn >= 0) return drawn;
      }
      const int steps = std::min(kFedAtOnce, std::max(1, rows - row - (ask_device ? 1 : 0)));
      backend.next_logits(ids, steps, streams, logits.data(), stop);
      row += steps;
    }
    std::int32_t* drawn = out + static_cast<std::size_t>(draw) * streams;
    backend.share(sharers, [&](int sharer) {
      for (int s = streams * sharer / sharers; s < streams * (sharer + 1) / sharers; ++s) {
        if (stop.load(std::memory_order_relaxed)) return;
        const SampleStream& stream = call.options[s];
        std::vector<std::int32_t>& looked_at = recent[sharer];
        looked_at.clear();
        if (stream.options.repetition_penalty != 1) {
          // The last penalty_window ids of the history and the call.
          const int reach = stream.options.penalty_window;
          const int before = std::min(std::max(0, reach - rows), static_cast<int>(stream.history.size()));
          looked_at.insert(looked_at.end(), stream.history.end() - before, stream.history.end());
          for (int r = std::max(0, rows - reach); r < rows; ++r)
            looked_at.push_back(seen[static_cast<std::size_t>(r) * streams + s]);
        }
        const float* row = logits.data() + static_cast<std::size_t>(s) * vocabulary;
        Sampler& sampler = samplers[sharer];
        drawn[s] = sampler.draw(row, stream.options, looked_at.data(), static_cast<int>(looked_at.size()),
                                draw_coin(stream.options, draw), stream.constraints);
        if (call.log_probabilities == nullptr) continue;
        const std::size_t at = static_cast<std::size_t>(draw) * streams + s;
        call.log_probabilities[at] =
            sampler.log_probability(row, drawn[s], call.rivals, call.rival_ids + at * call.rivals,
                                    call.rival_log_probabilities + at * call.rivals);
      }
    });
    if (stop.load(std::memory_order_relaxed)) return draw;
    seen.insert(seen.end(), drawn, drawn + streams);
  }
  return call.count;
}

}  // namespace cudnn_lstm
