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
#include <vector>

#include "core/optimizers.h"

namespace cudnn_lstm::cpu {

inline constexpr int kLanes = 16;       // sequences in a lane block
inline constexpr int kMaxTileRows = 8;  // the tallest tile of any table
inline constexpr int kMaxTileBlocks = 2;
inline constexpr int kMaxPanelWidth = 32;

// C (+)= A * B for one tile of A: tile_rows rows, `depth` columns, stored [depth][tile_rows]; B is [depth][16] for each
// of `blocks` lane blocks. Rows from `rows` on are computed and dropped.
struct TileProduct {
  const float* a;
  int depth;
  int rows;
  const float* initial;  // [rows] broadcast over the lanes to start from, or nullptr: start from what C holds
  bool zero;             // start from zero (if initial is nullptr)
  int blocks;            // 1 or 2
  const float* b[kMaxTileBlocks];
  float* c[kMaxTileBlocks];
};

// Rows of a lane block, 16 floats apart, of which a whole tile of any table may be read: RowBlocks alone makes these,
// and has room for what a tile reads past a block's last row.
class TileRows {
 public:
  TileRows() = default;
  const float* data() const { return data_; }

 private:
  friend class RowBlocks;
  explicit TileRows(const float* data) : data_(data) {}

  const float* data_ = nullptr;
};

// One tile of a weight gradient: C[row][column] += sum over pairs p and lanes b of A_p[row][b] * X[p][b][column].
struct GradientTile {
  const TileRows* a;  // [pairs]: the tile in each (tick, block) pair
  const float* x;     // [pairs][16][panel_width], from pack_panel
  int pairs;
  int rows;         // of the tile that count
  int columns;      // of the panel that count
  float* const* c;  // [rows]: address of the panel's first column in each row of C
};

// Forward gate stage of `units` units in one lane block.
struct GateForward {
  int units;
  float slope;                // of ModelSpec::gate_slope
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
  float slope;   // of ModelSpec::gate_slope
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

struct KernelTable {
  const char* name;
  int tile_rows;
  int tile_blocks;  // lane blocks that one tile product takes at best
  int panel_width;  // columns of a gradient panel, a multiple of 16

  // `tiles` tiles, of `rows` rows in all, that lie behind one another in A and C.
  void (*tile_products)(TileProduct, int tiles, int rows);
  void (*gradient_tile)(const GradientTile&);
  // out[16][stride] = transpose of in[16][16].
  void (*transpose_block)(const float* in, float* out, int stride);
  void (*gate_forward)(const GateForward&);
  void (*gate_backward)(const GateBackward&);
  void (*dropout_mask)(const DropoutMask&, std::uint16_t* keep);
  // y[i] = bit of lane set ? x[i] * scale : 0, for units x 16 lanes; x may be y.
  void (*apply_mask)(const float* x, const std::uint16_t* keep, float scale, int units, float* y);
  // Softmax cross-entropy of one lane block: logits [rows][16] in, their gradient times `scale` out where `gradient`;
  // loss [16].
  void (*softmax_loss)(float* logits, int rows, const std::int32_t* targets, int lanes, float scale, bool gradient,
                       float* loss);
  // out[rows] = initial[rows] + A x for one vector; A in panels of 64 rows, [panel][depth][64].
  void (*matrix_vector)(const float* a, int rows, int depth, const float* x, const float* initial, float* out);
  // The same of bfloat16, and of bytes of which row r's are steps of scales[r].
  void (*matrix_vector_bf16)(const std::uint16_t* a, int rows, int depth, const float* x, const float* initial,
                             float* out);
  void (*matrix_vector_int8)(const std::int8_t* a, const float* scales, int rows, int depth, const float* x,
                             const float* initial, float* out);
  // Gates [4 units] of a single sequence, interleaved; slope: of ModelSpec::gate_slope.
  void (*gate_single)(int units, float slope, const float* gates, float* c, float* h);
  double (*sum_of_squares)(const float* x, std::size_t count);
  // One step of an optimiser on `count` parameters p, their gradients g times `scale` and their places in the slots;
  // a slot that the rule does not keep may be nullptr.
  void (*update)(const UpdateConstants&, float scale, const float* g, float* first, float* second, float* p,
                 std::size_t count);
  // For each row: sums[r] = sum over pairs and lanes of dy[p][r][lane]; scaled[r] = the same of dy[p][r][lane] *
  // x[p][lane] (0 where x is nullptr).
  void (*sum_rows)(const TileRows* dy, const float* const* x, int pairs, int rows, float* sums, float* scaled);
  // y += x
  void (*add)(const float* x, float* y, std::size_t count);
  // Fused multiply-adds in registers only: returns how many floating-point operations it did.
  double (*peak)(int iterations, float* sink);
};

// The table of this instruction set, or nullptr if it is not compiled in.
const KernelTable* baseline_kernels();
const KernelTable* avx2_kernels();
const KernelTable* avx512_kernels();
const KernelTable* neon_kernels();

// The tables that run on this CPU, best first.
std::vector<const KernelTable*> supported_kernels();

// The best table this CPU runs; CUDNN_LSTM_CPU_ISA (baseline, avx2, avx512, neon) overrides it. Throws Error if the one
// asked for does not run here.
const KernelTable& choose_kernels();

}  // namespace cudnn_lstm::cpu
