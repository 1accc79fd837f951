#include "cuda/algorithm_choice.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda/graph.h"
#include "cuda/kernels.h"

namespace cudnn_lstm::cuda {
namespace {

constexpr int kTimedPasses = 5;
// A candidate must beat the standard algorithm by this factor, so that noise does not change the choice, and with it
// the bits, from run to run.
constexpr double kClearlyFaster = 0.85;

// float32 products in fp32 are fused multiply-adds: an algorithm that rounds to TF32 inside differs by more.
double tolerance(const Numerics& numerics) {
  if (numerics.type != CUDNN_DATA_FLOAT) return 5e-2;
  return numerics.math == CUDNN_FMA_MATH ? 1e-4 : 1e-2;
}

template <class T>
using Tensors = std::vector<std::vector<T>>;

// The largest difference in any tensor, relative to that tensor's largest value; infinite if a value is not finite or
// the tensors do not match.
template <class T>
double relative_difference(const Tensors<T>& a, const Tensors<T>& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0;
  for (std::size_t tensor = 0; tensor < a.size(); ++tensor) {
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < a[tensor].size(); ++i) {
      const double left = to_float(a[tensor][i]), right = to_float(b[tensor][i]);
      if (!std::isfinite(left - right)) return INFINITY;
      worst = std::fmax(worst, std::fabs(left - right));
      largest = std::fmax(largest, std::fabs(left));
    }
    most = std::fmax(most, largest > 0 ? worst / largest : worst);
  }
  return most;
}

// Runs forward, gradient and weight passes of one shape on synthetic inputs.
template <class T>
class Trial {
 public:
  Trial(const Context<T>& context, const LayersShape& shape, const StepView& view, bool carry)
      : context_(context), shape_(shape), view_(view) {
    const ModelSpec& spec = context.spec;
    const std::size_t positions = static_cast<std::size_t>(shape.steps) * shape.batch;
    const auto buffer = [&](std::size_t values) {
      DeviceBuffer made(account_, values * sizeof(T), "comparing cuDNN's algorithms");
      CHECK_CUDA(cudaMemsetAsync(made.data(), 0, made.bytes(), context.stream));
      return made;
    };
    x_ = buffer(positions * spec.input_size());
    dx_ = buffer(positions * spec.input_size());
    dy_ = buffer(positions * spec.hidden);
    gradients_ = buffer(context.arena.lstm);
    const StateLayout state = state_layout_of(spec, shape.batch, shape.masked);
    if (carry) state_ = buffer(state.size());
    next_ = buffer(state.size());
    fill(x_, shape.steps, shape.batch, spec.input_size());
    fill(dy_, shape.steps, shape.batch, spec.hidden, kGradientByte);
    if (carry) fill(state_, 1, 8, static_cast<int>(state.size() / 8));
  }

  struct Outcome {
    std::unique_ptr<Layers<T>> layers;  // empty if cuDNN lacks the algorithm
    Tensors<T> eager, replayed;         // y, the state, dx and the weights' gradients; `replayed` empty without a graph
    double milliseconds = INFINITY;     // of the fastest replay
  };

