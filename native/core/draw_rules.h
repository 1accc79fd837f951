// The rules for drawing a symbol from logits, shared by host and device: core/sampler.cpp compiles them for the host,
// cuda/draw.h for the GPU. Adding a rule takes a field in SamplingOptions, its name in each_rule, its code in
// draw_symbol, and a row in lib/device/draw-rules.ts.
//
// Probabilities are *weights*: integer multiples of 2^-46 of the largest. Integer sums are exact in any order, so what
// is kept and what a coin picks depend neither on how many lanes share the work nor on how a rule is computed (by
// counting on the GPU, by selection on the host). 65,536 weights sum to at most 2^62.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/host_device.h"
#include "core/random.h"

namespace cudnn_lstm {

// Applied in this order: temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2020), min-p (Nguyen et al.
// 2024), typical-p (Meister et al. 2023), each to what the previous one left; the rest is renormalised. The repetition
// penalty (Keskar et al. 2019) comes before all of them, on the host.
struct SamplingOptions {
  // Ordered to leave no four-byte gap: a GPU gets the whole struct.
  bool greedy = false;     // the largest logit after the penalty, the lowest id on a tie
  int top_k = 0;           // 0: off
  double temperature = 1;  // above 0
  double top_p = 1;        // 1: off
  double min_p = 0;        // 0: off
  double typical_p = 1;    // 1: off
  double repetition_penalty = 1;
  int penalty_window = 64;
  // Draw n of a call takes the coin Philox(seed; stream, position + n), so a stream's coins do not depend on the other
  // streams.
  std::uint32_t stream = 0;
  std::uint64_t seed = 0;
  std::uint64_t position = 0;
};

// Visits the rules' parameters under their names in lib/device/draw-rules.ts.
template <class Visit>
void each_rule(SamplingOptions& options, Visit visit) {
  visit("temperature", options.temperature);
  visit("topK", options.top_k);
  visit("topP", options.top_p);
  visit("minP", options.min_p);
  visit("typicalP", options.typical_p);
  visit("repetitionPenalty", options.repetition_penalty);
  visit("penaltyWindow", options.penalty_window);
}

// Uniform in [0, 1) with 53 bits.
CUDNN_LSTM_HD double draw_coin(const SamplingOptions& options, std::uint64_t draw) {
  const std::uint64_t position = options.position + draw;
  const PhiloxWords words =
      philox4x32({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), options.stream,
                  static_cast<std::uint32_t>(RandomSite::sampling)},
                 philox_key(options.seed));
  const std::uint64_t bits = (std::uint64_t{words[0]} << 21) ^ (words[1] >> 11);
  return static_cast<double>(bits) / 9007199254740992.0;  // 2^53
}

using Weight = std::uint64_t;
constexpr Weight kFullWeight = Weight{1} << 46;  // the largest score's

// Turns a logit into a score: finite, so that differences are numbers. NaN becomes the least likely.
CUDNN_LSTM_HD float to_score(float logit) {
  const float score = logit < FLT_MAX ? logit : FLT_MAX;
  return logit > -FLT_MAX ? score : -FLT_MAX;
}

CUDNN_LSTM_HD double inverse_temperature(const SamplingOptions& options) {
  const double inverse = 1 / options.temperature;
  return inverse < 1e300 ? inverse : 1e300;
}

