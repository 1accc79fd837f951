// One symbol a stream at a time, the state carried.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/cpu_backend.h"

namespace cudnn_lstm::cpu {

void CpuBackend::reset_stream_state(int streams) {
  streams_ = streams;
  stream_lanes_.batch = 0;
  stream_rows_.clear();
  if (streams <= kSingleStreams) {
    stream_rows_.assign(static_cast<std::size_t>(spec_.layers) * 2 * streams * spec_.hidden, 0.0f);
  } else {
    const int blocks = (streams + kLanes - 1) / kLanes;
    const std::size_t size = static_cast<std::size_t>(spec_.layers) * 2 * blocks * unit_stride_;
    if (stream_lanes_.data.size() < size) stream_lanes_.data.resize(size);
    stream_lanes_.data.zero();
    stream_lanes_.batch = streams;
  }
}

void CpuBackend::next_logits(const std::int32_t* ids, int streams, float* logits) {
  if (streams != streams_) reset_stream_state(streams);
  if (streams > kSingleStreams) return next_logits_lanes(ids, streams, logits);
  for (int s = 0; s < streams; ++s) {
    next_logits_single(ids[s], s, streams, logits + static_cast<std::size_t>(s) * spec_.vocabulary);
  }
}

void CpuBackend::next_logits_single(std::int32_t id, int stream, int streams, float* logits) {
  // The packed bias and one-hot table are shared with the products.
  if (weights_stale_) {
    weights_.shape(make_partition(team_.size(), 1, spec_.hidden, kernels_.tile_blocks));
    pack_weights();
  }
  SingleWeights& weights = weights_.single(parameters_.data());
  const int rows = 4 * spec_.hidden;
  const std::size_t padded = weights_.gate_rows_padded();
  single_scratch_.resize(2 * padded + weights_.vocabulary_padded());
  float* gates = single_scratch_.data();
  float* sums = gates + padded;
  float* outputs = sums + padded;
  const float scalar = static_cast<float>(id) * (1.0f / static_cast<float>(spec_.vocabulary));
  const float* input = &scalar;
  if (spec_.coding == InputCoding::embedding) {
    input = parameters_.data() + layout_.embedding().offset + static_cast<std::size_t>(id) * spec_.embedding;
  }
  for (int l = 0; l < spec_.layers; ++l) {
    const LayerWeights& layer = weights_.layers()[l];
    const int in = l == 0 ? spec_.input_size() : spec_.hidden;
    float* h = stream_rows_.data() + (static_cast<std::size_t>(l) * 2 * streams + stream) * spec_.hidden;
    float* c = h + static_cast<std::size_t>(streams) * spec_.hidden;
    const float* start = sums;
    if (layer.table.size() > 0) {
      start = layer.table.data() + static_cast<std::size_t>(id) * padded;
    } else {
      kernels_.matrix_vector(weights.input[l].data(), rows, in, input, layer.bias.data(), sums);
    }
    kernels_.matrix_vector(weights.recurrent[l].data(), rows, spec_.hidden, h, start, gates);
    kernels_.gate_single(spec_.hidden, gates, c, h);
    input = h;
  }
  kernels_.matrix_vector(weights.output.data(), spec_.vocabulary, spec_.hidden, input, weights_.output_bias(), outputs);
  std::memcpy(logits, outputs, spec_.vocabulary * sizeof(float));
}

// A lane block would compute sixteen sequences for the one or two that there are.
void CpuBackend::evaluate_single(const Batch& batch, float* losses, const std::atomic<bool>& stop) {
  const int size = batch.batch;
  const std::size_t floats = static_cast<std::size_t>(spec_.layers) * 2 * size * spec_.hidden;
  std::vector<float> state(floats, 0.0f);
  if (batch.carry_state && evaluation_rows_.size() == floats) state = evaluation_rows_;
  std::vector<float> logits(spec_.vocabulary);
  state.swap(stream_rows_);
  for (int step = 0; step < batch.steps && !stop.load(std::memory_order_relaxed); ++step) {
    for (int b = 0; b < size; ++b) {
      next_logits_single(batch.ids[step * size + b], b, size, logits.data());
      if (batch.target == Target::last && step + 1 < batch.steps) continue;
      const float largest = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
      *losses++ = static_cast<float>(largest + std::log(sum) - logits[batch.ids[(step + 1) * size + b]]);
    }
  }
  state.swap(stream_rows_);
  if (!batch.carry_state || stop.load(std::memory_order_relaxed)) return;
  evaluation_rows_.swap(state);
  evaluation_state_.batch = 0;
}

void CpuBackend::next_logits_lanes(const std::int32_t* ids, int streams, float* logits) {
  Pass pass;
  pass.ids = ids;
  pass.steps = 1;
  pass.batch = streams;
  pass.target = Target::every;
  begin_pass(pass, &stream_lanes_);
  pack_weights();
  run_team([&](int thread) {
    encode_input(thread);
    team_.barrier();
    forward(thread);
    const int threads = pass_.partition.threads;
    const std::size_t stride = static_cast<std::size_t>(weights_.vocabulary_padded()) * kLanes;
    for (int block = share_begin(pass_.blocks, threads, thread); block < share_begin(pass_.blocks, threads, thread + 1);
         ++block) {
      // logits_ holds at least one pair a thread.
      float* out = logits_.data() + static_cast<std::size_t>(std::min(thread, output_chunk_ - 1)) * stride;
      const float* input = layer_output(spec_.layers - 1, 0, block);
      weights_.output().multiply(0, 0, spec_.vocabulary, 1, &input, &out, weights_.output_bias(), false);
      for (int s = block * kLanes; s < std::min(streams, (block + 1) * kLanes); ++s)
        for (int v = 0; v < spec_.vocabulary; ++v) {
          logits[static_cast<std::size_t>(s) * spec_.vocabulary + v] = out[v * kLanes + s % kLanes];
        }
    }
  });
  end_pass(stream_lanes_);
}

}  // namespace cudnn_lstm::cpu
