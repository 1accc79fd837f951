// The packed copies of the parameters that the products read, remade after each change to the parameters.
//
// There are three forms: tiles for lane blocks (forward), their transposes (backward, for training only) and panels for
// one sequence at a time. Each is made when a call first needs it. A large model that is not trained is kept *lean*:
// only the form in use holds its matrices, and the canonical parameters are given up matrix by matrix as they are
// packed, so that it takes the memory of its parameters once, and never more than twice.
#pragma once

#include <vector>

#include "core/layout.h"
#include "cpu/packed_matrix.h"
#include "cpu/partition.h"
#include "cpu/stop_request.h"
#include "cpu/thread_team.h"

namespace cudnn_lstm::cpu {

// in: features into the layer. Gate rows are interleaved (kernels.h).
struct LayerWeights {
  PackedMatrix input;      // [4H, in]; unused for one-hot input
  PackedMatrix recurrent;  // [4H, H]
  // What a training step in bfloat16 multiplies by instead of those two; a scalar input, whose symbols could no longer
  // be told apart, stays in floats.
  PackedMatrix trained_input, trained_recurrent;
  PackedMatrix input_back;       // [in, 4H]: for the gradient of the layer below; unused if nothing below learns
  PackedMatrix recurrent_back;   // [H, 4H]
  PanelMatrix input_panels;      // [4H, in]; unused for one-hot input
  PanelMatrix recurrent_panels;  // [4H, H]
  PanelVectors bias;             // [1][4H]
  PanelVectors table;            // one-hot: [V][4H], the columns of the input weights
};

class Weights {
 public:
  // parameters: in the canonical layout; written from outside, after restore() and before changed().
  // form: of the panels. arithmetic: of the tiles that training reads.
  Weights(const ModelSpec& spec, const Layout& layout, const KernelTable& kernels, WeightForm form,
          Arithmetic arithmetic, AlignedBuffer<float>& parameters, ThreadTeam& team);

  // Packs what a pass over lane blocks reads, unless it is up to date. Ends early if a stop is asked for, and resumes
  // the next time. backward: the pass is a training step.
  void prepare_lanes(bool backward, bool lean, StopRequest& stop);
  // Packs what single sequences read, unless it is up to date.
  void prepare_single(bool lean, StopRequest& stop);
  // Makes the canonical parameters whole again, unless a stop is asked for.
  void restore(StopRequest& stop);
  void restore();
  // To be called when the canonical parameters have changed.
  void changed();
  // Reads canonical parameters [offset, offset + count), whatever holds them.
  void read(std::size_t offset, std::size_t count, float* out) const;

  const std::vector<LayerWeights>& layers() const { return layers_; }
  // [4H, in], [4H, H] and [V, H], for a training step or for any other pass.
  const PackedMatrix& input(int layer, bool training) const {
    return training && rounds() ? layers_[layer].trained_input : layers_[layer].input;
  }
  const PackedMatrix& recurrent(int layer, bool training) const {
    return training && rounds() ? layers_[layer].trained_recurrent : layers_[layer].recurrent;
  }
  const PackedMatrix& output(bool training) const { return training && rounds() ? trained_output_ : output_; }
  const PackedMatrix& output_back() const { return output_back_; }     // [H, V]
  const PanelMatrix& output_panels() const { return output_panels_; }  // [V, H]
  const PanelVectors& output_bias() const { return output_bias_; }     // [1][V]
  int gate_rows_padded() const { return gate_rows_padded_; }
  int vocabulary_padded() const { return vocabulary_padded_; }
  // The size of the packed copies, less what was given up for them.
  std::size_t bytes() const;

 private:
  enum class Form { tiles, panels };

  // A matrix that both forms hold.
  struct Matrix {
    const Parameter& parameter;
    int hidden;  // of interleaved gates; else 0
    PackedMatrix& tiles;
    PackedMatrix& trained;
    PanelMatrix& panels;
    Arithmetic arithmetic = Arithmetic::bf16;  // of `trained`
    // How many of `parts` parts only `holder_` holds: their canonical rows are given up.
    int moved = 0;
    int parts = 1;

    int rows() const { return parameter.shape[0]; }
    int depth() const { return parameter.shape[1]; }
    void read(Form form, int row, int first, int count, float* out) const;
    // How many rows come before `part` in packed order; for part `moved`, how many are given up.
    int rows_before(Form form, int part) const;
  };

  bool given_up() const;
  bool holds(Form form) const { return given_up() && holder_ == form; }
  bool one_hot() const { return spec_.coding == InputCoding::onehot; }
  void shape_table();
  bool rounds() const { return arithmetic_ == Arithmetic::bf16; }
  void shape_tiles(bool forward, bool backward);
  void pack_biases();
  void pack_shared(int part, int parts);
  void pack_table(int part, int parts);
  void pack_tiles(int part, int parts, bool forward, bool backward);
  void pack_panels(int part, int parts);
  // Calls pack(part, parts) for all parts, on all threads.
  template <class Pack>
  void share(StopRequest& stop, const Pack& pack);
  template <class Pack>
  void move(Form form, StopRequest& stop, const Pack& pack);
  // Enough parts that moving a large matrix looks at the stop flag often, and never holds much of it twice.
  int moving_parts(const Parameter& parameter) const;
  int table_units(int part) const { return share_begin(spec_.hidden, table_parts_, part); }
  void discard_rows(const Parameter& parameter, int hidden, int first, int last);
  void read_table(int row, int first, int count, float* out) const;
  const float* canonical(const Parameter& parameter) const { return parameters_.data() + parameter.offset; }

  const ModelSpec& spec_;
  const Layout& layout_;
  const KernelTable& kernels_;
  const WeightForm form_;
  const Arithmetic arithmetic_;
  AlignedBuffer<float>& parameters_;
  ThreadTeam& team_;
  int gate_rows_padded_;
  int vocabulary_padded_;
  std::vector<LayerWeights> layers_;
  PackedMatrix output_, trained_output_;
  PackedMatrix output_back_;
  PanelMatrix output_panels_;
  PanelVectors output_bias_;
  std::vector<Matrix> matrices_;
  bool shaped_ = false, shaped_back_ = false;
  bool shared_fresh_ = false, tiles_fresh_ = false, back_fresh_ = false, panels_fresh_ = false;
  Form holder_ = Form::tiles;              // holds what is given up
  int table_moved_ = 0, table_parts_ = 1;  // as in Matrix, for what a one-hot input looks up
};

}  // namespace cudnn_lstm::cpu
