// The CPU backend: the whole model on one thread team. cpu_forward.cpp, cpu_backward.cpp and cpu_optimizer.cpp hold a
// training step in the order it runs; cpu_sampling.cpp feeds streams; cpu_backend.cpp owns the memory and the slots.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "core/backend.h"
#include "cpu/aligned_buffer.h"
#include "cpu/cpu_allowance.h"
#include "cpu/kernels.h"
#include "cpu/partition.h"
#include "cpu/row_blocks.h"
#include "cpu/stop_request.h"
#include "cpu/team_tuner.h"
#include "cpu/thread_team.h"
#include "cpu/weights.h"

namespace cudnn_lstm::cpu {

// Up to this many sequences are fed one by one through matrix-vector products; more share a lane block.
inline constexpr int kSingleStreams = 2;

// Lane blocks that a thread rounds to bfloat16 at a time.
inline constexpr int kRoundedBlocks = 8;

// What one layer computes in T steps for the blocks of a batch; a "pair" is one (step, lane block).
struct LayerActivations {
  explicit LayerActivations(int units)
      : gates(4 * ((units + 15) / 16 * 16)), c(units), h(units), dropped(units), c_reset(units), h_reset(units) {}

  RowBlocks gates;                    // [T][blocks] of [4H padded]: activations, then gradients of the pre-activations
  LaneBlocks c;                       // [T + 1][blocks] of [H]; [0] is the state before the first step
  LaneBlocks h;                       // as for c
  LaneBlocks dropped;                 // [T][blocks] of [H]: h after dropout
  AlignedBuffer<std::uint16_t> keep;  // [T][blocks][units_padded]: the masks
  // [T][blocks] of [H]: for pairs with lanes to reset, the c and h they start from, with those lanes zeroed.
  LaneBlocks c_reset, h_reset;
};

// Zeroes the lanes of [units][16] whose bits are set.
inline void clear_lanes(float* rows, int units, unsigned lanes) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    for (int unit = 0; unit < units; ++unit) rows[unit * kLanes + lane] = 0.0f;
  }
}

// h and c of every layer, [layers][2][blocks] of [H], for `batch` sequences.
struct LaneState {
  explicit LaneState(int units) : data(units) {}

  LaneBlocks data;
  int batch = 0;
};

class CpuBackend final : public Backend {
 public:
  // form: of the matrices that one or two sequences are multiplied by; any form but fp32 is for weights already rounded
  // to it, and cannot be trained. arithmetic: of training steps. Throws Error(kOutOfMemory).
  CpuBackend(const ModelSpec& spec, int threads, TeamTuner::Mode mode = TeamTuner::Mode::adapt,
             const KernelTable& kernels = choose_kernels(), WeightForm form = WeightForm::fp32,
             Arithmetic arithmetic = Arithmetic::fp32);

  const ModelSpec& spec() const override { return spec_; }
  const Layout& layout() const override { return layout_; }
  StepResult train_step(const Batch& batch, const OptimizerStep& optimizer, const std::atomic<bool>& stop) override;
  void evaluate(const Batch& batch, bool dropout, std::uint64_t mask_step, float* losses,
                const std::atomic<bool>& stop) override;
  void reset_evaluation_state() override {
    evaluation_state_.batch = 0;
    evaluation_rows_.clear();
  }
  void reset_training_state() override { training_state_.batch = 0; }
  using Backend::next_logits;
  void next_logits(const std::int32_t* ids, int steps, int streams, float* logits,
                   const std::atomic<bool>& stop) override;
  void reset_stream_state(int streams) override;
  int sharers() const override { return team_.most(); }
  void share(int count, const std::function<void(int)>& work) override;
  std::size_t slot_size(Slot slot) const override;
  void read_range(Slot slot, std::size_t offset, std::size_t count, float* out) const override;
  void write_range(Slot slot, std::size_t offset, const float* values, std::size_t count) override;
  std::uint64_t step_count() const override { return step_count_; }
  void set_step_count(std::uint64_t steps) override { step_count_ = steps; }
  std::size_t host_bytes() const override;
  std::size_t device_bytes() const override { return 0; }
  std::string description() const override;

