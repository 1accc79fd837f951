// The forward half of a step. Each thread runs through its own domain (partition.h); the team meets where one thread's
// output is another's input.
#include <algorithm>
#include <cstring>

#include "core/random.h"
#include "cpu/cpu_backend.h"

namespace cudnn_lstm::cpu {
namespace {

// The gate stage follows the product of this many units, while their rows are in the cache. 48 units are 192 rows, a
// whole number of tiles in every table.
constexpr int kUnitGroup = 48;

// The products with a layer's input cover about this many lanes at once, ahead of the ticks that need them.
constexpr int kInputLanes = 128;

}  // namespace

// Scalar and embedded input become lane blocks [in][16]; one-hot input stays ids. Lanes beyond the batch hold zero.
void CpuBackend::encode_input(int thread) {
  if (spec_.coding == InputCoding::onehot) return;
  const int threads = pass_.partition.threads;
  const int in = spec_.input_size();
  const float* table =
      spec_.coding == InputCoding::embedding ? parameters_.data() + layout_.embedding().offset : nullptr;
  const float scale = 1.0f / static_cast<float>(spec_.vocabulary);
  const int end = share_begin(pairs(), threads, thread + 1);
  for (int pair = share_begin(pairs(), threads, thread); pair < end && !stopped(); ++pair) {
    const int step = pair / pass_.blocks, block = pair % pass_.blocks;
    float* out = input_block(step, block).rows();
    for (int lane = 0; lane < kLanes; ++lane) {
      const int b = block * kLanes + lane;
      const bool real = b < pass_.batch;
      const std::int32_t id = real ? pass_.ids[static_cast<std::size_t>(step) * pass_.batch + b] : 0;
      for (int e = 0; e < in; ++e) {
        const float value =
            table != nullptr ? table[static_cast<std::size_t>(id) * in + e] : static_cast<float>(id) * scale;
        out[e * kLanes + lane] = real ? value : 0.0f;
      }
    }
  }
}

void CpuBackend::forward(int thread) {
  if (pass_.partition.split_units) return forward_wave(thread);
  for (int layer = 0; layer < spec_.layers; ++layer) forward_layer(thread, layer);
  meet();
}

// All layers at once, each `lag` ticks behind the one below, so that the threads meet once instead of once per layer.
void CpuBackend::forward_wave(int thread) {
  const int lag = wave_lag();
  const int ahead = std::max(1, kInputLanes / (pass_.blocks * kLanes));
  for (int phase = 0; phase < pass_.steps + (spec_.layers - 1) * lag; ++phase) {
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const int step = phase - layer * lag;
      if (step < 0 || step >= pass_.steps || stopped()) continue;
      const int chunk = layer == 0 ? ahead : lag;
      if (step % chunk == 0) input_products(thread, layer, step, std::min(pass_.steps, step + chunk));
      forward_tick(thread, layer, step);
    }
    if (meet()) return;
  }
}

void CpuBackend::forward_layer(int thread, int layer) {
  const Domain domain = pass_.partition.domain(thread);
  const int blocks = std::max(1, domain.last_block - domain.first_block);
  const int chunk = std::max(1, kInputLanes / (blocks * kLanes));
  for (int step = 0; step < pass_.steps; ++step) {
    if (!stopped()) {
      if (step % chunk == 0) input_products(thread, layer, step, std::min(pass_.steps, step + chunk));
      forward_tick(thread, layer, step);
    }
  }
}

// Before a step with lanes to reset, prepares the state that the units of a layer start from. The rows themselves stay
// as they are: the layer above reads them and, in the backward half, so does the step before.
void CpuBackend::reset_lanes(int layer, int step, int block, int first_unit, int last_unit) {
  const unsigned lanes = resets(step, block);
  if (lanes == 0) return;
  LayerActivations& activations = layers_[layer];
  const int units = last_unit - first_unit;
  const auto copy = [&](LaneBlocks& from, LaneBlocks& to) {
    float* rows = pair_block(to, step, block).row(first_unit);
    std::copy_n(pair_block(from, step, block).row(first_unit), units * kLanes, rows);
    clear_lanes(rows, units, lanes);
  };
  copy(activations.h, activations.h_reset);
  copy(activations.c, activations.c_reset);
}

