// The CPU's inner loops as a table of functions, one table for each instruction set, chosen once at run time.
// docs/cpu-kernels.md explains the layout with drawings.
//
// Activations are kept in *lane blocks*: the batch is cut into blocks of 16 sequences, and a block of a tensor with U
// units is [U][16] floats, the 16 lanes of a unit together. So a unit's lanes are whole vectors, the gate stage needs
// no shuffles, and the h that one tick writes is the packed right-hand side that the next tick's product reads.
//
// Gate rows are *interleaved*: row 4u + g is gate g (i, f, g, o) of unit u, so a tile of rows holds whole units.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "core/optimizers.h"

namespace cudnn_lstm::cpu {

inline constexpr int kLanes = 16;       // sequences in a lane block
inline constexpr int kMaxTileRows = 8;  // the tallest tile of any table
inline constexpr int kMaxTileBlocks = 2;
inline constexpr int kMaxPanelWidth = 32;
inline constexpr int kPanelRows = 64;  // rows in a panel of a matrix for single vectors

// Two bfloat16 numbers that are adjacent along the depth of a product, the first in the lower half, as the instruction
// for such products takes them (docs/adr/0017-bf16-training.md).
using Bf16Pair = std::uint32_t;
inline constexpr int kLanePairs = kLanes / 2;

// How many steps along the depth `depth` numbers take: as floats, or in pairs, the last padded with zero.
template <typename Number>
constexpr int depth_steps(int depth) {
  return std::is_same_v<Number, Bf16Pair> ? (depth + 1) / 2 : depth;
}

// ---- Places in buffers. A kernel works in whole tiles, panels and squares, and so touches more than the rows or
// columns that count. It takes memory where it may do so as one of these types, which only a class with room for the
// excess can make: a buffer without that room cannot be passed to it. A plain pointer below is used for exactly the
// elements that its comment names.

template <typename T, class Owner>
class Place {
 public:
  Place() = default;
  T* data() const { return data_; }

 private:
  friend Owner;
  explicit Place(T* data) : data_(data) {}

  T* data_ = nullptr;
};

class RowBlocks;
class PackedMatrix;
class PanelMatrix;
template <typename Number>
class GradientPanels;
class RoundedTiles;

// Rows of a lane block, 16 floats apart, from which a whole tile of any table may be read.
using TileRows = Place<const float, RowBlocks>;
// The same, rounded: [tile_rows][kLanePairs].
using Bf16TileRows = Place<const Bf16Pair, RoundedTiles>;
// Whole tiles, one after another, each [depth][tile_rows], of floats or pairs.
template <typename Number>
using PackedTiles = Place<const Number, PackedMatrix>;
// Whole panels, each [depth][kPanelRows], of floats, bfloat16 or bytes.
template <typename T>
using MatrixPanels = Place<const T, PanelMatrix>;
// [(tick, block) pairs][16 floats or kLanePairs][panel_width], all columns of which may be read.
template <typename Number>
using GradientPanel = Place<const Number, GradientPanels<Number>>;

// Sixteen rows of sixteen floats, one after another.
struct alignas(64) Square {
  float values[kLanes * kLanes];
};

// The same, in a Square or a lane block.
class SquareRows {
 public:
  SquareRows(const Square& square) : data_(square.values) {}
  const float* data() const { return data_; }

 private:
  friend class LaneBlock;
  explicit SquareRows(const float* data) : data_(data) {}

  const float* data_;
};

// Where sixteen rows of sixteen floats are written, `stride` floats apart.
class SquareTarget {
 public:
  SquareTarget(Square& square) : data_(square.values), stride_(kLanes) {}
  float* data() const { return data_; }
  int stride() const { return stride_; }

 private:
  friend class LaneBlock;
  template <typename Number>
  friend class GradientPanels;
  SquareTarget(float* data, int stride) : data_(data), stride_(stride) {}

