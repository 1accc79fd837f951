// core/sampler.h for the device, without the repetition penalty, word for word (the test compares them): a row body as
// in arithmetic.h. Shapes: S streams, V vocabulary.
#pragma once

#include "cuda/arithmetic.h"

namespace cudnn_lstm::cuda {

struct DrawInput {
  std::uint64_t seed;      // of the coins
  std::uint64_t position;  // of the call's first draw
  double temperature;
  double top_p;        // 1: off
  double min_p;        // 0: off
  std::int32_t top_k;  // 0: off
  std::int32_t greedy;
};

// drawn [ring][S] and the next ids [S] from logits [S, V], which come without the bias [V] and are overwritten.
// Scratch: weights [S, V], order [S, V]. The order is found by counting, V^2 comparisons: for small vocabularies.
template <class T>
struct Draw {  // rows: S
  const Cursor* cursor;
  const DrawInput* input;
  float* logits;
  const T* bias;
  int vocabulary;
  std::size_t streams;
  std::uint32_t ring;
  double* weights;
  std::int32_t* order;
  std::int32_t* ids;
  std::int32_t* drawn;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    float* z = logits + row * vocabulary;
    float largest = -INFINITY;
    for (int v = lanes.index(); v < vocabulary; v += lanes.count()) {
      const float score = z[v] + to_float(bias[v]);
      z[v] = score == score ? score : -INFINITY;  // a NaN has no place in an order
      largest = fmaxf(largest, z[v]);
    }
    largest = lanes.max(largest);
    lanes.barrier();
    double* weight = weights + row * vocabulary;
    std::int32_t* by_rank = order + row * vocabulary;
    const int kept = input->greedy != 0 ? 1 : input->top_k > 0 && input->top_k < vocabulary ? input->top_k : vocabulary;
    for (int v = lanes.index(); v < vocabulary; v += lanes.count()) {
      int rank = 0;  // descending, ties by id
      for (int u = 0; u < vocabulary; ++u) rank += z[u] > z[v] || (z[u] == z[v] && u < v) ? 1 : 0;
      by_rank[rank] = v;
      if (rank < kept) {
        weight[rank] = exp((static_cast<double>(z[v]) - static_cast<double>(largest)) / input->temperature);
      }
    }
    lanes.barrier();
    if (lanes.index() != 0) return;
    const std::int32_t id = by_rank[kept == 1 ? 0 : pick(weight, kept, coin(static_cast<std::uint32_t>(row)))];
    ids[row] = id;
    drawn[cursor->step % ring * streams + row] = id;
  }

 private:
  CUDNN_LSTM_HD double coin(std::uint32_t stream) const {
    constexpr std::uint32_t kSamplingSite = 2;  // RandomSite::sampling
    const std::uint64_t position = input->position + cursor->step;
    const PhiloxWords words = philox(
        {{static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), stream, kSamplingSite}},
        static_cast<std::uint32_t>(input->seed), static_cast<std::uint32_t>(input->seed >> 32));
    const std::uint64_t bits = (std::uint64_t{words.word[0]} << 21) ^ (words.word[1] >> 11);
    return static_cast<double>(bits) / 9007199254740992.0;  // 2^53
  }

  // The sums in the order of the host's, so that they are its bits.
  CUDNN_LSTM_HD int pick(const double* weight, int kept, double coin) const {
    double total = 0;
    for (int i = 0; i < kept; ++i) total += weight[i];
    if (input->top_p < 1) {
      double sum = 0;
      int count = 0;
      while (count < kept && sum < input->top_p * total) sum += weight[count++];
      kept = count > 1 ? count : 1;
    }
    if (input->min_p > 0) {
      int count = 1;
      while (count < kept && weight[count] >= input->min_p) ++count;
      kept = count;
    }
    total = 0;
    for (int i = 0; i < kept; ++i) total += weight[i];
    double left = coin * total;
    for (int i = 0; i < kept; ++i) {
      left -= weight[i];
      if (left < 0) return i;
    }
    return kept - 1;
  }
};

}  // namespace cudnn_lstm::cuda
