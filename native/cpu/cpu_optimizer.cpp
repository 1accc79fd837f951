// Global norm, clipping and the update, each over the flat parameter array.
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
  for (std::size_t piece = pieces * thread / threads; piece < pieces * (thread + 1) / threads && !stopped(); ++piece) {
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

void CpuBackend::make_slots(Optimizer optimizer) {
  with_rule(optimizer, [&](auto rule) {
    if (rule.kFirst) first_moments_.resize(layout_.size());
    if (rule.kSecond) second_moments_.resize(layout_.size());
  });
}

void CpuBackend::update_share(int thread, int threads, const OptimizerStep& optimizer, double norm) {
  const UpdateConstants constants = update_constants(optimizer, static_cast<double>(step_count_ + 1));
  const float scale = optimizer.clip > 0 && norm > optimizer.clip ? static_cast<float>(optimizer.clip / norm) : 1.0f;
  const std::size_t begin = layout_.size() * thread / threads / 16 * 16;
  const std::size_t end = thread + 1 == threads ? layout_.size() : layout_.size() * (thread + 1) / threads / 16 * 16;
  if (constants.keep != 1.0f) {
    for (const Parameter& parameter : layout_.parameters()) {
      if (!parameter.decays()) continue;
      const std::size_t last = std::min(end, parameter.offset + parameter.size);
      for (std::size_t i = std::max(begin, parameter.offset); i < last; ++i) parameters_[i] *= constants.keep;
    }
  }
  const auto part = [&](AlignedBuffer<float>& slot) { return slot.size() > 0 ? slot.data() + begin : nullptr; };
  kernels_.update(constants, scale, gradients_.data() + begin, part(first_moments_), part(second_moments_),
                  parameters_.data() + begin, end - begin);
}

}  // namespace cudnn_lstm::cpu
