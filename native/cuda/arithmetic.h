// The arithmetic of the project's own CUDA kernels, as plain functions for both host and device: kernels.cu wraps them
// for the GPU, and the tests run the same code on the host.
//
// There are two forms. An element body is called once per index. A row body is called once per row by a group of lanes
// that share its work: a warp on the GPU, a single lane on the host.
//
// Shapes: B batch, T steps, N = T x B positions (time-major), H hidden, V vocabulary, E embedding, F input features;
// M positions with a target: N for Target::every, B for Target::last.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/optimizers.h"
#include "core/random.h"

namespace cudnn_lstm::cuda {

using Half = __half;
using BFloat16 = __nv_bfloat16;

CUDNN_LSTM_HD float to_float(float value) { return value; }
CUDNN_LSTM_HD float to_float(Half value) { return __half2float(value); }
CUDNN_LSTM_HD float to_float(BFloat16 value) { return __bfloat162float(value); }

template <class T>
CUDNN_LSTM_HD T from_float(float value);
template <>
CUDNN_LSTM_HD float from_float<float>(float value) {
  return value;
}
template <>
CUDNN_LSTM_HD Half from_float<Half>(float value) {
  return __float2half_rn(value);
}
template <>
CUDNN_LSTM_HD BFloat16 from_float<BFloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// The host's lane group: one lane.
struct SingleLane {
  CUDNN_LSTM_HD int index() const { return 0; }
  CUDNN_LSTM_HD int count() const { return 1; }
  CUDNN_LSTM_HD float sum(float value) const { return value; }
  CUDNN_LSTM_HD double sum(double value) const { return value; }
  CUDNN_LSTM_HD std::uint64_t sum(std::uint64_t value) const { return value; }
  CUDNN_LSTM_HD float max(float value) const { return value; }
  CUDNN_LSTM_HD std::uint32_t ballot(bool flag) const { return flag ? 1u : 0u; }
  // After it, lanes see one another's earlier memory accesses.
  CUDNN_LSTM_HD void barrier() const {}
};

// i = row x width + column. Integer division is a long sequence of instructions on a GPU, several times as long for 64
// bits as for 32, which nearly every index fits.
struct Place {
  std::size_t row;
  int column;
};
CUDNN_LSTM_HD Place place_of(std::size_t i, int width) {
  if ((i >> 32) == 0) {
    const auto index = static_cast<std::uint32_t>(i), divisor = static_cast<std::uint32_t>(width);
    const std::uint32_t row = index / divisor;
    return {row, static_cast<int>(index - row * divisor)};
  }
  const std::size_t row = i / width;
  return {row, static_cast<int>(i - row * width)};
}

// ---- One step's scalars, in device memory so that a captured graph never changes.

struct StepInput {
  std::uint64_t mask_step;  // of the dropout key (seed, step, site)
  UpdateConstants update;
  float clip;         // global-norm limit, 0 for none
  float loss_scale;   // of the gradients between the loss and the norm; 1 except in fp16
  std::int32_t held;  // number of arena runs that do not change
};

struct StepOutput {
  double loss;  // mean nats per target
  double norm;  // of the unscaled gradient, before clipping
  std::int32_t applied;
  std::int32_t reserved;
};

struct Cursor {
  std::uint32_t slot;    // the step's, in the ring of uploads
  std::uint32_t step;    // within the call, from 0
  std::int32_t halted;   // a step was not applied, so none of the call's later steps is
  std::int32_t apply;    // the current step's decision
  float gradient_scale;  // the clipping factor
};

// How a kernel finds its step: ids [ring][T + 1, B], inputs [ring].
struct StepView {
  Cursor* cursor;
  const StepInput* inputs;
  const std::int32_t* ids;
  std::size_t ids_stride;

  CUDNN_LSTM_HD const StepInput& input() const { return inputs[cursor->slot]; }
  CUDNN_LSTM_HD const std::int32_t* step_ids() const { return ids + cursor->slot * ids_stride; }
};

// ---- Input

// x [N, F] from ids: id / V (scalar), a one-hot row, or a row of the table [V, E].
enum class Encoding : int { scalar, onehot, embedding };

template <class T>
struct EncodeInput {  // elements: N x F
  StepView step;
  Encoding encoding;
  int vocabulary;
  int features;
  const T* table;
  T* x;

