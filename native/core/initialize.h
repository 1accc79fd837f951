// Initial parameters in the canonical layout, the same on every device.
#pragma once

#include <atomic>

#include "core/layout.h"

namespace cudnn_lstm {

// Keras' defaults for LSTM and Dense, which the reference uses: input kernels Glorot-uniform (Glorot & Bengio 2010)
// with limit sqrt(6 / (in + 4H)), the recurrent kernel [H, 4H] orthogonal as a whole (Saxe et al. 2013), biases zero
// except 1 for the forget gate (Jozefowicz et al. 2015), output Glorot-uniform with limit sqrt(6 / (H + V)), embeddings
// uniform in +-0.05. out: [layout.size()] floats. Returns false if `stop` was set before it finished.
bool initialize(const ModelSpec& spec, const Layout& layout, float* out, const std::atomic<bool>& stop);

// Cannot be stopped.
inline void initialize(const ModelSpec& spec, const Layout& layout, float* out) {
  const std::atomic<bool> never{false};
  initialize(spec, layout, out, never);
}

}  // namespace cudnn_lstm