// gates = bias + W_ih x for the domain's units and steps [first_step, last_step).
void CpuBackend::input_products(int thread, int layer, int first_step, int last_step) {
  const Domain domain = pass_.partition.domain(thread);
  const LayerWeights& weights = weights_.layers()[layer];
  if (layer == 0 && spec_.coding == InputCoding::onehot) {
    Square lanes{}, rows;
    const int end = 4 * domain.last_unit;
    for (int step = first_step; step < last_step; ++step) {
      const std::int32_t* ids = pass_.ids + static_cast<std::size_t>(step) * pass_.batch;
      for (int block = domain.first_block; block < domain.last_block && !stopped(); ++block) {
        for (int row = 4 * domain.first_unit; row < end; row += 16) {
          const int count = std::min(16, end - row);  // the rows after these are another thread's
          const float* bias = weights.bias.vector(0) + row;
          for (int lane = 0; lane < kLanes; ++lane) {
            const int b = block * kLanes + lane;
            const float* column = weights.table.vector(b < pass_.batch ? ids[b] : 0) + row;
            for (int r = 0; r < count; ++r) lanes.values[lane * kLanes + r] = bias[r] + column[r];
          }
          const LaneBlock out = gates(layer, step, block);
          if (count == 16) {
            kernels_.transpose_block(lanes, out.target(row));
          } else {
            kernels_.transpose_block(lanes, rows);
            std::copy_n(rows.values, count * kLanes, out.row(row));
          }
        }
      }
    }
    return;
  }
  std::vector<const float*> b;
  std::vector<float*> c;
  for (int step = first_step; step < last_step; ++step)
    for (int block = domain.first_block; block < domain.last_block; ++block) {
      b.push_back((layer == 0 ? input_block(step, block) : layer_output(layer - 1, step, block)).rows());
      c.push_back(gates(layer, step, block).rows());
    }
  const PackedMatrix& matrix = weights_.input(layer, pass_.gradient);
  const int all = static_cast<int>(b.size()), at_once = blocks_at_once(matrix, all);
  for (int first = 0; first < all && !stopped(); first += at_once) {
    const int count = std::min(at_once, all - first);
    const ProductInputs rows = inputs(thread, matrix, count, b.data() + first);
    for (int unit = domain.first_unit; unit < domain.last_unit && !stopped(); unit += kUnitGroup) {
      const int end = std::min(unit + kUnitGroup, domain.last_unit);
      matrix.multiply(4 * unit, 4 * end, count, rows, c.data() + first, weights.bias.vector(0), false, stop_);
    }
  }
}