  CUDNN_LSTM_HD void operator()(std::size_t i) const {
    const auto [position, feature] = place_of(i, features);
    const std::int32_t id = step.step_ids()[position];
    if (encoding == Encoding::scalar) {
      x[i] = from_float<T>(static_cast<float>(id) / static_cast<float>(vocabulary));
    } else if (encoding == Encoding::onehot) {
      x[i] = from_float<T>(feature == id ? 1.0f : 0.0f);
    } else {
      x[i] = table[static_cast<std::size_t>(id) * features + feature];
    }
  }
};

// Gradient of the table: partials [chunks][V, E], each the sum of dx over one chunk's positions whose id is v, in
// ascending order, so that the result does not depend on scheduling (no atomics).
template <class T>
struct ScatterEmbedding {  // rows: chunks x V
  StepView step;
  const T* dx;  // [N, E]
  std::size_t positions;
  std::size_t chunk;  // positions per chunk
  int vocabulary;
  int embedding;
  float* partials;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    const Place at = place_of(row, vocabulary);
    const std::size_t begin = at.row * chunk;
    const std::size_t end = begin + chunk < positions ? begin + chunk : positions;
    const int id = at.column;
    const std::int32_t* ids = step.step_ids();
    for (int first = 0; first < embedding; first += lanes.count()) {
      const int e = first + lanes.index();
      float total = 0;
      for (std::size_t base = begin; base < end; base += lanes.count()) {
        const std::size_t mine = base + lanes.index();
        std::uint32_t matches = lanes.ballot(mine < end && ids[mine] == id);
        for (std::size_t position = base; matches != 0; ++position, matches >>= 1) {
          if ((matches & 1u) != 0 && e < embedding) total += to_float(dx[position * embedding + e]);
        }
      }
      if (e < embedding) partials[row * embedding + e] = total;
    }
  }
};

// ---- Dropout above the top layer, with the masks of the CPU backend (kernels.inl, dropout_mask).

// y = x scaled by 65536 / threshold where kept, else 0; forward and backward are the same product. One element is one
// unit of eight neighbouring sequences, which share a counter. x may be y. Positions start at tick first_tick.
template <class T>
struct Dropout {  // elements: ticks x ceil(B / 8) x H
  StepView step;
  const T* x;
  T* y;
  int batch;
  int hidden;
  int first_tick;
  std::uint32_t layer;
  std::uint32_t threshold;
  std::uint64_t seed;
  std::uint32_t first_block = 0;  // of 16 sequences: where this rank begins in the global batch

  CUDNN_LSTM_HD void operator()(std::size_t i) const {
    const int groups = (batch + 7) / 8;
    const Place at_unit = place_of(i, hidden);
    const int unit = at_unit.column;
    const Place at_group = place_of(at_unit.row, groups);
    const int group = at_group.column;
    const int tick = static_cast<int>(at_group.row);
    const std::uint64_t mask_step = step.input().mask_step;
    PhiloxKey key = philox_key(seed);
    key.word[1] ^= static_cast<std::uint32_t>(mask_step >> 32);
    const PhiloxWords words = philox4x32(
        {{static_cast<std::uint32_t>(unit) * 2 + static_cast<std::uint32_t>(group % 2),
          static_cast<std::uint32_t>(first_tick + tick),
          static_cast<std::uint32_t>(group / 2) + first_block + (layer << 20), static_cast<std::uint32_t>(mask_step)}},
        key);
    const float scale = 65536.0f / static_cast<float>(threshold);
    for (int lane = 0; lane < 8; ++lane) {
      const int sequence = group * 8 + lane;
      if (sequence >= batch) return;
      const std::uint32_t bits = (words.word[lane / 2] >> (lane % 2 * 16)) & 0xffffu;
      const std::size_t at = (static_cast<std::size_t>(tick) * batch + sequence) * hidden + unit;
      y[at] = bits < threshold ? from_float<T>(to_float(x[at]) * scale) : from_float<T>(0.0f);
    }
  }
};

// ---- Output: softmax and cross-entropy

// losses [M] in nats; gradient [M, V] = (softmax - one-hot) x loss_scale / M, nullptr for none; it may be `logits`
// itself. logits [M, V] exclude the bias [V].
template <class T>
struct SoftmaxLoss {  // rows: M
  StepView step;
  const float* logits;
  const T* bias;
  int vocabulary;
  std::size_t first_target;  // index into the step's ids of position 0's target
  float positions;           // M
  float* losses;
  T* gradient;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    const float* z = logits + row * vocabulary;
    const std::int32_t target = step.step_ids()[first_target + row];
    float highest = -INFINITY;
    for (int v = lanes.index(); v < vocabulary; v += lanes.count()) highest = fmaxf(highest, z[v] + to_float(bias[v]));
    highest = lanes.max(highest);
    float total = 0;
    for (int v = lanes.index(); v < vocabulary; v += lanes.count()) total += expf(z[v] + to_float(bias[v]) - highest);
    total = lanes.sum(total);
    if (lanes.index() == 0) losses[row] = highest + logf(total) - (z[target] + to_float(bias[target]));
    if (gradient == nullptr) return;
    lanes.barrier();  // z[target] is read before its lane overwrites it
    const float scale = step.input().loss_scale / positions;
    T* dz = gradient + row * vocabulary;
    for (int v = lanes.index(); v < vocabulary; v += lanes.count()) {
      const float probability = expf(z[v] + to_float(bias[v]) - highest) / total;
      dz[v] = from_float<T>((probability - (v == target ? 1.0f : 0.0f)) * scale);
    }
  }
};

