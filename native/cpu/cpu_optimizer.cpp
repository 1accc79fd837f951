// Global norm, clipping and Adam, each over the flat parameter array.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"

namespace cudnn_lstm::cpu {
namespace {

// The norm is summed in pieces of this size whatever the number of threads, so that its bits do not depend on it.
constexpr std::size_t kNormPiece = 8192;

}  // namespace

void CpuBackend::norm_share(int thread, int threads) {
  const std::size_t pieces = norm_parts_.size();
  for (std::size_t piece = pieces * thread / threads; piece < pieces * (thread + 1) / threads; ++piece) {
    const std::size_t begin = piece * kNormPiece;
    norm_parts_[piece] =
        kernels_.sum_of_squares(gradients_.data() + begin, std::min(kNormPiece, layout_.size() - begin));
  }
}

double CpuBackend::gradient_norm() const {
  double total = 0;
  for (double part : norm_parts_) total += part;
  return std::sqrt(total);
}

void CpuBackend::adam_share(int thread, int threads, const OptimizerStep& optimizer, double norm) {
  const double t = static_cast<double>(step_count_ + 1);
  AdamStep step{};
  step.learning_rate = static_cast<float>(optimizer.learning_rate * std::sqrt(1.0 - std::pow(optimizer.beta2, t)) /
                                          (1.0 - std::pow(optimizer.beta1, t)));
  step.beta1 = static_cast<float>(optimizer.beta1);
  step.beta2 = static_cast<float>(optimizer.beta2);
  step.epsilon = static_cast<float>(optimizer.epsilon);
  step.gradient_scale = optimizer.clip > 0 && norm > optimizer.clip ? static_cast<float>(optimizer.clip / norm) : 1.0f;
  const std::size_t begin = layout_.size() * thread / threads / 16 * 16;
  const std::size_t end = thread + 1 == threads ? layout_.size() : layout_.size() * (thread + 1) / threads / 16 * 16;
  kernels_.adam(step, gradients_.data() + begin, first_moments_.data() + begin, second_moments_.data() + begin,
                parameters_.data() + begin, end - begin);
}

}  // namespace cudnn_lstm::cpu
