#include "cpu/weights.h"

#include <algorithm>

namespace cudnn_lstm::cpu {
namespace {

// A matrix that is given up goes in this many steps, so that little of it is there twice.
constexpr int kMoves = 16;

// Parameters that one thread packs between two looks at the stop flag: about a millisecond.
constexpr std::size_t kPackedBetweenLooks = std::size_t{1} << 18;

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Where a row of the canonical layout lies among interleaved gates.
int packed_row(int row, int hidden) { return hidden > 0 ? row % hidden * 4 + row / hidden : row; }

// visit(row, first column, count, place behind `first`) for each row that values [first, first + count) of a matrix
// touch.
template <class Visit>
void for_each_row(int depth, std::size_t first, std::size_t count, const Visit& visit) {
  const std::size_t end = first + count;
  for (std::size_t at = first; at < end;) {
    const std::size_t column = at % depth, size = std::min(depth - column, end - at);
    visit(static_cast<int>(at / depth), static_cast<int>(column), static_cast<int>(size), at - first);
    at += size;
  }
}

}  // namespace

Weights::Weights(const ModelSpec& spec, const Layout& layout, const KernelTable& kernels,
                 AlignedBuffer<float>& parameters, ThreadTeam& team)
    : spec_(spec),
      layout_(layout),
      kernels_(kernels),
      parameters_(parameters),
      team_(team),
      gate_rows_padded_(round_up(4 * spec.hidden, 64)),
      vocabulary_padded_(round_up(spec.vocabulary, 64)),
      layers_(spec.layers) {
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    layer.bias.resize(gate_rows_padded_);
    if (l > 0 || spec_.coding != InputCoding::onehot) {
      matrices_.push_back({layout_.weight_ih(l), spec_.hidden, layer.input, layer.input_panels});
    }
    matrices_.push_back({layout_.weight_hh(l), spec_.hidden, layer.recurrent, layer.recurrent_panels});
  }
  matrices_.push_back({layout_.output_weight(), 0, output_, output_panels_});
  output_bias_.resize(vocabulary_padded_);
}

void Weights::Matrix::read(Form form, int row, int first, int count, float* out) const {
  if (form == Form::tiles) {
    tiles.read(packed_row(row, hidden), first, count, out);
  } else {
    panels.read(packed_row(row, hidden), first, count, out);
  }
}

void Weights::changed() { shared_fresh_ = tiles_fresh_ = back_fresh_ = panels_fresh_ = false; }

template <class Pack>
void Weights::share(const std::function<bool()>& stopped, const Pack& pack) {
  const int threads = team_.size();
  // As many parts as let a large model look at the stop flag often.
  const std::size_t looks = std::clamp<std::size_t>(layout_.size() / kPackedBetweenLooks / threads, 1, 256);
  const int each = static_cast<int>(looks), parts = threads * each;
  team_.run(threads, [&](int thread) {
    for (int part = thread * each; part < (thread + 1) * each && !stopped(); ++part) pack(part, parts);
  });
}

void Weights::prepare_lanes(bool backward, bool lean, const std::function<bool()>& stopped) {
  if (given_up_ && !(lean && holds(Form::tiles))) restore();
  shape_tiles(backward);
  shape_table();
  const bool forward = !tiles_fresh_, back = backward && !back_fresh_;
  if (lean) {
    if (forward) {
      move(Form::tiles, [&](const Matrix& m, int part, int parts) {
        const std::size_t depth = m.depth();
        m.tiles.pack({canonical(m.parameter), depth, 1, m.hidden, 0}, part, parts);
      });
    }
  } else if (forward || back || !shared_fresh_) {
    share(stopped, [&](int part, int parts) {
      if (!shared_fresh_) pack_shared(part, parts);
      pack_tiles(part, parts, forward, back);
    });
    if (stopped()) return;
  }
  shared_fresh_ = tiles_fresh_ = true;
  back_fresh_ = back_fresh_ || backward;
}

