// One shape of pass over the model: its buffers, its calls in order, and the CUDA graph that replays them. A graph is
// fixed to its addresses and shapes, so each (kind, T, B, target, carry, dropout) has a plan of its own.
//
// T here is the storage type of weights and activations: float, Half or BFloat16.
#pragma once

#include <tuple>

#include "core/backend.h"
#include "cuda/arithmetic.h"
#include "cuda/draw.h"
#include "cuda/rnn.h"

namespace cudnn_lstm::cuda {

using CublasHandle = Owned<cublasHandle_t, cublasStatus_t>;

enum class PlanKind { train, evaluate, sample, draw };

struct PlanKey {
  PlanKind kind;
  int steps;
  int batch;
  Target target;
  bool carry;
  bool dropout;
  bool operator<(const PlanKey& other) const { return tie() < other.tie(); }

 private:
  std::tuple<PlanKind, int, int, Target, bool, bool> tie() const {
    return {kind, steps, batch, target, carry, dropout};
  }
};

// The first value at or after `values` whose address suits every kernel of cuDNN and cuBLAS, which want up to 128 bits;
// counted from the start of a buffer.
constexpr std::size_t aligned(std::size_t values) { return (values + 63) / 64 * 64; }

// Where a recurrent state [L, 2, B, H] lies in a buffer: h of all layers, then c of all layers.
struct StateLayout {
  std::size_t layers = 0;
  std::size_t rows = 0;  // B x H
  std::size_t cell() const { return aligned(layers * rows); }
  std::size_t size() const { return 2 * cell(); }
  // which: 0 for h, 1 for c.
  std::size_t offset(std::size_t which, std::size_t layer) const { return which * cell() + layer * rows; }
};

// The parameters in this backend's order: cuDNN's weight space, then the output weight [V, H], its bias [V] and the
// embedding table [V, E]. Gradients and moments follow the same order; the gaps between the parts hold zeros and stay
// so.
template <class T>
struct Arena {
  std::size_t lstm = 0;  // values before `output`
  std::size_t output = 0;
  std::size_t output_bias = 0;
  std::size_t embedding = 0;
  std::size_t size = 0;
  std::vector<Segment> segments;  // canonical layout <-> this order
  std::vector<Segment> frozen;    // of cuDNN's weight space: a second bias, whose gradient is cleared

  DeviceBuffer parameters, gradients, first_moments, second_moments;  // float32 [size]
  DeviceBuffer rounded;                                               // T [size]; unused for float
  DeviceBuffer rounded_gradients;                                     // T [lstm]: cuDNN's gradients; unused for float
  DeviceBuffer bias_spans;                                            // Span [...]: where the biases are

  Spans biases() const { return {bias_spans.as<Span>(), static_cast<int>(bias_spans.bytes() / sizeof(Span))}; }
  // What the products read.
  T* weights() const { return rounded.data() != nullptr ? rounded.as<T>() : reinterpret_cast<T*>(parameters.data()); }
  // Where cuDNN adds its gradients.
  T* lstm_gradients() const {
    return rounded_gradients.data() != nullptr ? rounded_gradients.as<T>() : reinterpret_cast<T*>(gradients.data());
  }
};

// What the plans of one model share.
template <class T>
struct Context {
  const ModelSpec& spec;
  const Layout& layout;
  Rnn& rnn;
  const Arena<T>& arena;
  cublasHandle_t blas;
  cudaStream_t stream;
  cudaStream_t upload_stream;
  MemoryAccount& account;
  Algorithm algorithm;
  std::atomic<bool>& without_graphs;  // set by the plan whose pass cannot be captured
};

template <class T>
class Plan {
 public:
  // The most steps whose ids are uploaded together, the bytes at which there are fewer, so that a call's first step
  // need not wait for a long copy, and how many uploads there is room for: some are copied while others are worked on.
  static constexpr int kUploadSteps = 8;
  static constexpr std::size_t kUploadBytes = std::size_t{1} << 18;
  static constexpr int kUploads = 4;
  static constexpr int kMaxSteps = 1024;  // of one queued call

