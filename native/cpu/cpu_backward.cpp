// The backward half of a step: back-propagation through time, from the top layer down, one layer after another or all
// as a wave. The weight gradients of a
// run of ticks follow right behind, while the gate gradients are in the cache.
#include <algorithm>

#include "core/random.h"
#include "cpu/cpu_backend.h"

namespace cudnn_lstm::cpu {
namespace {

constexpr int kUnitGroup = 48;

// Weight gradients are computed over about this many lanes at once, in runs of kPanelPairs pairs.
constexpr int kGradientLanes = 1024;

}  // namespace

std::size_t CpuBackend::panels_of_a_thread() const {
  const int width = kernels_.panel_width;
  const int widest = std::max(spec_.coding == InputCoding::embedding ? spec_.embedding : 0, spec_.hidden);
  const int panels = (spec_.hidden + width - 1) / width + (widest + width - 1) / width;
  const int threads = pass_.partition.threads;
  return (panels + threads - 1) / threads;
}

// dW[row][column] += sum over pairs and lanes of dy[row][lane] * x[column][lane].
struct CpuBackend::GradientProduct {
  const RowBlocks* dy;  // [rows][16] of pair p in block first_block + p
  std::size_t first_block;
  int pairs;
  std::vector<LaneBlock> x;  // [pairs]: [columns][16]
  int rows;
  int columns;
  int hidden_rows;  // > 0: rows are interleaved gates of that many units
  float* gradient;  // canonical [rows][columns]
  // With a layer's first product, while its rows are in the cache: the gradients of the bias, db[row] = sum of dy[row],
  // and of the weight of a scalar input, dw[row] = sum of dy[row] * scalar.
  float* bias = nullptr;
  float* scalar_weight = nullptr;
  std::vector<const float*> scalar;  // [pairs]: [16]

