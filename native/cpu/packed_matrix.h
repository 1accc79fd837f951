// A weight matrix as the tile products read it: tiles of tile_rows rows, each [depth][tile_rows], cut along the depth
// into chunks whose right-hand side fits in the first-level cache. Repacked after each optimiser step, as floats or
// rounded to pairs of bfloat16 (kernels.h).
#pragma once

#include <vector>

#include "core/weight_form.h"
#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"
#include "cpu/row_blocks.h"
#include "cpu/stop_request.h"

namespace cudnn_lstm::cpu {

inline constexpr int kDepthChunk = 256;  // 256 x 16 floats: 16 KB
static_assert(kDepthChunk % 2 == 0, "no pair lies in two chunks");

// The lane blocks that a product multiplies: rows of floats or, if the matrix is in bfloat16, of pairs.
struct ProductInputs {
  const float* const* rows = nullptr;
  const Bf16Pair* const* bf16 = nullptr;
};

// Packed the same way for any number of threads: a thread's share of the rows begins at a tile (partition.h).
class PackedMatrix {
 public:
  void shape(const KernelTable& kernels, int rows, int depth, Arithmetic arithmetic = Arithmetic::fp32);

  // Element (row, k) lies at data[row * row_stride + k * depth_stride]. Gates are interleaved while they are packed: 4u
  // + g stands for g * hidden + u of the source, among the rows (hidden_rows > 0) or in the depth (hidden_depth > 0).
  struct Source {
    const float* data;
    std::size_t row_stride;
    std::size_t depth_stride;
    int hidden_rows = 0;
    int hidden_depth = 0;
  };
  // Packs part `part` of `parts`.
  void pack(const Source& source, int part, int parts);
  // The first row of part `part`; for `part` == `parts`, the number of rows.
  int first_row(int part, int parts) const;
  // Reads back a matrix packed as floats: out[k] = element (row, first + k), for `count` columns.
  void read(int row, int first, int count, float* out) const;
  // Frees the memory; call shape before the next use.
  void release() { *this = PackedMatrix(); }

  bool empty() const { return rows_ == 0; }
  int rows() const { return rows_; }
  int depth() const { return depth_; }
  int depth_chunks() const { return (depth_ + kDepthChunk - 1) / kDepthChunk; }
  bool of_bf16() const { return arithmetic_ == Arithmetic::bf16; }
  std::size_t bytes() const { return data_.bytes() + bf16_.bytes(); }

  // Multiplies rows [first, last), `first` on a tile border, by B into C. For each of `blocks` lane blocks, b is
  // [depth][16], or the same in pairs, and c addresses row 0 of the matrix. initial: [rows] or nullptr. zero: start
  // from zero. Ends early if a stop is asked for, for which it looks as often as the size of the product warrants.
  void multiply(int first, int last, int blocks, const ProductInputs& b, float* const* c, const float* initial,
                bool zero, StopRequest& stop) const;

 private:
  template <typename Number>
  void multiply_numbers(int first, int last, int blocks, const AlignedBuffer<Number>& data, const Number* const* b,
                        float* const* c, const float* initial, bool zero, StopRequest& stop) const;

  const KernelTable* kernels_ = nullptr;
  int rows_ = 0;
  int depth_ = 0;
  int tiles_ = 0;
  Arithmetic arithmetic_ = Arithmetic::fp32;
  AlignedBuffer<float> data_;     // fp32
  AlignedBuffer<Bf16Pair> bf16_;  // bf16
};

// A weight matrix as matrix-vector products read it: panels of 64 rows, each [depth][64], the last padded with zeros;
// of floats, bfloat16, or bytes with one scale per row.
class PanelMatrix {
 public:
  void shape(int rows, int depth, WeightForm form);
  // Packs part `part` of `parts` from contiguous rows of the source; hidden: as PackedMatrix::Source::hidden_rows, 0
  // for none.
  void pack(const float* source, int hidden, int part, int parts);
  int first_row(int part, int parts) const;
  void read(int row, int first, int count, float* out) const;
  void release() { *this = PanelMatrix(); }

  int depth() const { return depth_; }
  // out = initial + `panels` panels of rows, from row `first` on, times x; `first` begins a panel, and initial and out
  // begin there.
  void multiply(const KernelTable& kernels, int first, int panels, const float* x, ConstPanelRows initial,
                PanelRows out) const;
  std::size_t bytes() const { return data_.bytes() + halves_.bytes() + narrow_.bytes() + scales_.bytes(); }

 private:
  int panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  void pack_narrow(const float* const* rows, int first, int valid);

  int rows_ = 0;
  int depth_ = 0;
  WeightForm form_ = WeightForm::fp32;
  AlignedBuffer<float> data_;            // fp32
  AlignedBuffer<std::uint16_t> halves_;  // bf16
  AlignedBuffer<std::int8_t> narrow_;    // int8
  PanelVectors scales_;                  // [1][rows]: int8
};

// The canonical number of row `row` of interleaved gates.
inline int canonical_row(int row, int hidden) { return hidden > 0 ? row % 4 * hidden + row / 4 : row; }

}  // namespace cudnn_lstm::cpu
