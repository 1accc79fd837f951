// Lane blocks of rows that tiles read. A tile of a gradient product reads as many rows as it is tall, also past the
// last row of a block: what it reads there is multiplied and dropped, but it must be memory. So the room for it is part
// of this type, and a tile takes nothing but a TileRows, which only this type gives out.
#pragma once

#include <algorithm>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"

namespace cudnn_lstm::cpu {

// [blocks][rows][16], and after each block's rows a tile's overhang.
class RowBlocks {
 public:
  // rows: of a block.
  explicit RowBlocks(int rows = 0) : rows_(rows) {}

  // Makes room for `blocks` blocks; grows, never shrinks. Throws Error(kOutOfMemory).
  void ensure(std::size_t blocks) {
    if (data_.size() < blocks * stride()) data_.resize(blocks * stride());
  }
  float* block(std::size_t index) { return data_.data() + index * stride(); }
  // The tile that begins at `row`, less than `rows`, of a block.
  TileRows tile(std::size_t index, int row) const {
    return TileRows(data_.data() + index * stride() + static_cast<std::size_t>(row) * kLanes);
  }
  std::size_t bytes() const { return data_.bytes(); }

 private:
  // More than a tile's overhang: the odd size keeps the blocks of one unit from falling into the same cache sets.
  static constexpr int kOverhang = 12;
  static_assert(kOverhang >= kMaxTileRows - 1);

  std::size_t stride() const { return static_cast<std::size_t>(rows_ + kOverhang) * kLanes; }

  int rows_;
  AlignedBuffer<float> data_;
};

}  // namespace cudnn_lstm::cpu
