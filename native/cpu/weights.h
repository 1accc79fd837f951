// The packed copies of the parameters that the products read, made again after each change of the parameters.
#pragma once

#include <vector>

#include "core/layout.h"
#include "cpu/packed_matrix.h"
#include "cpu/partition.h"

namespace cudnn_lstm::cpu {

// in: features into the layer; gate rows interleaved (kernels.h).
struct LayerWeights {
  PackedMatrix input;           // [4H, in]; unused for one-hot input
  PackedMatrix recurrent;       // [4H, H]
  PackedMatrix input_back;      // [in, 4H]: gradient to the layer below; unused where nothing below learns
  PackedMatrix recurrent_back;  // [H, 4H]
  AlignedBuffer<float> bias;    // [4H], padded to 64
  AlignedBuffer<float> table;   // one-hot: [V][4H] padded to 64, weight column plus bias
};

// For one sequence at a time: panels of 64 rows, [panel][depth][64].
struct SingleWeights {
  std::vector<AlignedBuffer<float>> input;
  std::vector<AlignedBuffer<float>> recurrent;
  AlignedBuffer<float> output;
  bool fresh = false;
};

class Weights {
 public:
  Weights(const ModelSpec& spec, const Layout& layout, const KernelTable& kernels);

  // Shapes the packs for this partition if they are not. Returns true if they must be packed anew.
  bool shape(const Partition& partition);
  // Packs the share of `part` of `parts` from the canonical parameters.
  void pack(const float* parameters, int part, int parts);
  // The panels for a single sequence, made when first asked for after a change.
  void pack_single(const float* parameters);
  const SingleWeights& single() const { return single_; }
  void mark_stale() { single_.fresh = false; }

  const std::vector<LayerWeights>& layers() const { return layers_; }
  const PackedMatrix& output() const { return output_; }            // [V, H]
  const PackedMatrix& output_back() const { return output_back_; }  // [H, V]
  const float* output_bias() const { return output_bias_.data(); }  // [V], padded to 64
  int gate_rows_padded() const { return gate_rows_padded_; }
  int vocabulary_padded() const { return vocabulary_padded_; }
  std::size_t bytes() const;

 private:
  const ModelSpec& spec_;
  const Layout& layout_;
  const KernelTable& kernels_;
  int gate_rows_padded_;
  int vocabulary_padded_;
  std::vector<LayerWeights> layers_;
  PackedMatrix output_;
  PackedMatrix output_back_;
  AlignedBuffer<float> output_bias_;
  SingleWeights single_;
  std::vector<int> shaped_for_;
};

}  // namespace cudnn_lstm::cpu