// logits [M, V] += bias, for the sampler.
template <class T>
struct AddBias {  // elements: M x V
  float* logits;
  const T* bias;
  int vocabulary;

  CUDNN_LSTM_HD void operator()(std::size_t i) const { logits[i] += to_float(bias[place_of(i, vocabulary).column]); }
};

// partials [chunks][V] of the output bias's gradient: column sums of `gradient` [M, V] over chunks of positions.
template <class T>
struct SumColumns {  // elements: chunks x V
  const T* gradient;
  int vocabulary;
  std::size_t positions;
  std::size_t chunk;
  float* partials;

  CUDNN_LSTM_HD void operator()(std::size_t i) const {
    const Place at = place_of(i, vocabulary);
    const std::size_t begin = at.row * chunk;
    const std::size_t end = begin + chunk < positions ? begin + chunk : positions;
    const int v = at.column;
    float total = 0;
    for (std::size_t position = begin; position < end; ++position)
      total += to_float(gradient[position * vocabulary + v]);
    partials[i] = total;
  }
};

// out[i] = sum over chunks of partials [chunks][count].
struct SumPartials {  // elements: count
  const float* partials;
  std::size_t count;
  std::size_t chunks;
  float* out;

  CUDNN_LSTM_HD void operator()(std::size_t i) const {
    float total = 0;
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) total += partials[chunk * count + i];
    out[i] = total;
  }
};

// out[row] = sum over chunks of partials [chunks][count], for many chunks and few rows.
struct SumPartialsOfRow {  // rows: count
  const float* partials;
  std::size_t count;
  std::size_t chunks;
  float* out;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    float total = 0;
    for (std::size_t chunk = lanes.index(); chunk < chunks; chunk += lanes.count())
      total += partials[chunk * count + row];
    total = lanes.sum(total);
    if (lanes.index() == 0) out[row] = total;
  }
};

// partials[row] = sum of one chunk of `values`, in double.
struct SumChunks {  // rows: chunks
  const float* values;
  std::size_t count;
  std::size_t chunk;
  double* partials;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    const std::size_t begin = row * chunk;
    const std::size_t end = begin + chunk < count ? begin + chunk : count;
    double total = 0;
    for (std::size_t i = begin + lanes.index(); i < end; i += lanes.count()) total += static_cast<double>(values[i]);
    total = lanes.sum(total);
    if (lanes.index() == 0) partials[row] = total;
  }
};

// ---- Gradient norm, clipping, the update

// Runs of the arena, ascending.
struct Span {
  std::size_t begin, end;
};
struct Spans {
  const Span* spans;
  int count;

  CUDNN_LSTM_HD bool hold(std::size_t i) const {
    for (int span = 0; span < count; ++span) {
      if (i >= spans[span].begin && i < spans[span].end) return true;
    }
    return false;
  }
};

// gradients[i] = scaled[i] / loss_scale in float32: cuDNN's `lstm` values come from `scaled`, which may be `gradients`;
// the rest are scaled in place. partials[row] = the sum of squares over one chunk, without held values.
template <class T>
struct UnscaleAndSquare {  // rows: chunks
  StepView step;
  const T* scaled;
  float* gradients;
  std::size_t lstm;
  std::size_t count;  // including the rest
  std::size_t chunk;
  double* partials;
  const Span* held;  // runs that do not change

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    const std::size_t begin = row * chunk;
    const std::size_t end = begin + chunk < count ? begin + chunk : count;
    const float factor = 1.0f / step.input().loss_scale;
    const Spans frozen{held, step.input().held};
    double total = 0;
    for (std::size_t i = begin + lanes.index(); i < end; i += lanes.count()) {
      const float value = (i < lstm ? to_float(scaled[i]) : gradients[i]) * factor;
      gradients[i] = value;
      if (!frozen.hold(i)) total += static_cast<double>(value) * static_cast<double>(value);
    }
    total = lanes.sum(total);
    if (lanes.index() == 0) partials[row] = total;
  }
};