 private:
  // One run over a batch; fixed while the team works on it.
  struct Pass {
    const std::int32_t* ids = nullptr;  // [T + 1, B]
    int steps = 0;                      // T
    int batch = 0;                      // B
    int first_block = 0;                // among the global batch's lane blocks
    int all_sequences = 0;              // B over all ranks
    Target target = Target::every;
    bool dropout = false;
    std::uint64_t mask_step = 0;
    bool gradient = false;
    Partition partition;
    int blocks = 0;
  };

  // Kinds of call whose costs per tick are unrelated.
  enum class Call { train, evaluate, streams, sequence };

  // The team of one call, from choosing it to reporting what it did.
  class TunedCall {
   public:
    // blocks: lane blocks; most: how many threads have work to do.
    TunedCall(CpuBackend& backend, Call call, int blocks, int steps, int most);
    ~TunedCall();
    TunedCall(const TunedCall&) = delete;
    TunedCall& operator=(const TunedCall&) = delete;

    const Partition& partition() const { return *partition_; }

   private:
    CpuBackend& backend_;
    const int steps_;
    const Partition* partition_ = nullptr;
    std::int64_t start_;
  };

  void begin_pass(const Pass& pass, const LaneState* from);
  void find_resets();
  void end_pass(LaneState& to) const;
  void run_team(const std::function<void(int)>& work);
  void compute_gradients(int thread);
  double sum_of_losses();
  // Whether the model is large and has only been sampled from or scored so far: see Weights.
  bool lean() const;
  // Sets the call's stop flag.
  void heed(const std::atomic<bool>& stop);
  // As StopRequest's asked and heard. Loops look where the work between two looks is short even in large models.
  bool stopped() { return stop_.asked(); }
  bool gave_up() const { return stop_.heard(); }
  // Meets the other threads of the run. Returns whether all of them end it here: the same answer for each, and once
  // true, it stays true.
  bool meet();
  // Sets this thread's share of a buffer to zero.
  void zero_share(AlignedBuffer<float>& buffer, int thread);

  // cpu_forward.cpp
  void reset_lanes(int layer, int step, int block, int first_unit, int last_unit);
  void encode_input(int thread);
  void forward(int thread);
  void forward_layer(int thread, int layer);
  void forward_wave(int thread);
  // Ticks that a layer lags behind the one it takes its input from: enough to fill all the blocks of a tile product.
  int wave_lag() const { return std::max(1, kernels_.tile_blocks / pass_.blocks); }
  void input_products(int thread, int layer, int first_step, int last_step);
  void forward_tick(int thread, int layer, int step);
  void output_stage(int thread);
  void output_pairs(int thread, int first_pair, int last_pair, int chunk_first);

  // cpu_backward.cpp
  struct GradientProduct;
  void backward(int thread);
  void backward_layer(int thread, int layer);
  void backward_wave(int thread);
  void backward_tick(int thread, int layer, int step);
  void input_gradients(int thread, int layer, int first_step, int last_step);
  void weight_gradients(int thread, int layer, int first_step, int last_step);
  std::size_t panels_of_a_thread() const;  // that accumulate needs
  void accumulate(const GradientProduct* products, int count, int thread);
  void pack_panel(const GradientProduct& product, int column, int first, int run, int place,
                  GradientPanels<float>& packed) const;
  template <typename Number, typename Rows>
  void multiply_panels(const GradientProduct& product, const Rows* a, int run, int row, int begin, int end,
                       const GradientPanels<Number>& packed, void (*multiply)(const GradientTile<Number, Rows>&)) const;
  void sum_tile(const GradientProduct& product, const TileRows* dy, int first, int run, int row, int rows) const;
  void onehot_gradients(int thread, int first_pair, int last_pair);
  void finish_input_gradients(int thread);