// gates += W_hh h, then the gate stage and dropout of what the layer passes on.
void CpuBackend::forward_tick(int thread, int layer, int step) {
  constexpr int kMaxBlocks = 16;
  const Domain domain = pass_.partition.domain(thread);
  LayerActivations& activations = layers_[layer];
  const PackedMatrix& matrix = weights_.recurrent(layer, pass_.gradient);
  const int at_once = blocks_at_once(matrix, kMaxBlocks);
  const std::uint32_t threshold = dropout_threshold(spec_.dropout);
  for (int first = domain.first_block; first < domain.last_block; first += at_once) {
    const int count = std::min(at_once, domain.last_block - first);
    const float* b[kMaxBlocks];
    float* c[kMaxBlocks];
    for (int i = 0; i < count; ++i) {
      b[i] = h_before(layer, step, first + i).rows();
      c[i] = gates(layer, step, first + i).rows();
    }
    const ProductInputs before = inputs(thread, matrix, count, b);
    for (int unit = domain.first_unit; unit < domain.last_unit && !stopped(); unit += kUnitGroup) {
      const int end = std::min(unit + kUnitGroup, domain.last_unit);
      matrix.multiply(4 * unit, 4 * end, count, before, c, nullptr, false, stop_);
      for (int i = 0; i < count; ++i) {
        const int block = first + i;
        GateForward stage{};
        stage.units = end - unit;
        stage.slope = spec_.gate_slope();
        stage.gates = gates(layer, step, block).row(4 * unit);
        stage.c_before = c_before(layer, step, block).row(unit);
        stage.c = pair_block(activations.c, step + 1, block).row(unit);
        stage.h = pair_block(activations.h, step + 1, block).row(unit);
        if (pass_.dropout) {
          std::uint16_t* mask = keep(layer, step, block) + unit;
          kernels_.dropout_mask({end - unit, unit, static_cast<std::uint32_t>(step),
                                 static_cast<std::uint32_t>(pass_.first_block + block),
                                 static_cast<std::uint32_t>(layer), pass_.mask_step, spec_.seed, threshold},
                                mask);
          stage.h_dropped = pair_block(activations.dropped, step, block).row(unit);
          stage.keep = mask;
          stage.keep_scale = 65536.0f / static_cast<float>(threshold);
        }
        kernels_.gate_forward(stage);
        if (step + 1 < pass_.steps) reset_lanes(layer, step + 1, block, unit, end);
      }
    }
  }
}

// Logits, loss and, in training, their gradients down to the top layer's output. The pairs are shared between the
// threads however the time loop was partitioned.
void CpuBackend::output_stage(int thread) {
  const int first = output_first_step() * pass_.blocks;
  const int threads = pass_.partition.threads;
  for (int chunk = first; chunk < pairs(); chunk += output_chunk_) {
    const int count = std::min(output_chunk_, pairs() - chunk);
    output_pairs(thread, chunk + share_begin(count, threads, thread), chunk + share_begin(count, threads, thread + 1),
                 chunk);
    if (meet()) return;
    if (!pass_.gradient) continue;
    weight_gradients(thread, spec_.layers, chunk, chunk + count);
    if (meet()) return;
  }
}

void CpuBackend::output_pairs(int thread, int first_pair, int last_pair, int chunk_first) {
  const int top = spec_.layers - 1;
  const double targets = static_cast<double>(pass_.target == Target::last ? 1 : pass_.steps) * pass_.all_sequences;
  std::int32_t wanted[kLanes];
  for (int pair = first_pair; pair < last_pair && !stopped(); ++pair) {
    const int step = pair / pass_.blocks, block = pair % pass_.blocks;
    const float* input = layer_output(top, step, block).rows();
    float* logits = logits_.block(pair - chunk_first).rows();
    const PackedMatrix& matrix = weights_.output(pass_.gradient);
    matrix.multiply(0, spec_.vocabulary, 1, inputs(thread, matrix, 1, &input), &logits,
                    weights_.output_bias().vector(0), false, stop_);
    const int lanes = std::min(kLanes, pass_.batch - block * kLanes);
    for (int lane = 0; lane < lanes; ++lane) {
      wanted[lane] = pass_.ids[static_cast<std::size_t>(step + 1) * pass_.batch + block * kLanes + lane];
    }
    kernels_.softmax_loss(logits, spec_.vocabulary, wanted, lanes, static_cast<float>(1.0 / targets), pass_.gradient,
                          losses_.data() + static_cast<std::size_t>(pair) * kLanes);
    if (pass_.gradient && !stopped()) {
      float* out = pair_block(outputs_gradient_, step, block).rows();
      const PackedMatrix& back = weights_.output_back();
      const float* const gradients = logits;
      back.multiply(0, spec_.hidden, 1, inputs(thread, back, 1, &gradients), &out, nullptr, true, stop_);
    }
  }
}

}  // namespace cudnn_lstm::cpu