CUDNN_LSTM_HD double from_bits(std::uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
CUDNN_LSTM_HD std::uint64_t to_bits(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// exp(x) as a weight, x <= 0. Plain arithmetic, no library call, so that compilers vectorise loops over it.
// x = n ln 2 + r, the exponential series of r to degree 11 (|r| <= ln 2 / 2: 7e-15), n added to the exponent.
CUDNN_LSTM_HD Weight weight_of(double x) {
  x = x > -40 ? x : -40;                                               // below this the weight is 0
  const double shifted = x * 1.4426950408889634 + 6755399441055744.0;  // 1.5 * 2^52: the low bits are n
  const double r = x - (shifted - 6755399441055744.0) * 0.6931471805599453;
  double sum = 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 1.0 / 2;
  sum = sum * r + 1;
  sum = sum * r + 1;
  const double weight = from_bits(to_bits(sum) + (to_bits(shifted) << 52)) * static_cast<double>(kFullWeight);
  constexpr std::uint64_t kMantissa = (std::uint64_t{1} << 52) - 1;
  return to_bits(weight + 4503599627370496.0) & kMantissa;  // + 2^52 rounds to an integer
}

// Converts a weight below 2^52 to a double, exactly and without a 64-bit integer conversion, which AVX2 lacks.
CUDNN_LSTM_HD double to_double(Weight weight) {
  return from_bits(weight | 0x4330000000000000) - 4503599627370496.0;  // 2^52 + weight, minus 2^52
}

// The smallest weight that is at least `share` of `whole`, and never zero.
CUDNN_LSTM_HD Weight weight_share(double share, Weight whole) {
  const double weight = ceil(share * static_cast<double>(whole));
  return weight < 1 ? 1 : weight < static_cast<double>(whole) ? static_cast<Weight>(weight) : whole;
}

// The symbols to draw from, in order of id.
struct DrawRow {
  int count;
  float* scores;    // [count], none NaN; -infinity: left out
  Weight* weights;  // [count]; 0: left out
};

template <class Lanes>
CUDNN_LSTM_HD int first_of_score(const DrawRow& row, float score, const Lanes& lanes) {
  int first = row.count;
  for (int i = row.count - 1 - lanes.index(); i >= 0; i -= lanes.count()) {
    if (row.scores[i] == score) first = i;
  }
  return -static_cast<int>(lanes.max(-static_cast<float>(first)));  // exact: ids are below 2^24
}

template <class Lanes>
CUDNN_LSTM_HD Weight total_weight(const DrawRow& row, const Lanes& lanes) {
  Weight total = 0;
  for (int i = lanes.index(); i < row.count; i += lanes.count()) total += row.weights[i];
  return lanes.sum(total);
}

// Log probabilities up to a constant, the log of the sum of weights.
class LogWeights {
 public:
  CUDNN_LSTM_HD LogWeights(double largest, double inverse) : largest_(largest), inverse_(inverse) {}
  // Finite, so that a weight of zero times it is zero.
  CUDNN_LSTM_HD double operator()(float score) const {
    const double log = (score - largest_) * inverse_;
    return log > -1e300 ? log : -1e300;
  }

 private:
  double largest_, inverse_;
};

// The mean of the symbols' log weights, weighted by those weights, in as many sums at once as compilers vectorise.
template <class Lanes>
CUDNN_LSTM_HD double mean_log(const DrawRow& row, const LogWeights& log, Weight whole, const Lanes& lanes) {
  constexpr int kTogether = 16;
  double sums[kTogether] = {};
  const int count = lanes.count();
  int i = lanes.index();
  for (; i + (kTogether - 1) * count < row.count; i += kTogether * count) {
    for (int j = 0; j < kTogether; ++j) {
      sums[j] += to_double(row.weights[i + j * count]) * log(row.scores[i + j * count]);
    }
  }
  for (; i < row.count; i += count) sums[0] += to_double(row.weights[i]) * log(row.scores[i]);
  double sum = 0;
  for (const double each : sums) sum += each;
  return lanes.sum(sum) / static_cast<double>(whole);
}

// The index in `row` of the symbol that `coin` draws, in every lane. Consumes the row.
//
// `keep.largest(row)` is the largest score, in every lane. `keep.best(row, k)` keeps the first k by score,
// `keep.mass(row, limit)` the shortest prefix by score whose weights reach `limit`: in descending order, ties by lower
// id. They drop symbols from the row, or only clear their score and weight.
template <class Lanes, class Keep>
CUDNN_LSTM_HD int draw_symbol(DrawRow& row, const SamplingOptions& options, double coin, const Lanes& lanes,
                              const Keep& keep) {
  if (options.greedy) return first_of_score(row, keep.largest(row), lanes);
  if (options.top_k > 0 && options.top_k < row.count) keep.best(row, options.top_k);
  const double inverse = inverse_temperature(options), largest = keep.largest(row);
  for (int i = lanes.index(); i < row.count; i += lanes.count()) {
    row.weights[i] = weight_of((row.scores[i] - largest) * inverse);
  }
  lanes.barrier();
  if (options.top_p < 1) keep.mass(row, weight_share(options.top_p, total_weight(row, lanes)));
  if (options.min_p > 0) {
    const Weight least = weight_share(options.min_p, kFullWeight);
    for (int i = lanes.index(); i < row.count; i += lanes.count()) {
      if (row.weights[i] < least) row.weights[i] = 0;
    }
    lanes.barrier();
  }
  if (options.typical_p < 1) {
    // Keep the symbols whose surprisal is closest to its expected value.
    const Weight whole = total_weight(row, lanes);
    const LogWeights log(largest, inverse);
    const double expected = mean_log(row, log, whole, lanes);
    for (int i = lanes.index(); i < row.count; i += lanes.count()) {
      const float distance = static_cast<float>(fabs(log(row.scores[i]) - expected));
      row.scores[i] = row.weights[i] != 0 ? -distance : -INFINITY;
    }
    lanes.barrier();
    keep.mass(row, weight_share(options.typical_p, whole));
  }
  // The first symbol, in order of id, at which the running sum of weights passes the coin's share of the total.
  const Weight total = total_weight(row, lanes);
  const auto share = static_cast<Weight>(coin * static_cast<double>(total));
  const Weight passed = share < total ? share : total - 1;
  Weight sum = 0;
  int i = 0;
  constexpr int kTogether = 16;  // first in blocks, whose sums compilers vectorise
  for (; i + kTogether <= row.count; i += kTogether) {
    Weight together = 0;
    for (int j = 0; j < kTogether; ++j) together += row.weights[i + j];
    if (sum + together > passed) break;
    sum += together;
  }
  while ((sum += row.weights[i]) <= passed) ++i;
  return i;
}

}  // namespace cudnn_lstm