  // cpu_optimizer.cpp
  std::size_t norm_pieces() const;
  void norm_share(int thread, int threads, std::size_t frozen);
  double gradient_norm() const;
  void make_slots(Optimizer optimizer);
  // The update consists of independent pieces. If a stop cuts it short, each remaining piece is made when it is next
  // asked for: the step counts, and every reader sees it whole.
  struct Update {
    UpdateConstants constants;
    float scale;
    std::size_t frozen;      // how many of the first parameters stay as they are
    std::vector<char> done;  // one per piece; empty: no update is under way
  };
  void begin_update(const OptimizerStep& optimizer, double norm);
  void update_share(int thread, int threads);
  // Makes the remaining pieces. Returns false if a stop was asked for.
  bool finish_update();
  // Makes those of parameters [offset, offset + count), their gradients and their moments.
  void finish_update(std::size_t offset, std::size_t count) const;
  void update_piece(std::size_t piece) const;

  // cpu_sampling.cpp
  // A run of one stream's ticks, at most kSequenceSteps; there is room for `most`.
  struct Sequence {
    const std::int32_t* ids;
    int steps;
    int stream;
    int streams;
    int first;  // the first tick whose logits are wanted
    std::size_t most;
  };
  // out = initial + A x for rows [first, first + rows) of A and one vector; `first` begins a panel.
  void single_product(const PanelMatrix& a, int first, int rows, const float* x, ConstPanelRows initial, PanelRows out);
  void run_sequence(const std::int32_t* ids, int steps, int stream, int streams, int first,
                    const std::function<void(int step, const float* logits)>& consume);
  void sequence_layer(const Sequence& sequence, int layer, int thread, int threads);
  float* sequence_output(const Sequence& sequence, int layer);
  void next_logits_lanes(const std::int32_t* ids, int steps, int streams, float* logits);
  void evaluate_single(const Batch& batch, float* losses);

  bool rounds() const { return pass_.gradient && arithmetic_ == Arithmetic::bf16; }
  // What a product with `matrix` multiplies: the blocks themselves or, if the matrix is in bfloat16, copies rounded by
  // this thread, at most kRoundedBlocks, valid until its next call.
  ProductInputs inputs(int thread, const PackedMatrix& matrix, int blocks, const float* const* rows) {
    if (!matrix.of_bf16()) return {rows, nullptr};
    return {nullptr, rounded_[thread].round(kernels_, rows, blocks, matrix.depth())};
  }
  // How many of `count` lane blocks are multiplied at a time.
  static int blocks_at_once(const PackedMatrix& matrix, int count) {
    return matrix.of_bf16() ? std::min(count, kRoundedBlocks) : count;
  }
  int pairs() const { return pass_.steps * pass_.blocks; }
  int output_first_step() const { return pass_.target == Target::last ? pass_.steps - 1 : 0; }
  LaneBlock pair_block(LaneBlocks& blocks, int step, int block) {
    return blocks.block(static_cast<std::size_t>(step) * pass_.blocks + block);
  }
  LaneBlock gates(int layer, int step, int block) { return pair_block(layers_[layer].gates, step, block); }
  // One bit for each lane whose state is reset to zero before the step.
  unsigned resets(int step, int block) const {
    return resets_.empty() ? 0 : resets_[static_cast<std::size_t>(step) * pass_.blocks + block];
  }
  // The state a step starts from.
  LaneBlock h_before(int layer, int step, int block) {
    LayerActivations& activations = layers_[layer];
    return pair_block(resets(step, block) != 0 ? activations.h_reset : activations.h, step, block);
  }
  LaneBlock c_before(int layer, int step, int block) {
    LayerActivations& activations = layers_[layer];
    return pair_block(resets(step, block) != 0 ? activations.c_reset : activations.c, step, block);
  }
  std::uint16_t* keep(int layer, int step, int block) {
    return layers_[layer].keep.data() + (static_cast<std::size_t>(step) * pass_.blocks + block) * units_padded_;
  }
  // What layer `layer` passes on at a step: h, after dropout if there is any.
  LaneBlock layer_output(int layer, int step, int block) {
    return pass_.dropout ? pair_block(layers_[layer].dropped, step, block)
                         : pair_block(layers_[layer].h, step + 1, block);
  }
  LaneBlock input_block(int step, int block) { return pair_block(inputs_, step, block); }
  // The first block of a layer's h (which: 0) or c (1) in a LaneState.
  static std::size_t state_block(int blocks, int layer, int which) {
    return (static_cast<std::size_t>(layer) * 2 + which) * blocks;
  }
  void read_lane_state(const LaneState& state, float* out) const;
  void write_lane_state(LaneState& state, const float* values, std::size_t count);