  float* data_;
  int stride_;
};

// A vector with one element per row, in whole panels of kPanelRows.
class PanelRows {
 public:
  float* data() const { return data_; }
  PanelRows after(int panels) const { return PanelRows(data_ + panels * kPanelRows); }

 private:
  friend class PanelVectors;
  explicit PanelRows(float* data) : data_(data) {}

  float* data_;
};

class ConstPanelRows {
 public:
  ConstPanelRows(PanelRows rows) : data_(rows.data()) {}
  const float* data() const { return data_; }
  ConstPanelRows after(int panels) const { return ConstPanelRows(data_ + panels * kPanelRows); }

 private:
  friend class PanelVectors;
  explicit ConstPanelRows(const float* data) : data_(data) {}

  const float* data_;
};

// ---- The kernels' arguments.

// C (+)= A * B for tiles of A, `depth` columns each; B is [depth][16] for each of `blocks` lane blocks. Rows from
// `rows` on are computed and discarded. Number: float, or Bf16Pair, in which case `depth` counts pairs.
template <typename Number>
struct TileProduct {
  PackedTiles<Number> a;
  int depth;
  int rows;
  const float* initial;  // [rows] to start from, broadcast over the lanes; nullptr: start from what C holds
  bool zero;             // start from zero (if initial is nullptr)
  int blocks;            // 1 or 2
  const Number* b[kMaxTileBlocks];
  float* c[kMaxTileBlocks];
};

// One tile of a weight gradient: C[row][column] += sum over pairs p and lanes b of A_p[row][b] * X[p][b][column].
// Rows: TileRows, or Bf16TileRows.
template <typename Number, typename Rows>
struct GradientTile {
  const Rows* a;  // [pairs]: the tile in each (tick, block) pair
  GradientPanel<Number> x;
  int pairs;
  int rows;         // rows of the tile that count
  int columns;      // columns of the panel that count
  float* const* c;  // [rows]: address of the panel's first column in each row of C
};

// Forward gate stage of `units` units in one lane block.
struct GateForward {
  int units;
  float slope;                // ModelSpec::gate_slope
  float* gates;               // [4 units][16]: pre-activations in, activations out
  const float* c_before;      // [units][16]
  float* c;                   // [units][16]
  float* h;                   // [units][16]
  float* h_dropped;           // [units][16], h after dropout; nullptr for none
  const std::uint16_t* keep;  // [units]: bit b says that lane b is kept
  float keep_scale;
};

struct GateBackward {
  int units;
  float slope;   // ModelSpec::gate_slope
  float* gates;  // [4 units][16]: activations in, gradients of the pre-activations out
  const float* c_before;
  const float* c;
  const float* dh_above;      // [units][16], gradient from the layer above or the output; nullptr for zero
  const float* dh_recurrent;  // [units][16], from the next tick; nullptr for zero
  float* dc;                  // [units][16]: in from the next tick, out to the previous
  const std::uint16_t* keep;  // as in GateForward: applied to dh_above; nullptr for none
  float keep_scale;
};

struct DropoutMask {
  int units;  // how many, from first_unit
  int first_unit;
  std::uint32_t tick;
  std::uint32_t block;  // lane block of the batch
  std::uint32_t layer;
  std::uint64_t step;
  std::uint64_t seed;
  std::uint32_t threshold;  // dropout_threshold(p)
};

// What `peak` reads and writes.
struct alignas(64) PeakOperands {
  float factor[kLanes];
  float term[kLanes];
  float total[kLanes];
};

struct KernelTable {
  const char* name;
  int tile_rows;
  int tile_blocks;  // lane blocks that one tile product takes at most
  int panel_width;  // columns of a gradient panel, a multiple of 16

  // Whether a product of pairs is one instruction rather than several that compute the same.
  bool multiplies_bf16;