  // passes: number of replays, of which the fastest counts. Throws Error if cuDNN refuses a call.
  Outcome run(cudnnRNNAlgo_t algorithm, int passes) {
    Outcome outcome;
    outcome.layers = make_layers(context_, shape_, view_, algorithm);
    if (!outcome.layers) return outcome;
    Layers<T>& layers = *outcome.layers;
    CHECK_CUDA(cudaMemcpyAsync(layers.dy().data(), dy_.data(), dy_.bytes(), cudaMemcpyDeviceToDevice, context_.stream));
    once(layers);
    outcome.eager = results(layers);
    // Time the graph, since that is what training runs. Queued one by one, the standard algorithm's many small kernels
    // would pay for their launches, and a persistent algorithm would seem faster than it is.
    const GraphExec graph = capture_graph(context_.stream, [&] { once(layers); });
    if (graph) {
      const Event before = make_event(true), after = make_event(true);
      for (int i = 0; i < passes; ++i) {
        CHECK_CUDA(cudaEventRecord(before.get(), context_.stream));
        CHECK_CUDA(cudaGraphLaunch(graph.get(), context_.stream));
        CHECK_CUDA(cudaEventRecord(after.get(), context_.stream));
        CHECK_CUDA(cudaEventSynchronize(after.get()));
        float milliseconds = 0;
        CHECK_CUDA(cudaEventElapsedTime(&milliseconds, before.get(), after.get()));
        outcome.milliseconds = std::fmin(outcome.milliseconds, static_cast<double>(milliseconds));
      }
      outcome.replayed = results(layers);
    }
    // The plan expects dy to be zero.
    CHECK_CUDA(cudaMemsetAsync(layers.dy().data(), 0, layers.dy().bytes(), context_.stream));
    CHECK_CUDA(cudaStreamSynchronize(context_.stream));
    return outcome;
  }

 private:
  // Bytes of 0x3c make about 0.0115 in float32 and bfloat16 and 1.06 in half precision, where the weights' gradients,
  // sums over all positions, would overflow in a large batch and no algorithm would pass. 0x1c makes 0.004.
  static constexpr int kValueByte = 0x3c, kGradientByte = std::is_same_v<T, Half> ? 0x1c : kValueByte;

  // Small harmless numbers, half of them zeroed by a mask, so that no two places hold the same by design.
  void fill(const DeviceBuffer& buffer, int ticks, int batch, int width, int byte = kValueByte) {
    CHECK_CUDA(cudaMemsetAsync(buffer.data(), byte, buffer.bytes(), context_.stream));
    for_each_element(context_.stream, static_cast<std::size_t>(ticks) * ((batch + 7) / 8) * width,
                     Dropout<T>{view_, buffer.as<T>(), buffer.as<T>(), batch, width, 0, filled_++,
                                dropout_threshold(0.5f), context_.spec.seed});
  }

  void once(Layers<T>& layers) const {
    const T* state = state_.data() != nullptr ? state_.template as<T>() : nullptr;
    CHECK_CUDA(cudaMemsetAsync(gradients_.data(), 0, gradients_.bytes(), context_.stream));
    layers.forward(x_.template as<T>(), state, next_.template as<T>());
    layers.backward(x_.template as<T>(), state, dx_.template as<T>(), gradients_.template as<T>());
  }

  Tensors<T> results(const Layers<T>& layers) const {
    Tensors<T> all;
    const auto fetch = [&](const void* data, std::size_t bytes) {
      all.emplace_back(bytes / sizeof(T));
      CHECK_CUDA(cudaMemcpyAsync(all.back().data(), data, bytes, cudaMemcpyDeviceToHost, context_.stream));
      CHECK_CUDA(cudaStreamSynchronize(context_.stream));
    };
    fetch(layers.y(), dy_.bytes());
    for (const DeviceBuffer* buffer : {&next_, &dx_, &gradients_}) fetch(buffer->data(), buffer->bytes());
    return all;
  }

