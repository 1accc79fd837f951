// Global norm, clipping and the update, each over the flat parameter array.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"

namespace cudnn_lstm::cpu {
namespace {

// The norm is summed in pieces of this size whatever the number of threads, so its bits do not depend on that number.
constexpr std::size_t kNormPiece = 8192;

// Parameters updated between two looks at the stop flag.
constexpr std::size_t kUpdatePiece = std::size_t{1} << 16;

}  // namespace

std::size_t CpuBackend::norm_pieces() const { return (layout_.size() + kNormPiece - 1) / kNormPiece; }

void CpuBackend::norm_share(int thread, int threads, std::size_t frozen) {
  const std::size_t pieces = norm_parts_.size();
  for (std::size_t piece = pieces * thread / threads; piece < pieces * (thread + 1) / threads && !stopped(); ++piece) {
    const std::size_t end = std::min((piece + 1) * kNormPiece, layout_.size());
    const std::size_t begin = std::min(end, std::max(piece * kNormPiece, frozen));
    norm_parts_[piece] = kernels_.sum_of_squares(gradients_.data() + begin, end - begin);
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

void CpuBackend::begin_update(const OptimizerStep& optimizer, double norm) {
  update_.constants = update_constants(optimizer, static_cast<double>(step_count_ + 1));
  update_.scale = optimizer.clip > 0 && norm > optimizer.clip ? static_cast<float>(optimizer.clip / norm) : 1.0f;
  update_.frozen = optimizer.frozen;
  update_.done.assign((layout_.size() + kUpdatePiece - 1) / kUpdatePiece, 0);
}

void CpuBackend::update_share(int thread, int threads) {
  const std::size_t pieces = update_.done.size();
  const std::size_t end = pieces * (thread + 1) / threads;
  for (std::size_t piece = pieces * thread / threads; piece < end && !stopped(); ++piece) update_piece(piece);
}

bool CpuBackend::finish_update() {
  if (update_.done.empty()) return true;
  team_.run(team_.size(), [&](int thread) {
    resumed();
    update_share(thread, team_.size());
  });
  if (gave_up()) return false;
  update_.done.clear();
  return true;
}

void CpuBackend::finish_update(std::size_t offset, std::size_t count) const {
  if (update_.done.empty() || count == 0) return;
  for (std::size_t piece = offset / kUpdatePiece; piece <= (offset + count - 1) / kUpdatePiece; ++piece) {
    update_piece(piece);
  }
}

void CpuBackend::update_piece(std::size_t piece) const {
  if (update_.done[piece] != 0) return;
  const UpdateConstants& constants = update_.constants;
  const std::size_t end = std::min((piece + 1) * kUpdatePiece, layout_.size());
  const std::size_t begin = std::min(end, std::max(piece * kUpdatePiece, update_.frozen));
  float* const parameters = parameters_.data();
  if (constants.keep != 1.0f) {
    for (const Parameter& parameter : layout_.parameters()) {
      if (!parameter.decays()) continue;
      const std::size_t last = std::min(end, parameter.offset + parameter.size);
      for (std::size_t i = std::max(begin, parameter.offset); i < last; ++i) parameters[i] *= constants.keep;
    }
  }
  const auto part = [&](AlignedBuffer<float>& slot) { return slot.size() > 0 ? slot.data() + begin : nullptr; };
  kernels_.update(constants, update_.scale, gradients_.data() + begin, part(first_moments_), part(second_moments_),
                  parameters + begin, end - begin);
  update_.done[piece] = 1;
}

}  // namespace cudnn_lstm::cpu