void Weights::prepare_single(bool lean, const std::function<bool()>& stopped) {
  if (given_up_ && !(lean && holds(Form::panels))) restore();
  if (panels_fresh_) return;
  for (const Matrix& m : matrices_) m.panels.shape(m.rows(), m.depth());
  shape_table();
  const auto pack = [&](const Matrix& m, int part, int parts) {
    m.panels.pack(canonical(m.parameter), m.hidden, part, parts);
  };
  if (lean) {
    move(Form::panels, pack);
  } else {
    share(stopped, [&](int part, int parts) {
      if (!shared_fresh_) pack_shared(part, parts);
      for (const Matrix& m : matrices_) pack(m, part, parts);
    });
    if (stopped()) return;
  }
  shared_fresh_ = panels_fresh_ = true;
}

// Packs all matrices and gives up the canonical ones behind it.
template <class Pack>
void Weights::move(Form form, const Pack& pack) {
  const int threads = team_.size();
  const int parts = kMoves * threads;
  pack_biases();
  if (one_hot()) {
    for (int done = threads; done <= parts; done += threads) {
      team_.run(threads, [&](int thread) { pack_table(done - threads + thread, parts); });
      discard_rows(layout_.weight_ih(0), spec_.hidden, 4 * share_begin(spec_.hidden, parts, done));
    }
  }
  for (const Matrix& m : matrices_) {
    for (int done = threads; done <= parts; done += threads) {
      team_.run(threads, [&](int thread) { pack(m, done - threads + thread, parts); });
      const int rows = form == Form::tiles ? m.tiles.first_row(done, parts) : m.panels.first_row(done, parts);
      discard_rows(m.parameter, m.hidden, rows);
    }
  }
  given_up_ = true;
  holder_ = form;
}

// The canonical values of a packed matrix's first `rows` rows. Each time from the first, so that no page is left
// between two calls.
void Weights::discard_rows(const Parameter& parameter, int hidden, int rows) {
  const std::size_t depth = parameter.shape[1];
  if (hidden == 0) return parameters_.discard(parameter.offset, rows * depth);
  const std::size_t gate = hidden * depth;
  for (int g = 0; g < 4; ++g) parameters_.discard(parameter.offset + g * gate, rows / 4 * depth);
}

void Weights::restore() {
  if (!given_up_) return;
  const int threads = team_.size();
  for (const Matrix& m : matrices_) {
    team_.run(threads, [&](int thread) {
      for (int row = share_begin(m.rows(), threads, thread); row < share_begin(m.rows(), threads, thread + 1); ++row) {
        float* out = parameters_.data() + m.parameter.offset + static_cast<std::size_t>(row) * m.depth();
        m.read(holder_, row, 0, m.depth(), out);
      }
    });
    if (holder_ == Form::tiles) {
      m.tiles.release();
    } else {
      m.panels.release();
    }
  }
  if (one_hot()) {
    const Parameter& input = layout_.weight_ih(0);
    read_table(0, input.size, parameters_.data() + input.offset);
    layers_[0].table.resize(0);
  }
  given_up_ = shared_fresh_ = false;
  if (holder_ == Form::tiles) {
    tiles_fresh_ = back_fresh_ = shaped_ = shaped_back_ = false;
  } else {
    panels_fresh_ = false;
  }
}

void Weights::read(std::size_t offset, std::size_t count, float* out) const {
  if (!given_up_) {
    std::copy_n(parameters_.data() + offset, count, out);
    return;
  }
  for (const Parameter& parameter : layout_.parameters()) {
    const std::size_t begin = std::max(offset, parameter.offset);
    const std::size_t end = std::min(offset + count, parameter.offset + parameter.size);
    if (begin >= end) continue;
    float* const to = out + (begin - offset);
    const auto held =
        std::find_if(matrices_.begin(), matrices_.end(), [&](const Matrix& m) { return &m.parameter == &parameter; });
    if (held != matrices_.end()) {
      read_matrix(*held, begin - parameter.offset, end - begin, to);
    } else if (one_hot() && &parameter == &layout_.weight_ih(0)) {
      read_table(begin - parameter.offset, end - begin, to);
    } else {
      std::copy_n(parameters_.data() + begin, end - begin, to);
    }
  }
}

void Weights::read_matrix(const Matrix& m, std::size_t first, std::size_t count, float* out) const {
  for_each_row(m.depth(), first, count, [&](int row, int column, int size, std::size_t place) {
    m.read(holder_, row, column, size, out + place);
  });
}

