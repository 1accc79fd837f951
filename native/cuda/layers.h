// The LSTM layers of one plan, forward and backward. There are two forms: all layers in one cuDNN call, which may then
// overlap them; and, with dropout masks between them, one call per layer with the project's own masks, which equal the
// CPU's on every GPU.
//
// T here is the storage type of weights and activations: float, Half or BFloat16.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "cuda/arithmetic.h"
#include "cuda/rank_sum.h"
#include "cuda/rnn.h"

namespace cudnn_lstm::cuda {

using CublasHandle = Owned<cublasHandle_t, cublasStatus_t>;

// The first index at or after `values`, counted from the start of a buffer, whose address is aligned for every cuDNN
// and cuBLAS kernel; they want up to 128 bits.
constexpr std::size_t aligned(std::size_t values) { return (values + 63) / 64 * 64; }

// Where a recurrent state [L, 2, B, H] lies in a buffer: h of all layers, then c of all layers.
struct StateLayout {
  std::size_t layers = 0;
  std::size_t rows = 0;  // B x H
  bool apart = false;    // each layer is a separate tensor, so begins at an aligned index
  std::size_t stride() const { return apart ? aligned(rows) : rows; }
  std::size_t cell() const { return aligned(layers * stride()); }
  std::size_t size() const { return 2 * cell(); }
  // which: 0 for h, 1 for c.
  std::size_t offset(std::size_t which, std::size_t layer) const { return which * cell() + layer * stride(); }
};

// The parameters in this backend's order: cuDNN's weight spaces, then the output weight [V, H], its bias [V] and the
// embedding table [V, E]. Gradients and moments follow the same order; the gaps between the parts are and stay zero.
template <class T>
struct Arena {
  // Where each layer's weight space begins, in a model with masks between its layers; otherwise all layers share one,
  // at 0.
  std::vector<std::size_t> layers;
  std::size_t lstm = 0;  // values before `output`
  std::size_t output = 0;
  std::size_t output_bias = 0;
  std::size_t embedding = 0;
  std::size_t size = 0;
  std::vector<Segment> segments;  // canonical layout <-> this order
  std::vector<Segment> frozen;    // second biases in cuDNN's weight spaces; their gradients are cleared

  DeviceBuffer parameters, gradients, first_moments, second_moments;  // float32 [size]
  DeviceBuffer rounded;                                               // T [size]; unused for float
  DeviceBuffer rounded_gradients;                                     // T [lstm]: cuDNN's gradients; unused for float
  DeviceBuffer bias_spans;                                            // Span [...]: the runs of biases
  DeviceBuffer held;                                                  // Span [segments]: first, what does not change

  // With separate `layers`: a copy of their weights as one space, for passes without masks, and the segments copied
  // (`canonical` is the place in this order, `arena` the place in the copy).
  DeviceBuffer joined;
  std::vector<Segment> joined_segments;

  Spans biases() const { return {bias_spans.as<Span>(), static_cast<int>(bias_spans.bytes() / sizeof(Span))}; }
  // The weights that the matrix products read.
  T* weights() const { return rounded.data() != nullptr ? rounded.as<T>() : reinterpret_cast<T*>(parameters.data()); }
  const T* all_layers() const { return joined.data() != nullptr ? joined.as<T>() : weights(); }
  // Where cuDNN adds its gradients.
  T* lstm_gradients() const {
    return rounded_gradients.data() != nullptr ? rounded_gradients.as<T>() : reinterpret_cast<T*>(gradients.data());
  }
};

// One model's choice: the algorithm requested, and the outcome of Algorithm::automatic, from a trial of the first
// training shape or from an earlier run that this one continues.
struct AlgorithmChoice {
  Algorithm asked = Algorithm::standard;
  std::optional<cudnnRNNAlgo_t> chosen;
};

// Shared by the plans of one model.
template <class T>
struct Context {
  const ModelSpec& spec;
  const Layout& layout;
  Rnn& rnn;
  const Arena<T>& arena;
  cublasHandle_t blas;
  cudaStream_t stream;
  cudaStream_t upload_stream;
  MemoryAccount& account;
  AlgorithmChoice& choice;
  int pieces;                         // CudaOptions::pieces
  std::atomic<bool>& without_graphs;  // set by the plan whose pass cannot be captured
  RankSum* ranks = nullptr;           // for a model that several ranks train
};

struct LayersShape {
  int steps;
  int batch;
  bool training;
  bool masked;                    // masks between the layers
  std::uint32_t first_block = 0;  // Dropout::first_block
};

template <class T>
class Layers {
 public:
  virtual ~Layers() = default;

  // Computes y() [T, B, H] from x [T, B, F]. state: the initial state, laid out by StateLayout, nullptr for zero; next:
  // receives the final state.
  virtual void forward(const T* x, const T* state, T* next) = 0;
  // Computes dx [T, B, F] from dy(), which it may change only below the top layer, and adds the weights' gradients to
  // `gradients`, in the arena's order. x and state as in the preceding forward pass.
  virtual void backward(const T* x, const T* state, T* dx, T* gradients) = 0;

  virtual const T* y() const = 0;              // [T, B, H] of the top layer
  virtual const DeviceBuffer& dy() const = 0;  // its gradient, initially zero; training only
};

// Empty if cuDNN reports that it lacks the algorithm for these layers, or lays out their weights differently from the
// standard one. view: where the masks find their step. Throws Error, kOutOfMemory among others.
template <class T>
std::unique_ptr<Layers<T>> make_layers(const Context<T>& context, const LayersShape& shape, const StepView& view,
                                       cudnnRNNAlgo_t algorithm);

inline StateLayout state_layout_of(const ModelSpec& spec, int batch, bool masked) {
  return {static_cast<std::size_t>(spec.layers), static_cast<std::size_t>(batch) * spec.hidden,
          masked && spec.layers > 1};
}

}  // namespace cudnn_lstm::cuda