  // Throws Error(kOutOfMemory).
  Plan(const Context<T>& context, const PlanKey& key);

  // ---- train: begin, then for each upload `upload` and `run_train`, then `finish`.
  void begin();
  // ids [count][T + 1, B], count <= upload_steps().
  void upload(const std::int32_t* ids, const StepInput* inputs, int count);
  // Queues `count` steps of the latest upload. inputs as given to upload.
  void run_train(const StepInput* inputs, int count);
  // Waits. outputs [steps queued since begin].
  void finish(StepOutput* outputs);

  // ---- evaluate: losses [M].
  void run_evaluate(const std::int32_t* ids, std::uint64_t mask_step, float* losses);

  // ---- sample: ids [B] -> logits [B, V].
  void run_sample(const std::int32_t* ids, float* logits);

  // ---- draw: as Backend::draw. Returns the draws done.
  static constexpr int kDraws = 256;  // between two looks at the result
  int run_draw(const std::int32_t* ids, const SamplingOptions* options, int count, std::int32_t* out,
               const std::atomic<bool>& stop);

  // Where a pass starts and, after it, where the next one does: [state_layout().size()].
  T* state() const { return state_.as<T>(); }
  const StateLayout& state_layout() const { return state_layout_; }
  const PlanKey& key() const { return key_; }
  int upload_steps() const { return upload_steps_; }
  const char* algorithm() const { return algorithm_title(pass_->algorithm()); }
  std::uint64_t last_used = 0;

 private:
  void allocate();
  // Runs the queued calls: at first as they are, so that lazily loaded kernels are not loaded inside a capture, then as
  // a graph.
  void launch();
  void enqueue();
  void enqueue_forward();
  void enqueue_loss(bool gradient);
  void enqueue_backward();
  void enqueue_update();
  // column-major C [m, n] = op(A) op(B), in the model's numerics.
  void product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
               std::int64_t lda, const T* b, std::int64_t ldb, void* c, cudaDataType_t c_type, std::int64_t ldc) const;
  StepView view() const;
  bool training() const { return key_.kind == PlanKind::train; }
  // One tick of text that is being written: no targets.
  bool writing() const { return key_.kind == PlanKind::sample || key_.kind == PlanKind::draw; }
  std::size_t ids_stride() const { return static_cast<std::size_t>(key_.steps + (writing() ? 0 : 1)) * key_.batch; }
  const T* top() const { return key_.dropout ? dropped_.as<T>() : y_.as<T>() + top_offset_; }
  T* logits_gradient() const;

  const Context<T> context_;
  const PlanKey key_;
  const std::size_t positions_;   // N
  const std::size_t targets_;     // M
  const std::size_t top_offset_;  // of the first position with a target, in values of y
  const StateLayout state_layout_;
  const int upload_steps_;
  std::size_t column_chunk_ = 0, loss_chunk_ = 0, scatter_chunk_ = 0;

  DeviceBuffer ids_, inputs_, cursor_, outputs_;
  DeviceBuffer x_, dx_, y_, dy_, dropped_, logits_, logits_gradient_, losses_;
  DeviceBuffer column_partials_, loss_partials_, square_partials_, scatter_partials_;
  DeviceBuffer state_, next_state_;
  DeviceBuffer draw_options_, draw_weights_, drawn_;
  PinnedBuffer pinned_ids_, pinned_inputs_, pinned_outputs_, pinned_logits_, pinned_draw_options_, pinned_drawn_;
  std::unique_ptr<RnnPass> pass_;
  Event uploaded_[kUploads], consumed_[kUploads];
  int uploads_ = 0, queued_ = 0;

  bool warm_ = false;
  bool graph_allowed_ = true;
  GraphExec graph_;
};

// The fastest algorithm whose results are those of the standard one, by a few timed passes; the standard one where it
// is not beaten clearly. Defined in algorithm_choice.cpp.
cudnnRNNAlgo_t choose_algorithm(const Rnn& rnn, const Layout& layout, const void* weights, int steps, int batch,
                                cudaStream_t stream, Algorithm asked);

}  // namespace cudnn_lstm::cuda
