#include "cpu/weights.h"

#include <algorithm>

namespace cudnn_lstm::cpu {
namespace {

// A matrix is given up in at least this many steps, so that little of it exists twice.
constexpr int kMoves = 16;

// Parameters that one thread packs between two looks at the stop flag: about a millisecond.
constexpr std::size_t kPackedBetweenLooks = std::size_t{1} << 18;

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// The place of a canonical row among interleaved gates.
int packed_row(int row, int hidden) { return hidden > 0 ? row % hidden * 4 + row / hidden : row; }

// Calls visit(row, first column, count, offset from `first`) for each row that values [first, first + count) of a
// matrix touch.
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

Weights::Weights(const ModelSpec& spec, const Layout& layout, const KernelTable& kernels, WeightForm form,
                 Arithmetic arithmetic, AlignedBuffer<float>& parameters, ThreadTeam& team)
    : spec_(spec),
      layout_(layout),
      kernels_(kernels),
      form_(form),
      arithmetic_(arithmetic),
      parameters_(parameters),
      team_(team),
      gate_rows_padded_(round_up(4 * spec.hidden, 64)),
      vocabulary_padded_(round_up(spec.vocabulary, 64)),
      layers_(spec.layers) {
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    layer.bias = PanelVectors(4 * spec_.hidden);
    layer.bias.ensure(1);
    layer.table = PanelVectors(4 * spec_.hidden);
    if (l > 0 || spec_.coding != InputCoding::onehot) {
      const bool scalar = l == 0 && spec_.coding == InputCoding::scalar;
      matrices_.push_back({layout_.weight_ih(l), spec_.hidden, layer.input, layer.trained_input, layer.input_panels,
                           scalar ? Arithmetic::fp32 : Arithmetic::bf16});
    }
    matrices_.push_back(
        {layout_.weight_hh(l), spec_.hidden, layer.recurrent, layer.trained_recurrent, layer.recurrent_panels});
  }
  matrices_.push_back({layout_.output_weight(), 0, output_, trained_output_, output_panels_});
  output_bias_ = PanelVectors(spec_.vocabulary);
  output_bias_.ensure(1);
}

void Weights::Matrix::read(Form form, int row, int first, int count, float* out) const {
  if (form == Form::tiles) {
    tiles.read(packed_row(row, hidden), first, count, out);
  } else {
    panels.read(packed_row(row, hidden), first, count, out);
  }
}

int Weights::Matrix::rows_before(Form form, int part) const {
  if (part == 0) return 0;
  return form == Form::tiles ? tiles.first_row(part, parts) : panels.first_row(part, parts);
}

bool Weights::given_up() const {
  return table_moved_ > 0 ||
         std::any_of(matrices_.begin(), matrices_.end(), [](const Matrix& m) { return m.moved > 0; });
}

int Weights::moving_parts(const Parameter& parameter) const {
  const std::size_t threads = team_.size();
  return static_cast<int>(threads *
                          std::clamp<std::size_t>(parameter.size / kPackedBetweenLooks / threads, kMoves, 4096));
}

void Weights::changed() { shared_fresh_ = tiles_fresh_ = back_fresh_ = panels_fresh_ = false; }

template <class Pack>
void Weights::share(StopRequest& stop, const Pack& pack) {
  const int threads = team_.size();
  // Enough parts that a large model looks at the stop flag often.
  const std::size_t looks = std::clamp<std::size_t>(layout_.size() / kPackedBetweenLooks / threads, 1, 256);
  const int each = static_cast<int>(looks), parts = threads * each;
  team_.run(threads, [&](int thread) {
    resumed();
    for (int part = thread * each; part < (thread + 1) * each && !stop.asked(); ++part) pack(part, parts);
  });
}

void Weights::prepare_lanes(bool backward, bool lean, StopRequest& stop) {
  if (given_up() && !(lean && holds(Form::tiles))) restore(stop);
  if (stop.heard()) return;
  const bool floats = !(backward && rounds());
  shape_tiles(floats, backward);
  shape_table();
  const bool forward = floats && !tiles_fresh_, back = backward && !back_fresh_;
  if (lean) {
    if (forward) {
      move(Form::tiles, stop, [&](const Matrix& m, int part, int parts) {
        const std::size_t depth = m.depth();
        m.tiles.pack({canonical(m.parameter), depth, 1, m.hidden, 0}, part, parts);
      });
    }
  } else if (forward || back || !shared_fresh_) {
    share(stop, [&](int part, int parts) {
      if (!shared_fresh_) pack_shared(part, parts);
      pack_tiles(part, parts, forward, back);
    });
  }
  if (stop.heard()) return;
  shared_fresh_ = true;
  tiles_fresh_ = tiles_fresh_ || floats;
  back_fresh_ = back_fresh_ || backward;
}

void Weights::prepare_single(bool lean, StopRequest& stop) {
  if (given_up() && !(lean && holds(Form::panels))) restore(stop);
  if (panels_fresh_ || stop.heard()) return;
  for (const Matrix& m : matrices_) m.panels.shape(m.rows(), m.depth(), form_);
  shape_table();
  const auto pack = [&](const Matrix& m, int part, int parts) {
    m.panels.pack(canonical(m.parameter), m.hidden, part, parts);
  };
  if (lean) {
    move(Form::panels, stop, pack);
  } else {
    share(stop, [&](int part, int parts) {
      if (!shared_fresh_) pack_shared(part, parts);
      for (const Matrix& m : matrices_) pack(m, part, parts);
    });
  }
  if (stop.heard()) return;
  shared_fresh_ = panels_fresh_ = true;
}

// Packs all matrices and gives up the canonical ones as it goes; resumes where a stop ended it, even with another
// number of threads.
template <class Pack>
void Weights::move(Form form, StopRequest& stop, const Pack& pack) {
  holder_ = form;
  pack_biases();
  if (one_hot()) {
    const Parameter& input = layout_.weight_ih(0);
    if (table_moved_ == 0) table_parts_ = moving_parts(input);
    while (table_moved_ < table_parts_) {
      if (stop.asked()) return;
      const int taken = std::min(team_.size(), table_parts_ - table_moved_);
      team_.run(taken, [&](int thread) { pack_table(table_moved_ + thread, table_parts_); });
      table_moved_ += taken;
      discard_rows(input, spec_.hidden, 4 * table_units(table_moved_ - taken), 4 * table_units(table_moved_));
    }
  }
  for (Matrix& m : matrices_) {
    if (m.moved == 0) m.parts = moving_parts(m.parameter);
    while (m.moved < m.parts) {
      if (stop.asked()) return;
      const int taken = std::min(team_.size(), m.parts - m.moved);
      team_.run(taken, [&](int thread) { pack(m, m.moved + thread, m.parts); });
      m.moved += taken;
      discard_rows(m.parameter, m.hidden, m.rows_before(form, m.moved - taken), m.rows_before(form, m.moved));
    }
  }
}

// Discards the canonical values of a packed matrix's rows [first, last). Reaches back over the preceding rows, which
// are already given up, so that no page is left between two calls.
void Weights::discard_rows(const Parameter& parameter, int hidden, int first, int last) {
  constexpr std::size_t kPage = std::size_t{1} << 14;  // the largest page there is, in floats
  const int gates = hidden > 0 ? 4 : 1;
  const std::size_t depth = parameter.shape[1], begin = first / gates * depth, end = last / gates * depth;
  const std::size_t from = begin - std::min(begin, kPage);
  for (int g = 0; g < gates; ++g) parameters_.discard(parameter.offset + g * hidden * depth + from, end - from);
}

void Weights::restore() {
  const std::atomic<bool> never{false};
  StopRequest stop;
  stop.watch(never);
  restore(stop);
}

void Weights::restore(StopRequest& stop) {
  if (!given_up()) return;
  shared_fresh_ = false;
  if (holder_ == Form::tiles) {
    tiles_fresh_ = back_fresh_ = shaped_ = shaped_back_ = false;
  } else {
    panels_fresh_ = false;
  }
  const int threads = team_.size();
  // Row by row in packed order, shared between the threads.
  const auto put_back = [&](const Parameter& parameter, int hidden, int first, int last, const auto& read) {
    team_.run(threads, [&](int thread) {
      const int end = first + share_begin(last - first, threads, thread + 1);
      for (int row = first + share_begin(last - first, threads, thread); row < end; ++row) {
        const int place = canonical_row(row, hidden);
        read(place, parameters_.data() + parameter.offset + static_cast<std::size_t>(place) * parameter.shape[1]);
      }
    });
  };
  for (Matrix& m : matrices_) {
    while (m.moved > 0) {
      if (stop.asked()) return;
      const int given = std::min(threads, m.moved);
      put_back(m.parameter, m.hidden, m.rows_before(holder_, m.moved - given), m.rows_before(holder_, m.moved),
               [&](int row, float* out) { m.read(holder_, row, 0, m.depth(), out); });
      m.moved -= given;
    }
    if (holder_ == Form::tiles) {
      m.tiles.release();
    } else {
      m.panels.release();
    }
  }
  while (table_moved_ > 0) {
    if (stop.asked()) return;
    const int given = std::min(threads, table_moved_);
    put_back(layout_.weight_ih(0), spec_.hidden, 4 * table_units(table_moved_ - given), 4 * table_units(table_moved_),
             [&](int row, float* out) { read_table(row, 0, spec_.vocabulary, out); });
    table_moved_ -= given;
  }
  if (one_hot()) layers_[0].table.release();
}

void Weights::read(std::size_t offset, std::size_t count, float* out) const {
  if (!given_up()) {
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
    const bool table = one_hot() && &parameter == &layout_.weight_ih(0);
    if (held == matrices_.end() && !table) {
      std::copy_n(parameters_.data() + begin, end - begin, to);
      continue;
    }
    const int hidden = table ? spec_.hidden : held->hidden;
    const int given_up = table ? 4 * table_units(table_moved_) : held->rows_before(holder_, held->moved);
    for_each_row(parameter.shape[1], begin - parameter.offset, end - begin,
                 [&](int row, int column, int size, std::size_t place) {
                   if (packed_row(row, hidden) >= given_up) {
                     const std::size_t at = static_cast<std::size_t>(row) * parameter.shape[1] + column;
                     std::copy_n(canonical(parameter) + at, size, to + place);
                   } else if (table) {
                     read_table(row, column, size, to + place);
                   } else {
                     held->read(holder_, row, column, size, to + place);
                   }
                 });
  }
}

// Reads values of a row, as the canonical layout numbers it.
void Weights::read_table(int row, int first, int count, float* out) const {
  const int place = packed_row(row, spec_.hidden);
  for (int k = 0; k < count; ++k) out[k] = layers_[0].table.vector(first + k)[place];
}

void Weights::shape_table() {
  if (one_hot()) layers_[0].table.ensure(spec_.vocabulary);
}

void Weights::shape_tiles(bool forward, bool backward) {
  const int hidden = spec_.hidden;
  if (forward && !shaped_) {
    for (const Matrix& m : matrices_) m.tiles.shape(kernels_, m.rows(), m.depth());
    shaped_ = true;
    tiles_fresh_ = false;
  }
  if (!backward || shaped_back_) return;
  if (rounds()) {
    for (const Matrix& m : matrices_) m.trained.shape(kernels_, m.rows(), m.depth(), m.arithmetic);
  }
  for (int l = 0; l < spec_.layers; ++l) {
    LayerWeights& layer = layers_[l];
    layer.recurrent_back.shape(kernels_, hidden, 4 * hidden, arithmetic_);
    if (l > 0) layer.input_back.shape(kernels_, hidden, 4 * hidden, arithmetic_);
    if (l == 0 && spec_.coding == InputCoding::embedding) {
      layer.input_back.shape(kernels_, spec_.input_size(), 4 * hidden, arithmetic_);
    }
  }
  output_back_.shape(kernels_, hidden, spec_.vocabulary, arithmetic_);
  shaped_back_ = true;
  back_fresh_ = false;
}

void Weights::pack_biases() {
  for (int l = 0; l < spec_.layers; ++l) {
    const float* bias = canonical(layout_.bias(l));
    for (int r = 0; r < 4 * spec_.hidden; ++r) layers_[l].bias.vector(0)[r] = bias[canonical_row(r, spec_.hidden)];
  }
  std::copy_n(canonical(layout_.output_bias()), spec_.vocabulary, output_bias_.vector(0));
}

// Packs what a one-hot input looks up.
void Weights::pack_table(int part, int parts) {
  const std::size_t h = spec_.hidden, in = spec_.vocabulary;
  const float* input = canonical(layout_.weight_ih(0));
  const int begin = share_begin(spec_.hidden, parts, part), end = share_begin(spec_.hidden, parts, part + 1);
  for (int id = 0; id < spec_.vocabulary; ++id) {
    float* row = layers_[0].table.vector(id);
    for (int u = begin; u < end; ++u)
      for (int g = 0; g < 4; ++g) row[4 * u + g] = input[(g * h + u) * in + id];
  }
}

// Packs the biases and the table, which both forms use.
void Weights::pack_shared(int part, int parts) {
  if (part == 0) pack_biases();
  if (one_hot()) pack_table(part, parts);
}

void Weights::pack_tiles(int part, int parts, bool forward, bool backward) {
  const int hidden = spec_.hidden;
  const std::size_t h = hidden;
  for (const Matrix& m : matrices_) {
    const PackedMatrix::Source source{canonical(m.parameter), static_cast<std::size_t>(m.depth()), 1, m.hidden, 0};
    if (forward) m.tiles.pack(source, part, parts);
    if (backward && rounds()) m.trained.pack(source, part, parts);
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
  std::size_t total =
      output_.bytes() + trained_output_.bytes() + output_back_.bytes() + output_bias_.bytes() + output_panels_.bytes();
  for (const LayerWeights& layer : layers_) {
    total += layer.trained_input.bytes() + layer.trained_recurrent.bytes();
    total += layer.input.bytes() + layer.recurrent.bytes() + layer.input_back.bytes() + layer.recurrent_back.bytes() +
             layer.input_panels.bytes() + layer.recurrent_panels.bytes() + layer.bias.bytes() + layer.table.bytes();
  }
  if (AlignedBuffer<float>::discards()) {
    std::size_t held = one_hot() ? std::size_t{4} * table_units(table_moved_) * spec_.vocabulary : 0;
    for (const Matrix& m : matrices_) held += static_cast<std::size_t>(m.rows_before(holder_, m.moved)) * m.depth();
    total -= held * sizeof(float);
  }
  return total;
}

}  // namespace cudnn_lstm::cpu