  const ModelSpec spec_;
  const Layout layout_;
  const KernelTable& kernels_;
  const WeightForm form_;
  const Arithmetic arithmetic_;
  ThreadTeam team_;
  TeamTuner tuner_;
  WatchedAllowance allowance_;
  mutable AlignedBuffer<float> parameters_, first_moments_, second_moments_;  // changed by finish_update
  AlignedBuffer<float> gradients_;
  mutable Update update_;
  Weights weights_;

  int units_padded_;  // H rounded up to 16

  std::vector<double> norm_parts_;
  std::uint64_t step_count_ = 0;

  Pass pass_;
  StopRequest stop_;
  bool abandoned_ = false;  // whether the run is; changes only while all threads meet
  std::vector<LayerActivations> layers_;
  std::vector<std::uint16_t> resets_;          // [T][blocks]; empty if the model has no reset symbol
  LaneBlocks inputs_;                          // [T][blocks] of [in]: scalar and embedded input
  LaneBlocks input_gradients_;                 // as inputs_, embedding only
  LaneBlocks outputs_gradient_;                // [T][blocks] of [H]: gradient of the output of the layer at work
  LaneBlocks recurrent_gradient_;              // [layers][blocks] of [H]
  LaneBlocks cell_gradient_;                   // as recurrent_gradient_
  AlignedBuffer<float> onehot_gradient_;       // [V][4H padded]
  RowBlocks logits_;                           // [output chunk pairs] of [V padded]: logits, then their gradients
  int output_chunk_ = 1;                       // pairs in logits_
  AlignedBuffer<float> losses_;                // [T][blocks][16]
  std::vector<GradientPanels<float>> panels_;  // one per thread
  std::vector<GradientPanels<Bf16Pair>> bf16_panels_;  // the same in bfloat16
  std::vector<RoundedBlocks> rounded_;                 // one per thread
  std::vector<RoundedTiles> rounded_tiles_;            // one per thread

  LaneState training_state_, evaluation_state_, stream_lanes_;
  std::vector<float> stream_rows_;      // [L, 2, S, H] while there are few streams
  std::vector<float> evaluation_rows_;  // [L, 2, B, H], the carried evaluation state of few sequences
  int streams_ = 0;
  PanelVectors sequence_gates_;            // [steps][4H]
  AlignedBuffer<float> sequence_outputs_;  // 2 x [steps][H]
  PanelVectors sequence_logits_;           // [threads][V]
};

// threads: the maximum; TeamTuner decides how many of them a call takes.
std::unique_ptr<Backend> create_cpu_backend(const ModelSpec& spec, int threads,
                                            TeamTuner::Mode mode = TeamTuner::Mode::adapt,
                                            WeightForm form = WeightForm::fp32,
                                            Arithmetic arithmetic = Arithmetic::fp32);

// Runs fused multiply-adds in registers on `threads` threads for about `milliseconds`, or until `stop` is set. Returns
// GFLOP/s, the ceiling for any product.
double measure_peak(int threads, int milliseconds, const std::atomic<bool>& stop);

}  // namespace cudnn_lstm::cpu
