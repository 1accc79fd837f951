#include "core/layout.h"

namespace cudnn_lstm {

Layout::Layout(const ModelSpec& spec) {
  const int gates = 4 * spec.hidden;
  auto add = [this](std::string name, std::vector<int> shape) {
    std::size_t size = 1;
    for (int extent : shape) size *= static_cast<std::size_t>(extent);
    parameters_.push_back({std::move(name), std::move(shape), size_, size});
    size_ += size;
  };
  if (spec.coding == InputCoding::embedding) add("embedding.weight", {spec.vocabulary, spec.embedding});
  first_ = parameters_.size();
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::string suffix = "_l" + std::to_string(layer);
    add("lstm.weight_ih" + suffix, {gates, layer == 0 ? spec.input_size() : spec.hidden});
    add("lstm.weight_hh" + suffix, {gates, spec.hidden});
    add("lstm.bias_ih" + suffix, {gates});
  }
  add("output.weight", {spec.vocabulary, spec.hidden});
  add("output.bias", {spec.vocabulary});
}

}  // namespace cudnn_lstm
