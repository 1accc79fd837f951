// Drawing on the device by the rules of core/draw_rules.h, as a row body like those in arithmetic.h.
// Shapes: S streams, V vocabulary.
#pragma once

#include "core/draw_rules.h"
#include "cuda/arithmetic.h"

namespace cudnn_lstm::cuda {

// The largest vocabulary drawn from on the device: selection by counting takes V^2 comparisons.
constexpr int kMostDrawn = 256;

// The selection that core/draw_rules.h needs, by counting what precedes each symbol. Lanes: a warp's, or a single one.
template <class Lanes>
class Counting {
 public:
  CUDNN_LSTM_HD explicit Counting(const Lanes& lanes) : lanes_(lanes) {}

  CUDNN_LSTM_HD float largest(const DrawRow& row) const {
    float most = -INFINITY;
    for (int i = lanes_.index(); i < row.count; i += lanes_.count()) most = fmaxf(most, row.scores[i]);
    return lanes_.max(most);
  }

  CUDNN_LSTM_HD void best(DrawRow& row, int k) const {
    Flags dropped;
    for (int i = lanes_.index(); i < row.count; i += lanes_.count()) {
      int before = 0;
      for (int other = 0; other < row.count; ++other) before += precedes(row, other, i) ? 1 : 0;
      if (before >= k) dropped.set(i);
    }
    lanes_.barrier();  // every lane has read all scores
    for (int i = lanes_.index(); i < row.count; i += lanes_.count()) {
      if (dropped.get(i)) row.scores[i] = -INFINITY;
    }
    lanes_.barrier();
  }

  CUDNN_LSTM_HD void mass(DrawRow& row, Weight limit) const {
    Flags dropped;
    for (int i = lanes_.index(); i < row.count; i += lanes_.count()) {
      Weight before = 0;
      for (int other = 0; other < row.count; ++other) before += precedes(row, other, i) ? row.weights[other] : 0;
      if (before >= limit) dropped.set(i);
    }
    lanes_.barrier();
    for (int i = lanes_.index(); i < row.count; i += lanes_.count()) {
      if (dropped.get(i)) row.weights[i] = 0;
    }
    lanes_.barrier();
  }

 private:
  // One flag per symbol that a lane looks at.
  class Flags {
   public:
    CUDNN_LSTM_HD void set(int i) { words_[i / 32] |= std::uint32_t{1} << (i % 32); }
    CUDNN_LSTM_HD bool get(int i) const { return (words_[i / 32] >> (i % 32) & 1) != 0; }

   private:
    static constexpr int kWords = kMostDrawn / 32;
    std::uint32_t words_[kWords] = {};
  };

  CUDNN_LSTM_HD static bool precedes(const DrawRow& row, int a, int b) {
    return row.scores[a] > row.scores[b] || (row.scores[a] == row.scores[b] && a < b);
  }

  const Lanes& lanes_;
};

// drawn [ring][S] and the next ids [S] from logits [S, V], which exclude the bias [V] and are overwritten.
// Scratch: weights [S, V].
template <class T>
struct Draw {  // rows: S
  const Cursor* cursor;
  const SamplingOptions* options;  // [S]
  float* logits;
  const T* bias;
  int vocabulary;  // at most kMostDrawn
  std::size_t streams;
  std::uint32_t ring;
  Weight* weights;
  std::int32_t* ids;
  std::int32_t* drawn;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    DrawRow symbols{vocabulary, logits + row * vocabulary, weights + row * vocabulary};
    for (int v = lanes.index(); v < vocabulary; v += lanes.count()) {
      symbols.scores[v] = to_score(symbols.scores[v] + to_float(bias[v]));
    }
    lanes.barrier();
    const std::int32_t id =
        draw_symbol(symbols, options[row], draw_coin(options[row], cursor->step), lanes, Counting<Lanes>(lanes));
    if (lanes.index() != 0) return;
    ids[row] = id;
    drawn[cursor->step % ring * streams + row] = id;
  }
};

}  // namespace cudnn_lstm::cuda