  int place(int row) const { return hidden_rows > 0 ? (row % 4) * hidden_rows + row / 4 : row; }
};

void CpuBackend::backward(int thread) {
  if (spec_.coding == InputCoding::onehot) zero_share(onehot_gradient_, thread);
  const Domain domain = pass_.partition.domain(thread);
  for (int layer = 0; layer < spec_.layers; ++layer)
    for (int block = domain.first_block; block < domain.last_block && !stopped(); ++block) {
      const LaneBlock dc = pair_block(cell_gradient_, layer, block);
      std::fill(dc.row(domain.first_unit), dc.row(domain.last_unit), 0.0f);
    }
  if (meet()) return;
  if (pass_.partition.split_units) {
    backward_wave(thread);
  } else {
    for (int layer = spec_.layers - 1; layer >= 0 && !abandoned_; --layer) backward_layer(thread, layer);
  }
  if (abandoned_ || meet()) return;
  finish_input_gradients(thread);
  meet();
}

// Like forward_wave, but from the top layer and the last tick: each layer `lag` ticks behind the one above.
void CpuBackend::backward_wave(int thread) {
  const int lag = wave_lag(), top = spec_.layers - 1, steps = pass_.steps;
  const int chunk = std::max(1, kGradientLanes / (pass_.blocks * kLanes));
  for (int phase = 0; phase < steps + top * lag; ++phase) {
    const auto step_of = [&](int layer) { return steps - 1 - phase + (top - layer) * lag; };
    for (int layer = top; layer >= 0; --layer) {
      const int step = step_of(layer);
      if (step < 0 || step >= steps || stopped()) continue;
      if (layer < top && (steps - 1 - step) % lag == 0) {
        input_gradients(thread, layer + 1, std::max(0, step - lag + 1), step + 1);
      }
      backward_tick(thread, layer, step);
    }
    if (meet()) return;
    // At the last tick of a run, with all threads' units done: each thread goes on when it has finished its own share.
    for (int layer = top; layer >= 0; --layer) {
      const int step = step_of(layer);
      if (step < 0 || step >= steps || ((steps - step) % chunk != 0 && step != 0)) continue;
      const int last = steps - (steps - step - 1) / chunk * chunk;
      if (layer == 0 && spec_.coding == InputCoding::embedding && !stopped()) input_gradients(thread, 0, step, last);
      if (!stopped()) weight_gradients(thread, layer, step * pass_.blocks, last * pass_.blocks);
    }
  }
}

void CpuBackend::backward_layer(int thread, int layer) {
  const int chunk = std::max(1, kGradientLanes / (pass_.blocks * kLanes));
  for (int last = pass_.steps; last > 0; last -= chunk) {
    const int first = std::max(0, last - chunk);
    for (int step = last - 1; step >= first; --step) {
      if (!stopped()) backward_tick(thread, layer, step);
    }
    if (!stopped() && (layer > 0 || spec_.coding == InputCoding::embedding))
      input_gradients(thread, layer, first, last);
    if (meet()) return;
    if (!stopped()) weight_gradients(thread, layer, first * pass_.blocks, last * pass_.blocks);
  }
}

// dh = dropout(dh from above) + W_hh^T (gate gradients of the next tick), then through the gates.
void CpuBackend::backward_tick(int thread, int layer, int step) {
  constexpr int kMaxBlocks = 16;
  const Domain domain = pass_.partition.domain(thread);
  const PackedMatrix& matrix = weights_.layers()[layer].recurrent_back;
  const int at_once = blocks_at_once(matrix, kMaxBlocks);
  LayerActivations& activations = layers_[layer];
  const bool last = step == pass_.steps - 1;
  const bool from_above = layer < spec_.layers - 1 || pass_.target == Target::every || last;
  const std::uint32_t threshold = dropout_threshold(spec_.dropout);
  for (int first = domain.first_block; first < domain.last_block; first += at_once) {
    const int count = std::min(at_once, domain.last_block - first);
    const float* b[kMaxBlocks];
    float* c[kMaxBlocks];
    for (int i = 0; i < count; ++i) {
      b[i] = last ? nullptr : gates(layer, step + 1, first + i).rows();
      c[i] = pair_block(recurrent_gradient_, layer, first + i).rows();
    }
    const ProductInputs next = last ? ProductInputs{} : inputs(thread, matrix, count, b);
    for (int unit = domain.first_unit; unit < domain.last_unit && !stopped(); unit += kUnitGroup) {
      const int end = std::min(unit + kUnitGroup, domain.last_unit);
      if (!last) matrix.multiply(unit, end, count, next, c, nullptr, true, stop_);
      for (int i = 0; i < count; ++i) {
        const int block = first + i;
        const std::size_t at = static_cast<std::size_t>(unit) * kLanes;
        GateBackward stage{};
        stage.units = end - unit;
        stage.slope = spec_.gate_slope();
        stage.gates = gates(layer, step, block).row(4 * unit);
        stage.c_before = c_before(layer, step, block).row(unit);
        stage.c = pair_block(activations.c, step + 1, block).row(unit);
        stage.dh_above = from_above ? pair_block(outputs_gradient_, step, block).row(unit) : nullptr;
        stage.dh_recurrent = last ? nullptr : c[i] + at;
        stage.dc = pair_block(cell_gradient_, layer, block).row(unit);
        if (pass_.dropout && from_above) {
          stage.keep = keep(layer, step, block) + unit;
        }
        stage.keep_scale = 65536.0f / static_cast<float>(threshold);
        if (const unsigned lanes = last ? 0 : resets(step + 1, block); lanes != 0) {
          // In these lanes, nothing that the next tick did depends on this one.
          clear_lanes(c[i] + at, end - unit, lanes);
          clear_lanes(stage.dc, end - unit, lanes);
        }
        kernels_.gate_backward(stage);
      }
    }
  }
}

// dx = W_ih^T (gate gradients): for the layer below, overwriting the gradients this layer has used up, or for the
// embedding.
void CpuBackend::input_gradients(int thread, int layer, int first_step, int last_step) {
  const Domain domain = pass_.partition.domain(thread);
  const PackedMatrix& weights = weights_.layers()[layer].input_back;
  std::vector<const float*> b;
  std::vector<float*> c;
  for (int step = first_step; step < last_step; ++step)
    for (int block = domain.first_block; block < domain.last_block; ++block) {
      b.push_back(gates(layer, step, block).rows());
      c.push_back(pair_block(layer > 0 ? outputs_gradient_ : input_gradients_, step, block).rows());
    }
  const auto [begin, end] = pass_.partition.rows(thread, weights.rows(), kernels_.tile_rows);
  const int all = static_cast<int>(b.size()), at_once = blocks_at_once(weights, all);
  for (int first = 0; first < all && !stopped(); first += at_once) {
    const int count = std::min(at_once, all - first);
    const ProductInputs rows = inputs(thread, weights, count, b.data() + first);
    for (int row = begin; row < end && !stopped(); row += kUnitGroup) {
      weights.multiply(row, std::min(row + kUnitGroup, end), count, rows, c.data() + first, nullptr, true, stop_);
    }
  }
}

// For pairs [first_pair, last_pair). layer < L: that LSTM layer; layer == L: the output layer, whose chunk of logits
// starts at first_pair.
void CpuBackend::weight_gradients(int thread, int layer, int first_pair, int last_pair) {
  const bool output = layer == spec_.layers;
  const int count = last_pair - first_pair;
  GradientProduct products[2];
  int product_count = 0;
  auto add_product = [&](int rows, int columns, int hidden_rows, const Parameter& parameter) -> GradientProduct& {
    GradientProduct& product = products[product_count++];
    product.rows = rows;
    product.columns = columns;
    product.hidden_rows = hidden_rows;
    product.gradient = gradients_.data() + parameter.offset;
    // Gates are kept for all pairs, logits for one chunk.
    product.dy = output ? &logits_ : &layers_[layer].gates;
    product.first_block = output ? 0 : first_pair;
    product.pairs = count;
    product.x.reserve(count);
    return product;
  };
  const bool table_input = !output && layer == 0 && spec_.coding != InputCoding::embedding;
  GradientProduct* recurrent =
      output ? nullptr : &add_product(4 * spec_.hidden, spec_.hidden, spec_.hidden, layout_.weight_hh(layer));
  GradientProduct* input = nullptr;
  if (output) {
    input = &add_product(spec_.vocabulary, spec_.hidden, 0, layout_.output_weight());
  } else if (!table_input) {
    input = &add_product(4 * spec_.hidden, layer == 0 ? spec_.input_size() : spec_.hidden, spec_.hidden,
                         layout_.weight_ih(layer));
  }
  products[0].bias = gradients_.data() + (output ? layout_.output_bias() : layout_.bias(layer)).offset;
  const bool scalar = table_input && spec_.coding == InputCoding::scalar;
  if (scalar) products[0].scalar_weight = gradients_.data() + layout_.weight_ih(0).offset;
  for (int pair = first_pair; pair < last_pair; ++pair) {
    const int step = pair / pass_.blocks, block = pair % pass_.blocks;
    if (scalar) products[0].scalar.push_back(input_block(step, block).rows());
    if (recurrent != nullptr) {
      recurrent->x.push_back(h_before(layer, step, block));
    }
    if (input != nullptr) {
      input->x.push_back(output       ? layer_output(spec_.layers - 1, step, block)
                         : layer == 0 ? input_block(step, block)
                                      : layer_output(layer - 1, step, block));
    }
  }
  accumulate(products, product_count, thread);

  if (table_input && spec_.coding == InputCoding::onehot) onehot_gradients(thread, first_pair, last_pair);
}

// Computes this thread's panels of the products. A panel's columns are transposed into the order in which the tiles
// read them, once for all rows: a thousandth of the product's work. Then each tile of rows, in the first-level cache,
// meets every panel.
void CpuBackend::accumulate(const GradientProduct* products, int count, int thread) {
  const int threads = pass_.partition.threads;
  const int width = kernels_.panel_width;
  const auto panels_of = [width](const GradientProduct& product) { return (product.columns + width - 1) / width; };
  int panels = 0;
  for (int i = 0; i < count; ++i) panels += panels_of(products[i]);
  const int pairs = products[0].pairs;
  const int share_first = share_begin(panels, threads, thread), share_last = share_begin(panels, threads, thread + 1);
  const bool rounds = this->rounds();
  GradientPanels<float>& packed = panels_[thread];
  GradientPanels<Bf16Pair>& bf16_packed = bf16_panels_[thread];
  RoundedTiles& rounded = rounded_tiles_[thread];
  TileRows a[kPanelPairs];
  Bf16TileRows rounded_a[kPanelPairs];
  for (int first = 0; first < pairs && !stopped(); first += kPanelPairs) {
    const int run = std::min(kPanelPairs, pairs - first);
    int base = 0;  // panels of the preceding products
    for (const GradientProduct* product = products; product < products + count;
         base += panels_of(*product), ++product) {
      const int begin = std::max(share_first - base, 0), end = std::min(share_last - base, panels_of(*product));
      for (int panel = begin; panel < end && !stopped(); ++panel) {
        pack_panel(*product, panel * width, first, run, rounds ? 0 : panel - begin, packed);
        if (rounds) kernels_.round_rows(packed.rows(0), run * kLanes, width, bf16_packed.rows(panel - begin));
      }
      const int tiles = (product->rows + kernels_.tile_rows - 1) / kernels_.tile_rows;
      const int sums_first = share_begin(tiles, threads, thread), sums_last = share_begin(tiles, threads, thread + 1);
      for (int tile = 0; tile < tiles && !stopped(); ++tile) {
        const bool sums = product->bias != nullptr && tile >= sums_first && tile < sums_last;
        if (begin >= end && !sums) continue;
        const int row = tile * kernels_.tile_rows;
        for (int p = 0; p < run; ++p) a[p] = product->dy->tile(product->first_block + first + p, row);
        if (sums) sum_tile(*product, a, first, run, row, std::min(kernels_.tile_rows, product->rows - row));
        if (!rounds) {
          multiply_panels(*product, a, run, row, begin, end, packed, kernels_.gradient_tile);
          continue;
        }
        for (int p = 0; p < run && begin < end; ++p) {
          kernels_.round_tile(a[p], kernels_.tile_rows, rounded.rows(p));
          rounded_a[p] = rounded.tile(p);
        }
        multiply_panels(*product, rounded_a, run, row, begin, end, bf16_packed, kernels_.bf16_gradient_tile);
      }
    }
  }
}

// Multiplies the tile of rows that begins at `row` by panels [begin, end), the first of which is packed[0].
template <typename Number, typename Rows>
void CpuBackend::multiply_panels(const GradientProduct& product, const Rows* a, int run, int row, int begin, int end,
                                 const GradientPanels<Number>& packed,
                                 void (*multiply)(const GradientTile<Number, Rows>&)) const {
  const int width = kernels_.panel_width;
  float* c[kMaxTileRows];
  GradientTile<Number, Rows> work{};
  work.a = a;
  work.pairs = run;
  work.rows = std::min(kernels_.tile_rows, product.rows - row);
  work.c = c;
  for (int panel = begin; panel < end; ++panel) {
    const int column = panel * width;
    work.x = packed.panel(panel - begin);
    work.columns = std::min(width, product.columns - column);
    for (int r = 0; r < work.rows; ++r) {
      c[r] = product.gradient + static_cast<std::size_t>(product.place(row + r)) * product.columns + column;
    }
    multiply(work);
  }
}

// Packs the panel that begins at `column`, for `run` pairs from `first` on, as panel `place` of `packed`.
void CpuBackend::pack_panel(const GradientProduct& product, int column, int first, int run, int place,
                            GradientPanels<float>& packed) const {
  const int width = kernels_.panel_width;
  for (int p = 0; p < run; ++p)
    for (int part = 0; part < width; part += 16) {
      const SquareTarget out = packed.columns(place, p, part);
      // A tensor's units are padded to 16, not to the panel's width.
      if (column + part < product.columns) {
        kernels_.transpose_block(product.x[first + p].square(column + part), out);
      } else {
        for (int lane = 0; lane < kLanes; ++lane) std::fill_n(out.data() + lane * width, 16, 0.0f);
      }
    }
}

void CpuBackend::sum_tile(const GradientProduct& product, const TileRows* dy, int first, int run, int row,
                          int rows) const {
  float sums[kMaxTileRows], scaled[kMaxTileRows];
  const bool scalar = product.scalar_weight != nullptr;
  kernels_.sum_rows(dy, scalar ? product.scalar.data() + first : nullptr, run, rows, sums, scaled);
  for (int r = 0; r < rows; ++r) {
    const int place = product.place(row + r);
    product.bias[place] += sums[r];
    if (scalar) product.scalar_weight[place] += scaled[r];
  }
}

// The table look-up backwards: adds a position's gate gradients to its symbol's row. Threads take different gate rows.
void CpuBackend::onehot_gradients(int thread, int first_pair, int last_pair) {
  const int threads = pass_.partition.threads;
  const int row_blocks = (4 * spec_.hidden + 15) / 16;
  const std::size_t stride = weights_.gate_rows_padded();
  Square lanes;
  for (int pair = first_pair; pair < last_pair && !stopped(); ++pair) {
    const int step = pair / pass_.blocks, block = pair % pass_.blocks;
    const std::int32_t* ids = pass_.ids + static_cast<std::size_t>(step) * pass_.batch + block * kLanes;
    const int count = std::min(kLanes, pass_.batch - block * kLanes);
    for (int r = share_begin(row_blocks, threads, thread); r < share_begin(row_blocks, threads, thread + 1); ++r) {
      kernels_.transpose_block(gates(0, step, block).square(r * 16), lanes);
      for (int lane = 0; lane < count; ++lane)
        kernels_.add(lanes.values + lane * kLanes, onehot_gradient_.data() + ids[lane] * stride + r * 16, 16);
    }
  }
}

// One-hot: copies the table of gradients to the canonical [4H, V]. Embedding: adds dx to its symbols' rows.
void CpuBackend::finish_input_gradients(int thread) {
  const int threads = pass_.partition.threads;
  if (spec_.coding == InputCoding::onehot) {
    const std::size_t stride = weights_.gate_rows_padded();
    float* gradient = gradients_.data() + layout_.weight_ih(0).offset;
    const int end = share_begin(spec_.hidden, threads, thread + 1);
    for (int u = share_begin(spec_.hidden, threads, thread); u < end && !stopped(); ++u)
      for (int g = 0; g < 4; ++g) {
        float* row = gradient + (static_cast<std::size_t>(g) * spec_.hidden + u) * spec_.vocabulary;
        for (int id = 0; id < spec_.vocabulary; ++id) row[id] = onehot_gradient_[id * stride + 4 * u + g];
      }
  }
  if (spec_.coding == InputCoding::embedding) {
    const int in = spec_.embedding;
    float* gradient = gradients_.data() + layout_.embedding().offset;
    const int first = share_begin(in, threads, thread), last = share_begin(in, threads, thread + 1);
    for (int step = 0; step < pass_.steps; ++step)
      for (int b = 0; b < pass_.batch; ++b) {
        if (b % kLanes == 0 && stopped()) return;
        const float* dx = pair_block(input_gradients_, step, b / kLanes).rows() + b % kLanes;
        float* row =
            gradient + static_cast<std::size_t>(pass_.ids[static_cast<std::size_t>(step) * pass_.batch + b]) * in;
        for (int e = first; e < last; ++e) row[e] += dx[e * kLanes];
      }
  }
}

}  // namespace cudnn_lstm::cpu
