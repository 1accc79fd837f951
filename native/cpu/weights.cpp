#include "cpu/weights.h"

namespace cudnn_lstm::cpu {
namespace {

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

std::vector<int> times_four(std::vector<int> ends) {
  for (int& end : ends) end *= 4;
  return ends;
}

// source row of output row r: interleaved gates if hidden > 0.
void pack_panels(const float* source, int rows, int depth, int hidden, AlignedBuffer<float>& out) {
  constexpr int kPanel = 64;
  out.resize(static_cast<std::size_t>(round_up(rows, kPanel)) * depth);
  for (int r = 0; r < rows; ++r) {
    const int from = hidden > 0 ? (r % 4) * hidden + r / 4 : r;
    const float* row = source + static_cast<std::size_t>(from) * depth;
    float* to = out.data() + static_cast<std::size_t>(r / kPanel) * kPanel * depth + r % kPanel;
    for (int k = 0; k < depth; ++k) to[static_cast<std::size_t>(k) * kPanel] = row[k];
  }
}

}  // namespace

Weights::Weights(const ModelSpec& spec, const Layout& layout, const KernelTable& kernels)
    : spec_(spec),
      layout_(layout),
      kernels_(kernels),
      gate_rows_padded_(round_up(4 * spec.hidden, 64)),
      vocabulary_padded_(round_up(spec.vocabulary, 64)),
      layers_(spec.layers) {
  for (LayerWeights& layer : layers_) layer.bias.resize(gate_rows_padded_);
  if (spec.coding == InputCoding::onehot) {
    layers_[0].table.resize(static_cast<std::size_t>(spec.vocabulary) * gate_rows_padded_);
  }
  output_bias_.resize(vocabulary_padded_);
}

bool Weights::shape(const Partition& partition) {
  if (shaped_for_ == partition.unit_ends) return false;
  const int hidden = spec_.hidden;
  const std::vector<int>& units = partition.unit_ends;
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    const int in = l == 0 ? spec_.input_size() : hidden;
    if (l > 0 || spec_.coding != InputCoding::onehot) layer.input.shape(kernels_, 4 * hidden, in, times_four(units));
    layer.recurrent.shape(kernels_, 4 * hidden, hidden, times_four(units));
    layer.recurrent_back.shape(kernels_, hidden, 4 * hidden, units);
    if (l > 0) layer.input_back.shape(kernels_, in, 4 * hidden, units);
    if (l == 0 && spec_.coding == InputCoding::embedding) {
      layer.input_back.shape(kernels_, in, 4 * hidden, split_by_sixteen(in, static_cast<int>(units.size())));
    }
  }
  output_.shape(kernels_, spec_.vocabulary, hidden, {spec_.vocabulary});
  output_back_.shape(kernels_, hidden, spec_.vocabulary, {hidden});
  shaped_for_ = units;
  return true;
}

void Weights::pack(const float* parameters, int part, int parts) {
  const int hidden = spec_.hidden;
  const std::size_t h = hidden;
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    const std::size_t in = l == 0 ? spec_.input_size() : hidden;
    const float* input = parameters + layout_.weight_ih(l).offset;
    const float* recurrent = parameters + layout_.weight_hh(l).offset;
    const float* bias = parameters + layout_.bias(l).offset;
    layer.recurrent.pack({recurrent, h, 1, hidden, 0}, part, parts);
    layer.recurrent_back.pack({recurrent, 1, h, 0, hidden}, part, parts);
    if (layer.input.rows() > 0) layer.input.pack({input, in, 1, hidden, 0}, part, parts);
    if (layer.input_back.rows() > 0) layer.input_back.pack({input, 1, in, 0, hidden}, part, parts);
    if (part == 0) {
      for (int r = 0; r < 4 * hidden; ++r) layer.bias[r] = bias[(r % 4) * h + r / 4];
    }
    if (layer.table.size() > 0) {
      const int begin = share_begin(hidden, parts, part), end = share_begin(hidden, parts, part + 1);
      for (int id = 0; id < spec_.vocabulary; ++id) {
        float* row = layer.table.data() + static_cast<std::size_t>(id) * gate_rows_padded_;
        for (int u = begin; u < end; ++u)
          for (int g = 0; g < 4; ++g) row[4 * u + g] = bias[g * h + u] + input[(g * h + u) * in + id];
      }
    }
  }
  const float* output = parameters + layout_.output_weight().offset;
  output_.pack({output, h, 1, 0, 0}, part, parts);
  output_back_.pack({output, 1, h, 0, 0}, part, parts);
  if (part == 0) {
    const float* bias = parameters + layout_.output_bias().offset;
    for (int v = 0; v < spec_.vocabulary; ++v) output_bias_[v] = bias[v];
  }
}

void Weights::pack_single(const float* parameters) {
  if (single_.fresh) return;
  single_.input.resize(spec_.layers);
  single_.recurrent.resize(spec_.layers);
  const int hidden = spec_.hidden;
  for (int l = 0; l < spec_.layers; ++l) {
    const int in = l == 0 ? spec_.input_size() : hidden;
    if (layers_[l].table.size() == 0) {
      pack_panels(parameters + layout_.weight_ih(l).offset, 4 * hidden, in, hidden, single_.input[l]);
    }
    pack_panels(parameters + layout_.weight_hh(l).offset, 4 * hidden, hidden, hidden, single_.recurrent[l]);
  }
  pack_panels(parameters + layout_.output_weight().offset, spec_.vocabulary, hidden, 0, single_.output);
  single_.fresh = true;
}

std::size_t Weights::bytes() const {
  std::size_t total = output_.bytes() + output_back_.bytes() + output_bias_.bytes() + single_.output.bytes();
  for (const LayerWeights& layer : layers_) {
    total += layer.input.bytes() + layer.recurrent.bytes() + layer.input_back.bytes() + layer.recurrent_back.bytes() +
             layer.bias.bytes() + layer.table.bytes();
  }
  for (const auto& buffer : single_.input) total += buffer.bytes();
  for (const auto& buffer : single_.recurrent) total += buffer.bytes();
  return total;
}

}  // namespace cudnn_lstm::cpu