void Weights::read_table(std::size_t first, std::size_t count, float* out) const {
  const float* const table = layers_[0].table.data();
  for_each_row(spec_.vocabulary, first, count, [&](int row, int column, int size, std::size_t place) {
    const float* from = table + packed_row(row, spec_.hidden);
    for (int k = 0; k < size; ++k) out[place + k] = from[static_cast<std::size_t>(column + k) * gate_rows_padded_];
  });
}

void Weights::shape_table() {
  if (one_hot()) layers_[0].table.resize(static_cast<std::size_t>(spec_.vocabulary) * gate_rows_padded_);
}

void Weights::shape_tiles(bool backward) {
  const int hidden = spec_.hidden;
  if (!shaped_) {
    for (const Matrix& m : matrices_) m.tiles.shape(kernels_, m.rows(), m.depth());
    shaped_ = true;
    tiles_fresh_ = back_fresh_ = shaped_back_ = false;
  }
  if (!backward || shaped_back_) return;
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    layer.recurrent_back.shape(kernels_, hidden, 4 * hidden);
    if (l > 0) layer.input_back.shape(kernels_, hidden, 4 * hidden);
    if (l == 0 && spec_.coding == InputCoding::embedding) {
      layer.input_back.shape(kernels_, spec_.input_size(), 4 * hidden);
    }
  }
  output_back_.shape(kernels_, hidden, spec_.vocabulary);
  shaped_back_ = true;
  back_fresh_ = false;
}

void Weights::pack_biases() {
  for (int l = 0; l < spec_.layers; ++l) {
    const float* bias = canonical(layout_.bias(l));
    for (int r = 0; r < 4 * spec_.hidden; ++r) layers_[l].bias[r] = bias[canonical_row(r, spec_.hidden)];
  }
  std::copy_n(canonical(layout_.output_bias()), spec_.vocabulary, output_bias_.data());
}

// What a one-hot input looks up.
void Weights::pack_table(int part, int parts) {
  const std::size_t h = spec_.hidden, in = spec_.vocabulary;
  const float* input = canonical(layout_.weight_ih(0));
  const int begin = share_begin(spec_.hidden, parts, part), end = share_begin(spec_.hidden, parts, part + 1);
  for (int id = 0; id < spec_.vocabulary; ++id) {
    float* row = layers_[0].table.data() + static_cast<std::size_t>(id) * gate_rows_padded_;
    for (int u = begin; u < end; ++u)
      for (int g = 0; g < 4; ++g) row[4 * u + g] = input[(g * h + u) * in + id];
  }
}

// The biases and the table, which both forms use.
void Weights::pack_shared(int part, int parts) {
  if (part == 0) pack_biases();
  if (one_hot()) pack_table(part, parts);
}

void Weights::pack_tiles(int part, int parts, bool forward, bool backward) {
  const int hidden = spec_.hidden;
  const std::size_t h = hidden;
  if (forward) {
    for (const Matrix& m : matrices_) {
      m.tiles.pack({canonical(m.parameter), static_cast<std::size_t>(m.depth()), 1, m.hidden, 0}, part, parts);
    }
  }
  if (!backward) return;
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    layer.recurrent_back.pack({canonical(layout_.weight_hh(l)), 1, h, 0, hidden}, part, parts);
    const std::size_t in = l == 0 ? spec_.input_size() : hidden;
    if (!layer.input_back.empty())
      layer.input_back.pack({canonical(layout_.weight_ih(l)), 1, in, 0, hidden}, part, parts);
  }
  output_back_.pack({canonical(layout_.output_weight()), 1, h, 0, 0}, part, parts);
}

std::size_t Weights::bytes() const {
  std::size_t total = output_.bytes() + output_back_.bytes() + output_bias_.bytes() + output_panels_.bytes();
  for (const LayerWeights& layer : layers_) {
    total += layer.input.bytes() + layer.recurrent.bytes() + layer.input_back.bytes() + layer.recurrent_back.bytes() +
             layer.input_panels.bytes() + layer.recurrent_panels.bytes() + layer.bias.bytes() + layer.table.bytes();
  }
  if (given_up_ && AlignedBuffer<float>::discards()) {
    std::size_t held = one_hot() ? layout_.weight_ih(0).size : 0;
    for (const Matrix& m : matrices_) held += m.parameter.size;
    total -= held * sizeof(float);
  }
  return total;
}

}  // namespace cudnn_lstm::cpu