  // Computes `tiles` tiles, with `rows` rows in all, that are contiguous in A and C.
  void (*tile_products)(TileProduct<float>, int tiles, int rows);
  void (*gradient_tile)(const GradientTile<float, TileRows>&);
  // The same for pairs: for each of them, sum += second * second, then sum += first * first.
  void (*bf16_products)(TileProduct<Bf16Pair>, int tiles, int rows);
  void (*bf16_gradient_tile)(const GradientTile<Bf16Pair, Bf16TileRows>&);
  // x [depth][width], rounded to bfloat16: out[k][i] is the pair of x[2k][i] and x[2k + 1][i].
  void (*round_rows)(const float* x, int depth, int width, Bf16Pair* out);
  // A tile's rows, rounded: out [rows][kLanePairs].
  void (*round_tile)(TileRows x, int rows, Bf16Pair* out);
  void (*transpose_block)(SquareRows in, SquareTarget out);
  void (*gate_forward)(const GateForward&);
  void (*gate_backward)(const GateBackward&);
  void (*dropout_mask)(const DropoutMask&, std::uint16_t* keep);
  // y[i] = bit of lane set ? x[i] * scale : 0, for units x 16 lanes; x may be y.
  void (*apply_mask)(const float* x, const std::uint16_t* keep, float scale, int units, float* y);
  // Softmax cross-entropy of one lane block: logits [rows][16] in, their gradient times `scale` out if `gradient`; loss
  // [16].
  void (*softmax_loss)(float* logits, int rows, const std::int32_t* targets, int lanes, float scale, bool gradient,
                       float* loss);
  // out = initial + A x for one vector, x [depth], and all rows of `panels` panels; out may be initial.
  void (*matrix_vector)(MatrixPanels<float> a, int panels, int depth, const float* x, ConstPanelRows initial,
                        PanelRows out);
  // The same for bfloat16, and for bytes, which in row r are multiples of scales[r].
  void (*matrix_vector_bf16)(MatrixPanels<std::uint16_t> a, int panels, int depth, const float* x,
                             ConstPanelRows initial, PanelRows out);
  void (*matrix_vector_int8)(MatrixPanels<std::int8_t> a, ConstPanelRows scales, int panels, int depth, const float* x,
                             ConstPanelRows initial, PanelRows out);
  // Gates [4 units] of a single sequence, interleaved; slope: ModelSpec::gate_slope.
  void (*gate_single)(int units, float slope, const float* gates, float* c, float* h);
  double (*sum_of_squares)(const float* x, std::size_t count);
  // One step of an optimiser on `count` parameters p, with their gradients g times `scale` and their part of the slots;
  // a slot that the rule does not keep may be nullptr.
  void (*update)(const UpdateConstants&, float scale, const float* g, float* first, float* second, float* p,
                 std::size_t count);
  // For each row: sums[r] = sum over pairs and lanes of dy[p][r][lane]; scaled[r] = the same of dy[p][r][lane] *
  // x[p][lane] (0 where x is nullptr).
  void (*sum_rows)(const TileRows* dy, const float* const* x, int pairs, int rows, float* sums, float* scaled);
  // y += x
  void (*add)(const float* x, float* y, std::size_t count);
  // Fused multiply-adds in registers only; returns the number of floating-point operations.
  double (*peak)(int iterations, PeakOperands& operands);
};

// The table of this instruction set, or nullptr if it is not compiled in.
const KernelTable* baseline_kernels();
const KernelTable* avx2_kernels();
const KernelTable* avx512_kernels();
const KernelTable* avx512bf16_kernels();
const KernelTable* neon_kernels();

// The tables that run on this CPU, best first.
std::vector<const KernelTable*> supported_kernels();

// The best table this CPU runs; CUDNN_LSTM_CPU_ISA (baseline, avx2, avx512, avx512bf16, neon) overrides it. Throws
// Error if the one asked for does not run here.
const KernelTable& choose_kernels();

}  // namespace cudnn_lstm::cpu
