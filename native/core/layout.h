// The canonical layout: name, shape and offset of every parameter in one flat float32 array. Checkpoints, the gradients
// that tests compare and every backend's read/write use it, so models can move between devices.
//
// Names and gate order are PyTorch's: lstm.weight_ih_l0 [4H, in], gates i, f, g, o stacked; one bias vector per layer
// (bias_ih).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cudnn_lstm {

// scalar: one feature, id / V (as in the reference). onehot: V features. embedding: a learned [V, E] table.
enum class InputCoding { scalar, onehot, embedding };

// The activation of the gates i, f and o: the logistic function, or a straight line clipped to [0, 1] with slope 0.2
// (Keras before 3, TensorFlow.js) or 1/6 (Keras 3: relu6(x + 3) / 6). The straight lines are for models trained
// elsewhere; cuDNN has neither.
enum class GateActivation { sigmoid, hard_sigmoid, hard_sigmoid_relu6 };

struct ModelSpec {
  int vocabulary;  // V
  int layers;      // L
  int hidden;      // H
  InputCoding coding;
  int embedding;       // E, 0 unless coding is embedding
  float dropout;       // after every layer: between layers and above the top one; 0 <= dropout < 1
  std::uint64_t seed;  // for initialisation and dropout masks
  GateActivation gates = GateActivation::sigmoid;
  // h and c of every layer are set to zero before this symbol is read, in training too, so that what follows is
  // independent of what came before. -1: none. In models of single lines it is the line break; cuDNN cannot do it.
  int reset_symbol = -1;
  int input_size() const {  // features into layer 0
    return coding == InputCoding::scalar ? 1 : coding == InputCoding::onehot ? vocabulary : embedding;
  }
  // Slope of the straight line through (0, 0.5); 0 if there is none.
  float gate_slope() const {
    return gates == GateActivation::sigmoid ? 0.0f : gates == GateActivation::hard_sigmoid ? 0.2f : 1.0f / 6.0f;
  }
};

struct Parameter {
  std::string name;
  std::vector<int> shape;                           // row-major
  std::size_t offset;                               // in floats
  std::size_t size;                                 // in floats
  bool decays() const { return shape.size() > 1; }  // weight decay applies to weights, not to biases
};

// Order: [embedding.weight [V, E]], then for each layer weight_ih [4H, in], weight_hh [4H, H], bias_ih [4H], then
// output.weight [V, H], output.bias [V].
class Layout {
 public:
  explicit Layout(const ModelSpec& spec);
  const std::vector<Parameter>& parameters() const { return parameters_; }
  std::size_t size() const { return size_; }  // in floats
  const Parameter& embedding() const { return parameters_.at(0); }
  const Parameter& weight_ih(int layer) const { return parameters_[first_ + 3 * layer]; }
  const Parameter& weight_hh(int layer) const { return parameters_[first_ + 3 * layer + 1]; }
  const Parameter& bias(int layer) const { return parameters_[first_ + 3 * layer + 2]; }
  const Parameter& output_weight() const { return parameters_[parameters_.size() - 2]; }
  const Parameter& output_bias() const { return parameters_[parameters_.size() - 1]; }

 private:
  std::vector<Parameter> parameters_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace cudnn_lstm