// partials[row] = the sum of squares over one chunk of `values`, the gradients summed over ranks.
struct SquareChunks {  // rows: chunks
  StepView step;
  const float* values;
  std::size_t count;
  std::size_t chunk;
  double* partials;
  const Span* held;  // as in UnscaleAndSquare

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t row, const Lanes& lanes) const {
    const std::size_t begin = row * chunk;
    const std::size_t end = begin + chunk < count ? begin + chunk : count;
    const Spans frozen{held, step.input().held};
    double total = 0;
    for (std::size_t i = begin + lanes.index(); i < end; i += lanes.count()) {
      if (!frozen.hold(i)) total += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
    total = lanes.sum(total);
    if (lanes.index() == 0) partials[row] = total;
  }
};

// *total = the sum of partials [count]. rows: 1
struct SumTotals {
  const double* partials;
  std::size_t count;
  double* total;

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t, const Lanes& lanes) const {
    double sum = 0;
    for (std::size_t i = lanes.index(); i < count; i += lanes.count()) sum += partials[i];
    sum = lanes.sum(sum);
    if (lanes.index() == 0) *total = sum;
  }
};

// Decides the step: loss, norm, whether it is applied, the clipping factor. rows: 1
struct DecideStep {
  StepView step;
  const double* loss_partials;
  std::size_t loss_chunks;
  double positions;  // M
  const double* square_partials;
  std::size_t square_chunks;
  StepOutput* outputs;  // [steps of the call]

  template <class Lanes>
  CUDNN_LSTM_HD void operator()(std::size_t, const Lanes& lanes) const {
    double loss = 0, squares = 0;
    for (std::size_t i = lanes.index(); i < loss_chunks; i += lanes.count()) loss += loss_partials[i];
    for (std::size_t i = lanes.index(); i < square_chunks; i += lanes.count()) squares += square_partials[i];
    loss = lanes.sum(loss) / positions;
    squares = lanes.sum(squares);
    if (lanes.index() != 0) return;
    const double norm = sqrt(squares);
    Cursor& cursor = *step.cursor;
    const bool finite = loss - loss == 0.0 && norm - norm == 0.0;
    const bool apply = finite && cursor.halted == 0;
    const double clip = static_cast<double>(step.input().clip);
    cursor.apply = apply ? 1 : 0;
    if (!apply) cursor.halted = 1;
    cursor.gradient_scale = clip > 0 && norm > clip ? static_cast<float>(clip / norm) : 1.0f;
    outputs[cursor.step] = {loss, norm, cursor.apply, 0};
  }
};

// Runs the optimiser on every parameter, then copies the state that the next step continues from; does nothing if the
// step is not applied. `copy` is the 16-bit copy of the parameters that the matrix products read, nullptr in fp32.
template <class T>
struct Update {  // elements: the parameters, then the state's buffer
  StepView step;
  const float* gradients;
  float* parameters;
  float* first_moments;
  float* second_moments;
  T* copy;
  Spans biases;       // few: about one per layer
  std::size_t count;  // of parameters
  const T* next;
  T* state;
  const Span* held;  // runs that do not change

  CUDNN_LSTM_HD void operator()(std::size_t i) const {
    const Cursor& cursor = *step.cursor;
    if (cursor.apply == 0) return;
    if (i >= count) {
      state[i - count] = next[i - count];
      return;
    }
    if (Spans{held, step.input().held}.hold(i)) return;
    const UpdateConstants& constants = step.input().update;
    const float gradient = gradients[i] * cursor.gradient_scale;
    if (constants.keep != 1.0f && !biases.hold(i)) parameters[i] *= constants.keep;
    with_rule(constants.optimizer, [&](auto rule) {
      update_parameter<decltype(rule)>(constants, gradient, first_moments + i, second_moments + i, parameters + i);
    });
    if (copy != nullptr) copy[i] = from_float<T>(parameters[i]);
  }
};

// Advances to the call's next step. elements: 1
struct AdvanceCursor {
  Cursor* cursor;
  std::uint32_t ring;

  CUDNN_LSTM_HD void operator()(std::size_t) const {
    cursor->slot = (cursor->slot + 1) % ring;
    cursor->step += 1;
  }
};

// copy[i] = values[i], rounded to T.
template <class T>
struct Round {  // elements: count
  const float* values;
  T* copy;

  CUDNN_LSTM_HD void operator()(std::size_t i) const { copy[i] = from_float<T>(values[i]); }
};

}  // namespace cudnn_lstm::cuda