  const Context<T>& context_;
  const LayersShape shape_;
  const StepView view_;
  MemoryAccount account_;  // the trial's only: freed before the run begins
  DeviceBuffer x_, dx_, dy_, gradients_, state_, next_;
  std::uint32_t filled_ = 0;
};

// In the order they are tried.
std::vector<cudnnRNNAlgo_t> candidates_for(const Rnn& rnn, const AlgorithmChoice& choice) {
  std::vector<cudnnRNNAlgo_t> candidates;
  const auto add = [&](cudnnRNNAlgo_t algorithm) {
    // Not even requested without NVRTC: cuDNN ends the process if it cannot find a part that it needs.
    if (algorithm == CUDNN_RNN_ALGO_PERSIST_DYNAMIC && !rnn.libraries().nvrtc) return;
    if (algorithm != CUDNN_RNN_ALGO_STANDARD) candidates.push_back(algorithm);
  };
  if (choice.chosen) {
    add(*choice.chosen);
  } else if (choice.asked == Algorithm::automatic) {
    add(CUDNN_RNN_ALGO_PERSIST_STATIC);
    if (rnn.spec().hidden <= 192) add(CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H);
    add(CUDNN_RNN_ALGO_PERSIST_DYNAMIC);
  } else {
    add(cudnn_algorithm(choice.asked));
  }
  return candidates;
}

// The chosen candidate's layers; empty for the standard algorithm.
template <class T>
std::unique_ptr<Layers<T>> best_of(const std::vector<cudnnRNNAlgo_t>& candidates, const Context<T>& context,
                                   const LayersShape& shape, const StepView& view, bool carry, bool timed,
                                   cudnnRNNAlgo_t& algorithm) {
  Trial<T> trial(context, shape, view, carry);
  const int passes = timed ? kTimedPasses : 1;
  auto standard = trial.run(CUDNN_RNN_ALGO_STANDARD, passes);
  standard.layers.reset();
  const bool graphs = !standard.replayed.empty();
  const Tensors<T>& expected = graphs ? standard.replayed : standard.eager;
  const double limit = tolerance(context.rnn.numerics());
  double fastest = timed ? kClearlyFaster * standard.milliseconds : INFINITY;
  std::unique_ptr<Layers<T>> best;
  for (const cudnnRNNAlgo_t candidate : candidates) {
    try {
      auto outcome = trial.run(candidate, passes);
      if (!outcome.layers) continue;
      // A candidate that cannot be recorded would make the whole plan run call by call.
      if (graphs && outcome.replayed.empty()) continue;
      if (relative_difference(expected, outcome.eager) > limit) continue;
      if (graphs && relative_difference(expected, outcome.replayed) > limit) continue;
      if (timed && !(outcome.milliseconds < fastest)) continue;
      fastest = outcome.milliseconds;
      best = std::move(outcome.layers);
      algorithm = candidate;
    } catch (const Error& error) {
      // Unsupported for this shape or GPU, or no memory for it next to the best so far. If the error broke the context,
      // this fails too, and the caller sees it.
      CHECK_CUDA(cudaStreamSynchronize(context.stream));
    }
  }
  return best;
}

}  // namespace

template <class T>
std::unique_ptr<Layers<T>> choose_layers(const Context<T>& context, const LayersShape& shape, const StepView& view,
                                         bool carry, cudnnRNNAlgo_t& algorithm) {
  algorithm = CUDNN_RNN_ALGO_STANDARD;
  AlgorithmChoice& choice = context.choice;
  const bool timed = choice.asked == Algorithm::automatic && !choice.chosen;
  const std::vector<cudnnRNNAlgo_t> candidates = candidates_for(context.rnn, choice);
  std::unique_ptr<Layers<T>> layers;
  if (!candidates.empty()) {
    try {
      layers = best_of(candidates, context, shape, view, carry, timed, algorithm);
    } catch (const Error& error) {
      // No memory for a trial next to the model: the standard algorithm needs none.
      if (error.code() != kOutOfMemory) throw;
    }
  }
  if (!layers) {
    algorithm = CUDNN_RNN_ALGO_STANDARD;
    layers = make_layers(context, shape, view, algorithm);
  }
  if (timed) choice.chosen = algorithm;
  return layers;
}

template std::unique_ptr<Layers<float>> choose_layers(const Context<float>&, const LayersShape&, const StepView&, bool,
                                                      cudnnRNNAlgo_t&);
template std::unique_ptr<Layers<Half>> choose_layers(const Context<Half>&, const LayersShape&, const StepView&, bool,
                                                     cudnnRNNAlgo_t&);
template std::unique_ptr<Layers<BFloat16>> choose_layers(const Context<BFloat16>&, const LayersShape&, const StepView&,
                                                         bool, cudnnRNNAlgo_t&);

}  // namespace cudnn_lstm::cuda
