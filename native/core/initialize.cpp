#include "core/initialize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/random.h"

namespace cudnn_lstm {
namespace {

// A stream of uniform numbers for one parameter: counter (index, 0, parameter, site), key seed.
class Stream {
 public:
  Stream(std::uint64_t seed, std::uint32_t parameter) : key_(philox_key(seed)), parameter_(parameter) {}

  // In (0, 1), excluding both ends, so that its logarithm is finite.
  double uniform() {
    if (used_ == 4) {
      words_ = philox4x32({index_++, 0, parameter_, static_cast<std::uint32_t>(RandomSite::initialization)}, key_);
      used_ = 0;
    }
    return (words_[used_++] + 0.5) / 4294967296.0;
  }

  // Box & Muller 1958.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }

 private:
  PhiloxKey key_;
  std::uint32_t parameter_;
  std::uint32_t index_ = 0;
  PhiloxWords words_{};
  int used_ = 4;
};

using StopFlag = std::atomic<bool>;

bool stopped(const StopFlag& stop) { return stop.load(std::memory_order_relaxed); }

constexpr std::size_t kPiece = std::size_t{1} << 16;  // values written between checks of the stop flag

void fill(float value, float* out, std::size_t count, const StopFlag& stop) {
  for (std::size_t i = 0; i < count && !stopped(stop); i += kPiece)
    std::fill_n(out + i, std::min(kPiece, count - i), value);
}

void fill_uniform(Stream stream, double limit, float* out, std::size_t count, const StopFlag& stop) {
  for (std::size_t i = 0; i < count; ++i) {
    if (i % kPiece == 0 && stopped(stop)) return;
    out[i] = static_cast<float>(limit * (2.0 * stream.uniform() - 1.0));
  }
}

// Fills weight [rows, columns], rows >= columns, with orthonormal columns: Gram-Schmidt over normal columns, twice for
// accuracy to rounding; the positive diagonal of R makes the result Haar-distributed, as Keras' sign correction does.
void fill_orthogonal(Stream stream, float* weight, int rows, int columns, const StopFlag& stop) {
  std::vector<std::vector<double>> basis;
  basis.reserve(columns);
  while (static_cast<int>(basis.size()) < columns) {
    std::vector<double> column(rows);
    for (double& value : column) value = stream.normal();
    for (int pass = 0; pass < 2; ++pass) {
      for (const auto& other : basis) {
        if (stopped(stop)) return;
        double dot = 0;
        for (int r = 0; r < rows; ++r) dot += column[r] * other[r];
        for (int r = 0; r < rows; ++r) column[r] -= dot * other[r];
      }
    }
    double norm = 0;
    for (double value : column) norm += value * value;
    norm = std::sqrt(norm);
    if (norm < 1e-8) continue;  // in the span of the others: draw again
    for (double& value : column) value /= norm;
    basis.push_back(std::move(column));
  }
  for (int r = 0; r < rows && !stopped(stop); ++r)
    for (int c = 0; c < columns; ++c)
      weight[static_cast<std::size_t>(r) * columns + c] = static_cast<float>(basis[c][r]);
}

}  // namespace

bool initialize(const ModelSpec& spec, const Layout& layout, float* out, const StopFlag& stop) {
  fill(0, out, layout.size(), stop);
  std::uint32_t index = 0;
  auto stream = [&] { return Stream(spec.seed, index++); };
  const int hidden = spec.hidden;
  if (spec.coding == InputCoding::embedding) {
    fill_uniform(stream(), 0.05, out + layout.embedding().offset, layout.embedding().size, stop);
  }
  for (int layer = 0; layer < spec.layers; ++layer) {
    const Parameter& input = layout.weight_ih(layer);
    fill_uniform(stream(), std::sqrt(6.0 / (input.shape[1] + 4.0 * hidden)), out + input.offset, input.size, stop);
    fill_orthogonal(stream(), out + layout.weight_hh(layer).offset, 4 * hidden, hidden, stop);
    float* bias = out + layout.bias(layer).offset;
    std::fill(bias + hidden, bias + 2 * hidden, 1.0f);
  }
  fill_uniform(stream(), std::sqrt(6.0 / (hidden + static_cast<double>(spec.vocabulary))),
               out + layout.output_weight().offset, layout.output_weight().size, stop);
  return !stopped(stop);
}

}  // namespace cudnn_lstm
