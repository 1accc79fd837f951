// Which of cuDNN's algorithms a training shape runs with. The persistent ones are faster where they apply, have
// conditions that no query tells, and have been wrong on GPUs with few multiprocessors; so each is tried, compared and
// timed, never assumed.
#include <algorithm>
#include <cmath>

#include "cuda/graph.h"
#include "cuda/plan.h"

namespace cudnn_lstm::cuda {
namespace {

constexpr int kTimedPasses = 5;
// A candidate must beat the standard algorithm by this much: noise must not change the choice, and with it the bits,
// from one run to the next.
constexpr double kClearlyFaster = 0.85;

// Forward, gradient and weights of one shape on inputs of its own, without dropout, whose masks depend on the
// algorithm.
class Trial {
 public:
  Trial(const Rnn& rnn, const Layout& layout, const void* weights, int steps, int batch, cudaStream_t stream)
      : rnn_(rnn), layout_(layout), weights_(weights), steps_(steps), batch_(batch), stream_(stream) {
    const std::size_t positions = static_cast<std::size_t>(steps) * batch;
    const std::size_t bytes = rnn.numerics().bytes;
    standard_ = rnn.make_descriptor(CUDNN_RNN_ALGO_STANDARD, false);
    gradient_bytes_ = rnn.weight_elements(standard_.get()) * bytes;
    x_ = DeviceBuffer(account_, positions * rnn.spec().input_size() * bytes, "timing cuDNN's algorithms");
    dx_ = DeviceBuffer(account_, x_.bytes(), "timing cuDNN's algorithms");
    y_ = DeviceBuffer(account_, positions * rnn.spec().hidden * bytes, "timing cuDNN's algorithms");
    dy_ = DeviceBuffer(account_, y_.bytes(), "timing cuDNN's algorithms");
    gradients_ = DeviceBuffer(account_, gradient_bytes_, "timing cuDNN's algorithms");
    // Every byte 0x3c is about 0.0115 in float32 and bfloat16 and 1.06 in half precision: harmless numbers in each
    // type.
    CHECK_CUDA(cudaMemsetAsync(x_.data(), 0x3c, x_.bytes(), stream));
    CHECK_CUDA(cudaMemsetAsync(dy_.data(), 0x3c, dy_.bytes(), stream));
  }

  struct Outcome {
    double milliseconds = 0;
    std::vector<char> y;
    std::vector<char> gradients;
  };

  // Throws Error where cuDNN refuses the algorithm.
  Outcome run(cudnnRNNAlgo_t algorithm) {
    RnnDescriptor descriptor = rnn_.make_descriptor(algorithm, false);
    if (!descriptor) throw Error(kDeviceFailed, "not supported");
    if (!same_layout(descriptor.get())) throw Error(kDeviceFailed, "another weight layout");
    const RnnPass pass(rnn_, algorithm, std::move(descriptor), steps_, batch_, true, account_);
    once(pass);
    Outcome outcome;
    outcome.y = fetch(y_);
    outcome.gradients = fetch(gradients_);
    // Timed as it will run: queued one by one, the many small kernels of the standard algorithm would cost the host's
    // launches, and a persistent one would seem faster than it is.
    const GraphExec graph = capture_graph(stream_, [&] { once(pass); });
    const Event before = make_event(true), after = make_event(true);
    outcome.milliseconds = INFINITY;
    for (int i = 0; i < kTimedPasses; ++i) {
      CHECK_CUDA(cudaEventRecord(before.get(), stream_));
      if (graph) {
        CHECK_CUDA(cudaGraphLaunch(graph.get(), stream_));
      } else {
        once(pass);
      }
      CHECK_CUDA(cudaEventRecord(after.get(), stream_));
      CHECK_CUDA(cudaEventSynchronize(after.get()));
      float milliseconds = 0;
      CHECK_CUDA(cudaEventElapsedTime(&milliseconds, before.get(), after.get()));
      outcome.milliseconds = std::fmin(outcome.milliseconds, static_cast<double>(milliseconds));
    }
    return outcome;
  }

  double difference(const std::vector<char>& a, const std::vector<char>& b) const {
    switch (rnn_.numerics().type) {
      case CUDNN_DATA_HALF:
        return relative_difference<Half>(a, b);
      case CUDNN_DATA_BFLOAT16:
        return relative_difference<BFloat16>(a, b);
      default:
        return relative_difference<float>(a, b);
    }
  }

 private:
  void once(const RnnPass& pass) const {
    CHECK_CUDA(cudaMemsetAsync(gradients_.data(), 0, gradients_.bytes(), stream_));
    pass.forward(weights_, x_.data(), y_.data(), nullptr, nullptr, nullptr, nullptr);
    pass.backward_data(weights_, y_.data(), dy_.data(), dx_.data(), nullptr, nullptr);
    pass.backward_weights(x_.data(), nullptr, y_.data(), gradients_.data());
  }

