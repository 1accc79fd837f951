#include "cpu/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/partition.h"
#include "cpu/shuffle.h"

namespace cudnn_lstm::cpu {
namespace {

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// out[k * stride + r] = rows[r][k]: four rows and four columns at a time, the rest one by one.
void pack_rows(const float* const* rows, int tile_rows, int stride, int depth, float* out) {
  const int whole = depth / 4 * 4;
  int r = 0;
  for (; r + 4 <= tile_rows; r += 4) {
    for (int k = 0; k < whole; k += 4) {
      const Four r0 = *reinterpret_cast<const Four*>(rows[r] + k);
      const Four r1 = *reinterpret_cast<const Four*>(rows[r + 1] + k);
      const Four r2 = *reinterpret_cast<const Four*>(rows[r + 2] + k);
      const Four r3 = *reinterpret_cast<const Four*>(rows[r + 3] + k);
      const Four a = SHUFFLE_FOUR(r0, r1, 0, 4, 1, 5);
      const Four b = SHUFFLE_FOUR(r0, r1, 2, 6, 3, 7);
      const Four c = SHUFFLE_FOUR(r2, r3, 0, 4, 1, 5);
      const Four d = SHUFFLE_FOUR(r2, r3, 2, 6, 3, 7);
      float* to = out + static_cast<std::size_t>(k) * stride + r;
      *reinterpret_cast<Four*>(to) = SHUFFLE_FOUR(a, c, 0, 1, 4, 5);
      *reinterpret_cast<Four*>(to + stride) = SHUFFLE_FOUR(a, c, 2, 3, 6, 7);
      *reinterpret_cast<Four*>(to + 2 * stride) = SHUFFLE_FOUR(b, d, 0, 1, 4, 5);
      *reinterpret_cast<Four*>(to + 3 * stride) = SHUFFLE_FOUR(b, d, 2, 3, 6, 7);
    }
    for (int k = whole; k < depth; ++k)
      for (int i = r; i < r + 4; ++i) out[static_cast<std::size_t>(k) * stride + i] = rows[i][k];
  }
  for (; r < tile_rows; ++r)
    for (int k = 0; k < depth; ++k) out[static_cast<std::size_t>(k) * stride + r] = rows[r][k];
}

// A copy whose length the compiler knows for the large tiles: it runs once per column, where a library call would
// cost more than the copy.
void copy_tile_row(const float* from, int tile_rows, float* to) {
  switch (tile_rows) {
    case 8:
      std::memcpy(to, from, 8 * sizeof(float));
      break;
    case 6:
      std::memcpy(to, from, 6 * sizeof(float));
      break;
    default:
      for (int r = 0; r < tile_rows; ++r) to[r] = from[r];
  }
}

}  // namespace

void PackedMatrix::shape(const KernelTable& kernels, int rows, int depth, Arithmetic arithmetic) {
  kernels_ = &kernels;
  arithmetic_ = arithmetic;
  rows_ = rows;
  depth_ = depth;
  tiles_ = (rows + kernels.tile_rows - 1) / kernels.tile_rows;
  const std::size_t padded = static_cast<std::size_t>(tiles_) * kernels.tile_rows;
  data_.resize(of_bf16() ? 0 : padded * depth);
  bf16_.resize(of_bf16() ? padded * depth_steps<Bf16Pair>(depth) : 0);
}

void PackedMatrix::pack(const Source& source, int part, int parts) {
  constexpr int kMostTaken = 4;
  alignas(64) float floats[kMostTaken * kMaxTileRows * kDepthChunk];  // values to be rounded
  const int tile_rows = kernels_->tile_rows;
  const int end = share_begin(tiles_, parts, part + 1);
  int taken = 1;  // tiles
  for (int tile = share_begin(tiles_, parts, part); tile < end; tile += taken) {
    const int row = tile * tile_rows;
    const int valid = std::min(tile_rows, rows_ - row);
    // Rows that are contiguous in the source are packed directly. If columns are contiguous, several tiles are taken at
    // a time, since each column lies in a separate cache line. (Both are true of a matrix of one column.)
    const bool rows_together = source.depth_stride == 1 && source.hidden_depth == 0;
    const bool adjacent = !rows_together && source.row_stride == 1 && source.hidden_rows == 0 && valid == tile_rows;
    taken = 1;
    while (adjacent && taken < kMostTaken && tile + taken < end && row + (taken + 1) * tile_rows <= rows_) ++taken;
    const float* rows[kMaxTileRows];
    for (int r = 0; r < tile_rows; ++r) {
      const int from = row + std::min(r, valid - 1);
      const std::size_t place = source.hidden_rows > 0 ? static_cast<std::size_t>(from % 4) * source.hidden_rows +
                                                             static_cast<std::size_t>(from / 4)
                                                       : static_cast<std::size_t>(from);
      rows[r] = source.data + place * source.row_stride;
    }
    for (int chunk = 0; chunk < depth_; chunk += kDepthChunk) {
      const int depth = std::min(kDepthChunk, depth_ - chunk);
      // All tiles of one depth chunk lie together: [chunk][tile][k][tile_rows].
      float* out = of_bf16() ? floats
                             : data_.data() + static_cast<std::size_t>(tiles_) * tile_rows * chunk +
                                   static_cast<std::size_t>(tile) * tile_rows * depth;
      const auto round = [&] {
        if (!of_bf16()) return;
        const int steps = depth_steps<Bf16Pair>(depth);
        Bf16Pair* const to = bf16_.data() + static_cast<std::size_t>(tiles_) * tile_rows * (chunk / 2) +
                             static_cast<std::size_t>(tile) * tile_rows * steps;
        for (int t = 0; t < taken; ++t) {
          kernels_->round_rows(floats + static_cast<std::size_t>(t) * tile_rows * depth, depth, tile_rows,
                               to + static_cast<std::size_t>(t) * tile_rows * steps);
        }
      };
      const float* from[kMaxTileRows];
      for (int r = 0; r < tile_rows; ++r) from[r] = rows[r];
      if (rows_together) {
        for (int r = 0; r < tile_rows; ++r) from[r] += chunk;
        pack_rows(from, tile_rows, tile_rows, depth, out);
        round();
        continue;
      }
      for (int k = 0; k < depth; ++k) {
        const int column = chunk + k;
        const std::size_t place = source.hidden_depth > 0 ? static_cast<std::size_t>(column % 4) * source.hidden_depth +
                                                                static_cast<std::size_t>(column / 4)
                                                          : static_cast<std::size_t>(column);
        const std::size_t offset = place * source.depth_stride;
        if (adjacent) {
          for (int t = 0; t < taken; ++t) {
            copy_tile_row(from[0] + offset + t * tile_rows, tile_rows,
                          out + static_cast<std::size_t>(t) * tile_rows * depth);
          }
        } else {
          for (int r = 0; r < tile_rows; ++r) out[r] = from[r][offset];
        }
        out += tile_rows;
      }
      round();
    }
  }
}

int PackedMatrix::first_row(int part, int parts) const {
  return std::min(share_begin(tiles_, parts, part) * kernels_->tile_rows, rows_);
}

void PackedMatrix::read(int row, int first, int count, float* out) const {
  const int tile_rows = kernels_->tile_rows;
  for (int k = first; k < first + count; ++k) {
    const int chunk = k / kDepthChunk * kDepthChunk;
    const int depth = std::min(kDepthChunk, depth_ - chunk);
    const float* tile =
        data_.data() +
        (static_cast<std::size_t>(tiles_) * chunk + static_cast<std::size_t>(row / tile_rows) * depth) * tile_rows;
    *out++ = tile[static_cast<std::size_t>(k - chunk) * tile_rows + row % tile_rows];
  }
}

void PanelMatrix::shape(int rows, int depth, WeightForm form) {
  rows_ = rows;
  depth_ = depth;
  form_ = form;
  const std::size_t padded = static_cast<std::size_t>(panels()) * kPanelRows;
  data_.resize(form == WeightForm::fp32 ? padded * depth : 0);
  halves_.resize(form == WeightForm::bf16 ? padded * depth : 0);
  narrow_.resize(form == WeightForm::int8 ? padded * depth : 0);
  scales_ = PanelVectors(rows);
  if (form == WeightForm::int8) scales_.ensure(1);
}

int PanelMatrix::first_row(int part, int parts) const {
  return std::min(rows_, static_cast<int>(static_cast<long long>(panels()) * part / parts) * kPanelRows);
}

void PanelMatrix::pack(const float* source, int hidden, int part, int parts) {
  constexpr int kRun = 64;  // columns: 16 KB of a panel, which stay in the first-level cache while its rows are packed
  const int end = first_row(part + 1, parts);
  for (int row = first_row(part, parts); row < end; row += kPanelRows) {
    const int valid = std::min(kPanelRows, rows_ - row);
    const float* rows[kPanelRows];
    for (int r = 0; r < valid; ++r) {
      rows[r] = source + static_cast<std::size_t>(canonical_row(row + r, hidden)) * depth_;
    }
    if (form_ != WeightForm::fp32) {
      pack_narrow(rows, row, valid);
      continue;
    }
    float* out = data_.data() + static_cast<std::size_t>(row) * depth_;
    for (int k = 0; k < depth_; k += kRun) {
      const int run = std::min(kRun, depth_ - k);
      pack_rows(rows, valid, kPanelRows, run, out + static_cast<std::size_t>(k) * kPanelRows);
      for (int r = 0; r < valid; ++r) rows[r] += run;
    }
  }
}

// Packs `valid` rows from row `first` on, which begins a panel.
void PanelMatrix::pack_narrow(const float* const* rows, int first, int valid) {
  const std::size_t panel = static_cast<std::size_t>(first) * depth_;
  for (int r = 0; r < valid; ++r) {
    if (form_ == WeightForm::bf16) {
      std::uint16_t* out = halves_.data() + panel + r;
      for (int k = 0; k < depth_; ++k) out[static_cast<std::size_t>(k) * kPanelRows] = to_bf16(rows[r][k]);
      continue;
    }
    float largest = 0;
    for (int k = 0; k < depth_; ++k) largest = std::max(largest, std::fabs(rows[r][k]));
    const float scale = byte_scale(largest);
    scales_.vector(0)[first + r] = scale;
    std::int8_t* out = narrow_.data() + panel + r;
    for (int k = 0; k < depth_; ++k) out[static_cast<std::size_t>(k) * kPanelRows] = to_byte(rows[r][k], scale);
  }
}

void PanelMatrix::read(int row, int first, int count, float* out) const {
  const std::size_t from = static_cast<std::size_t>(row / kPanelRows) * kPanelRows * depth_ +
                           static_cast<std::size_t>(first) * kPanelRows + row % kPanelRows;
  for (int k = 0; k < count; ++k) {
    const std::size_t at = from + static_cast<std::size_t>(k) * kPanelRows;
    out[k] = form_ == WeightForm::fp32   ? data_[at]
             : form_ == WeightForm::bf16 ? from_bf16(halves_[at])
                                         : static_cast<float>(narrow_[at]) * scales_.vector(0)[row];
  }
}

void PanelMatrix::multiply(const KernelTable& kernels, int first, int panels, const float* x, ConstPanelRows initial,
                           PanelRows out) const {
  const std::size_t at = static_cast<std::size_t>(first) * depth_;
  switch (form_) {
    case WeightForm::fp32:
      return kernels.matrix_vector(MatrixPanels<float>(data_.data() + at), panels, depth_, x, initial, out);
    case WeightForm::bf16:
      return kernels.matrix_vector_bf16(MatrixPanels<std::uint16_t>(halves_.data() + at), panels, depth_, x, initial,
                                        out);
    case WeightForm::int8:
      return kernels.matrix_vector_int8(MatrixPanels<std::int8_t>(narrow_.data() + at), scales_.rows(0, first), panels,
                                        depth_, x, initial, out);
  }
}

void PackedMatrix::multiply(int first, int last, int blocks, const ProductInputs& b, float* const* c,
                            const float* initial, bool zero, StopRequest& stop) const {
  if (of_bf16()) return multiply_numbers(first, last, blocks, bf16_, b.bf16, c, initial, zero, stop);
  multiply_numbers(first, last, blocks, data_, b.rows, c, initial, zero, stop);
}

template <typename Number>
void PackedMatrix::multiply_numbers(int first, int last, int blocks, const AlignedBuffer<Number>& data,
                                    const Number* const* b, float* const* c, const float* initial, bool zero,
                                    StopRequest& stop) const {
  // In multiply-adds; an emulated product of pairs takes as long as three.
  constexpr std::size_t kBetweenLooks = (std::size_t{1} << 24) / (std::is_same_v<Number, Bf16Pair> ? 3 : 1);
  const int tile_rows = kernels_->tile_rows;
  const int first_tile = first / tile_rows;
  const int count = (last - first + tile_rows - 1) / tile_rows;
  std::size_t since = 0;  // multiply-adds since the last look
  for (int chunk = 0; chunk < depth_; chunk += kDepthChunk) {
    const int before = depth_steps<Number>(chunk), depth = depth_steps<Number>(std::min(kDepthChunk, depth_ - chunk));
    const std::size_t tile_size = static_cast<std::size_t>(tile_rows) * depth;
    // As many tiles at a time as fit between two looks: all of them, except in a layer of many thousand rows.
    const int most = static_cast<int>(
        std::clamp<std::size_t>(kBetweenLooks / (tile_size * kLanes * kMaxTileBlocks), 1, std::max(count, 1)));
    TileProduct<Number> product{};
    product.depth = depth;
    product.zero = chunk == 0 && zero;
    for (int block = 0; block < blocks; block += product.blocks) {
      product.blocks = std::min(blocks - block, kernels_->tile_blocks);
      for (int tile = 0; tile < count; tile += most) {
        const int run = std::min(most, count - tile);
        const int row = first + tile * tile_rows;
        product.a = PackedTiles<Number>(data.data() + static_cast<std::size_t>(tiles_) * tile_rows * before +
                                        (first_tile + tile) * tile_size);
        product.initial = chunk == 0 && initial != nullptr ? initial + row : nullptr;
        for (int j = 0; j < product.blocks; ++j) {
          product.b[j] = b[block + j] + static_cast<std::size_t>(before) * kLanes;
          product.c[j] = c[block + j] + static_cast<std::size_t>(row) * kLanes;
        }
        since += run * tile_size * kLanes * product.blocks;
        if (since > kBetweenLooks) {
          if (stop.asked()) return;
          since = 0;
        }
        const int rows = std::min(run * tile_rows, last - row);
        if constexpr (std::is_same_v<Number, Bf16Pair>) {
          kernels_->bf16_products(product, run, rows);
        } else {
          kernels_->tile_products(product, run, rows);
        }
      }
    }
  }
}

}  // namespace cudnn_lstm::cpu
