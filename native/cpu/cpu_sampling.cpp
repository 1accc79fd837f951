// Streams, which carry their state: a few run as matrix-vector products, many in lane blocks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/cpu_backend.h"

namespace cudnn_lstm::cpu {
namespace {

// A sequence is run this many ticks at a time: its gates, 256 KB for 256 units, stay in the second-level cache.
constexpr int kSequenceSteps = 64;

// Lane blocks times ticks in one pass, which bounds its memory.
constexpr int kPassPairs = 256;

// Below this many multiply-adds per thread and product, sharing the units costs more than the extra threads save.
constexpr int kWorthSharing = 50'000;

}  // namespace

void CpuBackend::reset_stream_state(int streams) {
  streams_ = streams;
  stream_lanes_.batch = 0;
  stream_rows_.clear();
  if (streams <= kSingleStreams) {
    stream_rows_.assign(static_cast<std::size_t>(spec_.layers) * 2 * streams * spec_.hidden, 0.0f);
  } else {
    const int blocks = (streams + kLanes - 1) / kLanes;
    stream_lanes_.data.ensure(state_block(blocks, spec_.layers, 0));
    stream_lanes_.data.zero();
    stream_lanes_.batch = streams;
  }
}

void CpuBackend::next_logits(const std::int32_t* ids, int steps, int streams, float* logits,
                             const std::atomic<bool>& stop) {
  heed(stop);
  if (!finish_update()) return;
  if (streams != streams_) reset_stream_state(streams);
  if (streams > kSingleStreams) {
    const int most = std::max(1, kPassPairs * kLanes / streams);
    for (int step = 0; step < steps && !stopped(); step += most) {
      next_logits_lanes(ids + static_cast<std::size_t>(step) * streams, std::min(most, steps - step), streams, logits);
    }
    return;
  }
  for (int s = 0; s < streams && !stopped(); ++s) {
    run_sequence(ids + s, steps, s, streams, steps - 1, [&](int, const float* last) {
      std::memcpy(logits + static_cast<std::size_t>(s) * spec_.vocabulary, last, spec_.vocabulary * sizeof(float));
    });
  }
}

void CpuBackend::single_product(const PanelMatrix& a, int first, int rows, const float* x, ConstPanelRows initial,
                                PanelRows out) {
  constexpr int kBetweenLooks = 1 << 22;  // multiply-adds; a large matrix comes from memory
  const int most = std::max(1, kBetweenLooks / kPanelRows / a.depth());
  const int panels = (rows + kPanelRows - 1) / kPanelRows;
  for (int panel = 0; panel < panels && !stopped(); panel += most) {
    a.multiply(kernels_, first + panel * kPanelRows, std::min(most, panels - panel), x, initial.after(panel),
               out.after(panel));
  }
}

// Runs stream `stream` of stream_rows_ through ids[0], ids[streams], ..., and passes the logits [V] of the ticks from
// `first` on to `consume`, possibly on several threads at once for different ticks.
void CpuBackend::run_sequence(const std::int32_t* ids, int steps, int stream, int streams, int first,
                              const std::function<void(int step, const float* logits)>& consume) {
  const int worth = static_cast<int>(4LL * spec_.hidden * spec_.hidden / kWorthSharing);
  const int sharers = std::max(1, std::min(worth, units_padded_ / 16));
  const std::size_t most = std::min(steps, kSequenceSteps);
  sequence_gates_.ensure(most);
  if (sequence_outputs_.size() < most * 2 * spec_.hidden) sequence_outputs_.resize(most * 2 * spec_.hidden);
  sequence_logits_.ensure(std::min(sharers, team_.most()));
  for (int from = 0; from < steps && !stopped(); from += kSequenceSteps) {
    const int count = std::min(kSequenceSteps, steps - from);
    Sequence sequence{ids + static_cast<std::size_t>(from) * streams, count, stream, streams, first - from, most};
    const TunedCall call(*this, Call::sequence, 0, count, sharers);
    const int threads = call.partition().threads;
    weights_.prepare_single(lean(), stop_);
    team_.run(threads, [&](int thread) {
      resumed();
      for (int layer = 0; layer < spec_.layers && !abandoned_; ++layer) {
        sequence_layer(sequence, layer, thread, threads);
      }
      if (abandoned_) return;
      const float* top = sequence_output(sequence, spec_.layers - 1);
      for (int step = std::max(0, sequence.first) + thread; step < count && !stopped(); step += threads) {
        single_product(weights_.output_panels(), 0, spec_.vocabulary,
                       top + static_cast<std::size_t>(step) * spec_.hidden, weights_.output_bias().rows(0),
                       sequence_logits_.rows(thread));
        if (!gave_up()) consume(from + step, sequence_logits_.vector(thread));
      }
    });
  }
}

// [steps][H]; two layers' outputs are kept, the one being read and the one being written.
float* CpuBackend::sequence_output(const Sequence& sequence, int layer) {
  return sequence_outputs_.data() + sequence.most * (layer % 2) * spec_.hidden;
}

// Runs this thread's units of a layer through all ticks: first the products with the input, then, tick by tick, those
// with h, so that each matrix is read while it is in the cache.
void CpuBackend::sequence_layer(const Sequence& sequence, int layer, int thread, int threads) {
  const std::size_t hidden = spec_.hidden;
  const int begin = 16 * share_begin(units_padded_ / 16, threads, thread);
  const int end = std::min(spec_.hidden, 16 * share_begin(units_padded_ / 16, threads, thread + 1));
  const int row = 4 * begin;
  const int rows = 4 * (end - begin);
  const LayerWeights& weights = weights_.layers()[layer];
  float* out = sequence_output(sequence, layer);
  for (int step = 0; step < sequence.steps && !stopped(); ++step) {
    const std::size_t id = sequence.ids[static_cast<std::size_t>(step) * sequence.streams];
    if (layer == 0 && spec_.coding == InputCoding::onehot) {
      float* to = sequence_gates_.vector(step) + row;
      const float* bias = weights.bias.vector(0) + row;
      const float* column = weights.table.vector(id) + row;
      for (int r = 0; r < rows; ++r) to[r] = bias[r] + column[r];
      continue;
    }
    const int in = layer == 0 ? spec_.input_size() : spec_.hidden;
    const float scalar = static_cast<float>(id) * (1.0f / static_cast<float>(spec_.vocabulary));
    const float* x = layer > 0 ? sequence_output(sequence, layer - 1) + step * hidden
                     : spec_.coding == InputCoding::embedding
                         ? parameters_.data() + layout_.embedding().offset + id * in
                         : &scalar;
    single_product(weights.input_panels, row, rows, x, weights.bias.rows(0, row), sequence_gates_.rows(step, row));
  }
  float* state =
      stream_rows_.data() + (static_cast<std::size_t>(layer) * 2 * sequence.streams + sequence.stream) * hidden;
  float* c = state + sequence.streams * hidden;
  for (int step = 0; step < sequence.steps; ++step) {
    const float* h = step == 0 ? state : out + (step - 1) * hidden;
    const PanelRows to = sequence_gates_.rows(step, row);
    if (sequence.ids[static_cast<std::size_t>(step) * sequence.streams] == spec_.reset_symbol) {
      std::fill(c + begin, c + end, 0.0f);
    } else {
      single_product(weights.recurrent_panels, row, rows, h, to, to);
    }
    kernels_.gate_single(end - begin, spec_.gate_slope(), to.data(), c + begin, out + step * hidden + begin);
    if (meet()) return;
  }
  std::copy(out + (sequence.steps - 1) * hidden + begin, out + (sequence.steps - 1) * hidden + end, state + begin);
}

// A lane block would compute sixteen sequences where there are only one or two.
void CpuBackend::evaluate_single(const Batch& batch, float* losses) {
  constexpr int kPiece = 256;  // ticks of one sequence before those of the next
  const int size = batch.batch;
  const std::size_t floats = static_cast<std::size_t>(spec_.layers) * 2 * size * spec_.hidden;
  std::vector<float> state(floats, 0.0f);
  if (batch.carry_state && evaluation_rows_.size() == floats) state = evaluation_rows_;
  state.swap(stream_rows_);
  const int first = batch.target == Target::last ? batch.steps - 1 : 0;
  for (int from = 0; from < batch.steps && !stopped(); from += kPiece) {
    for (int b = 0; b < size; ++b) {
      run_sequence(batch.ids + static_cast<std::size_t>(from) * size + b, std::min(kPiece, batch.steps - from), b, size,
                   first - from, [&](int step, const float* logits) {
                     const int at = from + step;
                     const float largest = *std::max_element(logits, logits + spec_.vocabulary);
                     double sum = 0;
                     for (int v = 0; v < spec_.vocabulary; ++v)
                       sum += std::exp(static_cast<double>(logits[v]) - largest);
                     const std::int32_t wanted = batch.ids[static_cast<std::size_t>(at + 1) * size + b];
                     losses[static_cast<std::size_t>(at - first) * size + b] =
                         static_cast<float>(largest + std::log(sum) - logits[wanted]);
                   });
    }
  }
  state.swap(stream_rows_);
  if (!batch.carry_state || gave_up()) return;
  evaluation_rows_.swap(state);
  evaluation_state_.batch = 0;
}

void CpuBackend::next_logits_lanes(const std::int32_t* ids, int steps, int streams, float* logits) {
  Pass pass;
  pass.ids = ids;
  pass.steps = steps;
  pass.batch = streams;
  pass.target = Target::last;
  const TunedCall call(*this, Call::streams, (streams + kLanes - 1) / kLanes, steps, team_.most());
  pass.partition = call.partition();
  begin_pass(pass, &stream_lanes_);
  run_team([&](int thread) {
    encode_input(thread);
    if (meet()) return;
    forward(thread);
    if (abandoned_) return;
    const int threads = pass_.partition.threads;
    const int end = share_begin(pass_.blocks, threads, thread + 1);
    for (int block = share_begin(pass_.blocks, threads, thread); block < end && !stopped(); ++block) {
      // One place for each thread at work or, if there are fewer blocks than threads, for each block.
      float* out = logits_.block(std::min(thread, block)).rows();
      const float* input = layer_output(spec_.layers - 1, pass_.steps - 1, block).rows();
      weights_.output(false).multiply(0, spec_.vocabulary, 1, {&input}, &out, weights_.output_bias().vector(0), false,
                                      stop_);
      for (int s = block * kLanes; s < std::min(streams, (block + 1) * kLanes); ++s)
        for (int v = 0; v < spec_.vocabulary; ++v) {
          logits[static_cast<std::size_t>(s) * spec_.vocabulary + v] = out[v * kLanes + s % kLanes];
        }
    }
  });
  if (!gave_up()) end_pass(stream_lanes_);
}

}  // namespace cudnn_lstm::cpu