  // All plans of a model share one weight space, so the algorithm must lay it out as the standard one does.
  bool same_layout(cudnnRNNDescriptor_t descriptor) const {
    if (rnn_.weight_elements(descriptor) != rnn_.weight_elements(standard_.get())) return false;
    const WeightMap expected = rnn_.weight_map(standard_.get(), layout_, weights_);
    const WeightMap found = rnn_.weight_map(descriptor, layout_, weights_);
    return same_segments(expected.parameters, found.parameters) && same_segments(expected.frozen, found.frozen);
  }

  static bool same_segments(const std::vector<Segment>& a, const std::vector<Segment>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Segment& left, const Segment& right) {
      return left.arena == right.arena && left.size == right.size;
    });
  }

  std::vector<char> fetch(const DeviceBuffer& buffer) const {
    std::vector<char> bytes(buffer.bytes());
    CHECK_CUDA(cudaMemcpyAsync(bytes.data(), buffer.data(), bytes.size(), cudaMemcpyDeviceToHost, stream_));
    CHECK_CUDA(cudaStreamSynchronize(stream_));
    return bytes;
  }

  template <class T>
  static double relative_difference(const std::vector<char>& a, const std::vector<char>& b) {
    double worst = 0, largest = 0;
    const T* left = reinterpret_cast<const T*>(a.data());
    const T* right = reinterpret_cast<const T*>(b.data());
    for (std::size_t i = 0; i < a.size() / sizeof(T); ++i) {
      const double l = to_float(left[i]), r = to_float(right[i]);
      if (!std::isfinite(l - r)) return INFINITY;
      worst = std::fmax(worst, std::fabs(l - r));
      largest = std::fmax(largest, std::fabs(l));
    }
    return largest > 0 ? worst / largest : worst;
  }

  const Rnn& rnn_;
  const Layout& layout_;
  const void* weights_;
  const int steps_, batch_;
  const cudaStream_t stream_;
  MemoryAccount account_;  // of the trial alone: freed before the run begins
  RnnDescriptor standard_;
  std::size_t gradient_bytes_ = 0;
  DeviceBuffer x_, dx_, y_, dy_, gradients_;
};

double tolerance(cudnnDataType_t type) { return type == CUDNN_DATA_FLOAT ? 1e-2 : 5e-2; }

}  // namespace

cudnnRNNAlgo_t choose_algorithm(const Rnn& rnn, const Layout& layout, const void* weights, int steps, int batch,
                                cudaStream_t stream, Algorithm asked) {
  if (asked == Algorithm::standard) return CUDNN_RNN_ALGO_STANDARD;
  std::vector<cudnnRNNAlgo_t> candidates;
  if (asked != Algorithm::persist_dynamic) candidates.push_back(CUDNN_RNN_ALGO_PERSIST_STATIC);
  if (asked == Algorithm::automatic && rnn.spec().hidden <= 192)
    candidates.push_back(CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H);
  // Without NVRTC it is not even asked for: cuDNN ends the process where it does not find a part that it wants.
  if (asked != Algorithm::persist_static && rnn.libraries().nvrtc) candidates.push_back(CUDNN_RNN_ALGO_PERSIST_DYNAMIC);

  cudnnRNNAlgo_t best = CUDNN_RNN_ALGO_STANDARD;
  try {
    Trial trial(rnn, layout, weights, steps, batch, stream);
    const Trial::Outcome standard = trial.run(CUDNN_RNN_ALGO_STANDARD);
    double fastest = asked == Algorithm::automatic ? kClearlyFaster * standard.milliseconds : INFINITY;
    for (const cudnnRNNAlgo_t algorithm : candidates) {
      try {
        const Trial::Outcome outcome = trial.run(algorithm);
        const double limit = tolerance(rnn.numerics().type);
        if (trial.difference(standard.y, outcome.y) > limit ||
            trial.difference(standard.gradients, outcome.gradients) > limit) {
          continue;
        }
        if (outcome.milliseconds < fastest) {
          fastest = outcome.milliseconds;
          best = algorithm;
        }
      } catch (const Error&) {
        // Not for this shape or GPU. An error that broke the context shows here and is the caller's to see.
        CHECK_CUDA(cudaStreamSynchronize(stream));
      }
    }
  } catch (const Error& error) {
    // No memory for a trial beside the model: the standard algorithm needs none.
    if (error.code() != kOutOfMemory) throw;
  }
  return best;
}

}  // namespace cudnn_lstm::cuda
