// One shape of pass over the model: its buffers, its calls in order, and the CUDA graph that replays them. A graph is
// fixed to its addresses and shapes, so each (kind, T, B, target, carry, dropout) has its own plan.
//
// T here is the storage type of weights and activations: float, Half or BFloat16.
#pragma once

#include <tuple>

#include "core/backend.h"
#include "cuda/arithmetic.h"
#include "cuda/draw.h"
#include "cuda/layers.h"

namespace cudnn_lstm::cuda {

enum class PlanKind { train, evaluate, sample, draw };

struct PlanKey {
  PlanKind kind;
  int steps;
  int batch;
  Target target;
  bool carry;
  bool dropout;
  // For a training step that several ranks share, as in Batch; all_sequences 0: one process has them all. silent: this
  // rank has none, and takes part with a sequence that counts for nothing.
  int first_sequence = 0;
  int all_sequences = 0;
  bool silent = false;
  bool operator<(const PlanKey& other) const { return tie() < other.tie(); }

 private:
  std::tuple<PlanKind, int, int, Target, bool, bool, int, int, bool> tie() const {
    return {kind, steps, batch, target, carry, dropout, first_sequence, all_sequences, silent};
  }
};

template <class T>
class Plan {
 public:
  // The most steps whose ids are uploaded together; the size above which there are fewer, so that a call's first step
  // need not wait for a long copy; and the number of uploads with room: some are copied while others are in use.
  static constexpr int kUploadSteps = 8;
  static constexpr std::size_t kUploadBytes = std::size_t{1} << 18;
  static constexpr int kUploads = 4;
  static constexpr int kMaxSteps = 1024;  // per queued call

  // Throws Error(kOutOfMemory).
  Plan(const Context<T>& context, const PlanKey& key);

  // ---- train: begin, then for each upload `upload` and `run_train`, then `finish`.
  void begin();
  // ids [count][T + 1, B], count <= upload_steps().
  void upload(const std::int32_t* ids, const StepInput* inputs, int count);
  // Queues `count` steps of the latest upload.
  void run_train(int count);
  // Waits. outputs [steps queued since begin].
  void finish(StepOutput* outputs);

  // ---- evaluate: losses [M].
  void run_evaluate(const std::int32_t* ids, std::uint64_t mask_step, float* losses);

  // ---- sample: ids [B] -> logits [B, V].
  void run_sample(const std::int32_t* ids, float* logits);

  // ---- draw: as Backend::draw. Returns the draws done.
  static constexpr int kDraws = 256;  // between reads of the result
  int run_draw(const std::int32_t* ids, const SamplingOptions* options, int count, std::int32_t* out,
               const std::atomic<bool>& stop);

  // ---- A step that ranks share: all replay a graph of it or none does, as they agree between calls. Other passes are
  // recorded on their second run.
  bool recorded() const { return static_cast<bool>(graph_); }
  // Has run once, so that nothing is loaded inside a capture.
  bool warm() const { return warm_; }
  bool recordable() const { return warm_ && graph_allowed_; }
  void record();
  // allowed: whether it may be recorded again.
  void forget_graph(bool allowed);

  // The state that a pass starts from and, after it, the next pass's: [state_layout().size()].
  T* state() const { return state_.as<T>(); }
  const StateLayout& state_layout() const { return state_layout_; }
  const PlanKey& key() const { return key_; }
  int upload_steps() const { return upload_steps_; }
  const char* algorithm() const { return algorithm_title(algorithm_); }
  // Whether there are masks between the layers, which then have separate weight spaces.
  bool masked_layers() const { return key_.dropout && context_.spec.layers > 1; }
  std::uint64_t last_used = 0;

 private:
  void allocate();
  void pin();
  // Runs the pass's calls, as a graph if there is one.
  void launch();
  void enqueue();
  void enqueue_forward();
  void enqueue_loss(bool gradient);
  void enqueue_backward();
  void enqueue_sum();
  void enqueue_update();
  // Column-major C [m, n] = op(A) op(B), in the model's numerics.
  void product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
               std::int64_t lda, const T* b, std::int64_t ldb, void* c, cudaDataType_t c_type, std::int64_t ldc) const;
  StepView view() const;
  bool shared() const { return key_.all_sequences > 0; }
  std::uint32_t first_block() const { return static_cast<std::uint32_t>(key_.first_sequence) / 16; }
  bool training() const { return key_.kind == PlanKind::train; }
  // Generates one tick of text: no targets.
  bool writing() const { return key_.kind == PlanKind::sample || key_.kind == PlanKind::draw; }
  std::size_t ids_stride() const { return static_cast<std::size_t>(key_.steps + (writing() ? 0 : 1)) * key_.batch; }
  const T* top() const { return key_.dropout ? dropped_.as<T>() : layers_->y() + top_offset_; }
  T* logits_gradient() const;
  // The gradient of the network's input, which cuDNN computes whether or not there is an embedding to train.
  T* dx() const;

  const Context<T> context_;
  const PlanKey key_;
  const std::size_t positions_;    // N
  const std::size_t targets_;      // M
  const std::size_t all_targets_;  // of all ranks
  const std::size_t top_offset_;   // offset of the first position with a target, in values of y
  const StateLayout state_layout_;
  const int upload_steps_;
  std::size_t column_chunk_ = 0, loss_chunk_ = 0, scatter_chunk_ = 0;

  DeviceBuffer ids_, inputs_, cursor_, outputs_;
  DeviceBuffer x_, dx_, dropped_, logits_, logits_gradient_, losses_;
  DeviceBuffer nats_, column_partials_, loss_partials_, square_partials_, scatter_partials_;
  DeviceBuffer state_, next_state_;
  DeviceBuffer draw_options_, draw_weights_, drawn_;
  PinnedBuffer pinned_ids_, pinned_inputs_, pinned_outputs_, pinned_logits_, pinned_draw_options_, pinned_drawn_;
  cudnnRNNAlgo_t algorithm_ = CUDNN_RNN_ALGO_STANDARD;
  std::unique_ptr<Layers<T>> layers_;
  Event uploaded_[kUploads], consumed_[kUploads];
  int uploads_ = 0, queued_ = 0;

  bool warm_ = false;
  bool graph_allowed_ = true;
  GraphExec graph_;
};

}  // namespace cudnn_lstm::cuda
