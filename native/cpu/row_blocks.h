// Lane blocks of rows, and the places in them that kernels may take (kernels.h).
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"

namespace cudnn_lstm::cpu {

// One block of LaneBlocks.
class LaneBlock {
 public:
  float* rows() const { return data_; }
  float* row(int index) const { return data_ + static_cast<std::size_t>(index) * kLanes; }
  // Rows [first, first + 16), even if fewer of them count; `first` is a multiple of 16 and an existing row.
  SquareRows square(int first) const { return SquareRows(row(first)); }
  // For writing rows [first, first + 16), all of which exist.
  SquareTarget target(int first) const { return {row(first), kLanes}; }

 private:
  friend class LaneBlocks;
  explicit LaneBlock(float* data) : data_(data) {}

  float* data_;
};

// [blocks][rows rounded up to 16][16].
class LaneBlocks {
 public:
  // rows: in a block.
  explicit LaneBlocks(int rows = 0) : LaneBlocks(rows, 0) {}

  // Makes room for `blocks` blocks; grows, never shrinks. Throws Error(kOutOfMemory).
  void ensure(std::size_t blocks) {
    if (data_.size() < blocks * stride_) data_.resize(blocks * stride_);
  }
  LaneBlock block(std::size_t index) { return LaneBlock(data_.data() + index * stride_); }
  const float* rows(std::size_t index) const { return data_.data() + index * stride_; }
  // Floats from one block to the next.
  std::size_t stride() const { return stride_; }
  std::size_t bytes() const { return data_.bytes(); }
  void zero() { data_.zero(); }

 protected:
  // extra: rows after each block's own.
  LaneBlocks(int rows, int extra) : stride_(static_cast<std::size_t>((rows + 15) / 16 * 16 + extra) * kLanes) {}

 private:
  std::size_t stride_;
  AlignedBuffer<float> data_;
};

// Lane blocks of rows that tiles read. A tile of a gradient product reads its full height, even past the last row of a
// block: what it reads there is multiplied and discarded, but the memory must exist.
class RowBlocks : public LaneBlocks {
 public:
  explicit RowBlocks(int rows = 0) : LaneBlocks(rows, kOverhang) {}

  // The tile of a block that begins at `row`, which is less than `rows`.
  TileRows tile(std::size_t index, int row) const {
    return TileRows(rows(index) + static_cast<std::size_t>(row) * kLanes);
  }

 private:
  // More than a tile's overhang: the odd size keeps the blocks of one unit from mapping to the same cache sets.
  static constexpr int kOverhang = 12;
  static_assert(kOverhang >= kMaxTileRows - 1);
};

inline constexpr int kPanelPairs = 16;  // a panel of this many (tick, block) pairs fits in the first-level cache

// Packed columns of gradient products, [panels][kPanelPairs][16 lanes][width], as floats or as pairs of lanes. A tile
// reads a panel's whole width.
template <typename Number>
class GradientPanels {
 public:
  // width: of a panel, as in the kernels' table.
  void ensure(std::size_t panels, int width) {
    width_ = width;
    if (data_.size() < panels * panel_size()) data_.resize(panels * panel_size());
  }
  GradientPanel<Number> panel(std::size_t index) const {
    return GradientPanel<Number>(data_.data() + index * panel_size());
  }
  // [kPanelPairs * 16 lanes, or the pairs of those][width].
  Number* rows(std::size_t index) { return data_.data() + index * panel_size(); }
  // Columns [first, first + 16) of a pair in a panel.
  SquareTarget columns(std::size_t panel, int pair, int first) {
    static_assert(std::is_same_v<Number, float>);
    return {data_.data() + panel * panel_size() + static_cast<std::size_t>(pair) * kLanes * width_ + first, width_};
  }
  std::size_t bytes() const { return data_.bytes(); }

 private:
  std::size_t panel_size() const {
    return static_cast<std::size_t>(kPanelPairs) * depth_steps<Number>(kLanes) * width_;
  }

  int width_ = 0;
  AlignedBuffer<Number> data_;
};

// Tiles of gate gradients, rounded: [kPanelPairs][tile_rows][kLanePairs].
class RoundedTiles {
 public:
  void ensure(int tile_rows) {
    size_ = static_cast<std::size_t>(tile_rows) * kLanePairs;
    if (data_.size() < kPanelPairs * size_) data_.resize(kPanelPairs * size_);
  }
  Bf16Pair* rows(int index) { return data_.data() + index * size_; }
  Bf16TileRows tile(int index) const { return Bf16TileRows(data_.data() + index * size_); }
  std::size_t bytes() const { return data_.bytes(); }

 private:
  std::size_t size_ = 0;
  AlignedBuffer<Bf16Pair> data_;
};

// Lane blocks, rounded to pairs of rows: [blocks][depth / 2, rounded up][16].
class RoundedBlocks {
 public:
  // Makes room for `count` blocks of at most `depth` rows; grows, never shrinks. Throws Error(kOutOfMemory).
  void ensure(int count, int depth) {
    const std::size_t size = static_cast<std::size_t>(count) * depth_steps<Bf16Pair>(depth) * kLanes;
    if (data_.size() < size) data_.resize(size);
    if (static_cast<int>(blocks_.size()) < count) blocks_.resize(count);
  }
  // Rounds `count` blocks [depth][16], for which there must be room; the result is valid until the next call.
  const Bf16Pair* const* round(const KernelTable& kernels, const float* const* blocks, int count, int depth) {
    const std::size_t size = static_cast<std::size_t>(depth_steps<Bf16Pair>(depth)) * kLanes;
    for (int i = 0; i < count; ++i) {
      Bf16Pair* const out = data_.data() + i * size;
      kernels.round_rows(blocks[i], depth, kLanes, out);
      blocks_[i] = out;
    }
    return blocks_.data();
  }
  std::size_t bytes() const { return data_.bytes(); }

 private:
  AlignedBuffer<Bf16Pair> data_;
  std::vector<const Bf16Pair*> blocks_;
};

// Vectors with one element per row, [count][rows rounded up to whole panels]: matrix-vector products read and write
// whole panels of them.
class PanelVectors {
 public:
  explicit PanelVectors(int rows = 0) : stride_((rows + kPanelRows - 1) / kPanelRows * kPanelRows) {}

  // Makes room for `count` vectors; grows, never shrinks. Throws Error(kOutOfMemory).
  void ensure(std::size_t count) {
    if (data_.size() < count * stride_) data_.resize(count * stride_);
  }
  float* vector(std::size_t index) { return data_.data() + index * stride_; }
  const float* vector(std::size_t index) const { return data_.data() + index * stride_; }
  // A vector from row `first` on, a multiple of kPanelRows.
  PanelRows rows(std::size_t index, int first = 0) { return PanelRows(vector(index) + first); }
  ConstPanelRows rows(std::size_t index, int first = 0) const { return ConstPanelRows(vector(index) + first); }
  // Floats from one vector to the next.
  std::size_t stride() const { return stride_; }
  std::size_t bytes() const { return data_.bytes(); }
  void release() { data_.resize(0); }

 private:
  std::size_t stride_;
  AlignedBuffer<float> data_;
};

}  // namespace cudnn_lstm::cpu
