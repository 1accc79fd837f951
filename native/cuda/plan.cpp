#include "cuda/plan.h"

#include <algorithm>
#include <cstring>

#include "core/random.h"
#include "cuda/algorithm_choice.h"
#include "cuda/graph.h"
#include "cuda/kernels.h"

namespace cudnn_lstm::cuda {
namespace {

constexpr std::size_t kSquareChunk = 1024;                                          // gradients per row of the norm
constexpr std::size_t kColumnThreads = std::size_t{1} << 18, kColumnChunks = 1024;  // for the output bias's gradient
constexpr std::size_t kScatterRows = 16'384;  // for the embedding's gradient: warps for the largest GPU

std::size_t chunks(std::size_t count, std::size_t chunk) { return (count + chunk - 1) / chunk; }

Encoding encoding_of(InputCoding coding) {
  return coding == InputCoding::scalar   ? Encoding::scalar
         : coding == InputCoding::onehot ? Encoding::onehot
                                         : Encoding::embedding;
}

}  // namespace

template <class T>
Plan<T>::Plan(const Context<T>& context, const PlanKey& key)
    : context_(context),
      key_(key),
      positions_(static_cast<std::size_t>(key.steps) * key.batch),
      targets_(key.target == Target::last ? key.batch : positions_),
      all_targets_(key.all_sequences > 0 ? targets_ / key.batch * key.all_sequences : targets_),
      top_offset_((positions_ - targets_) * context.spec.hidden),
      state_layout_(state_layout_of(context.spec, key.batch, key.dropout)),
      upload_steps_(static_cast<int>(
          std::clamp<std::size_t>(kUploadBytes / (ids_stride() * sizeof(std::int32_t)), 1, kUploadSteps))) {
  allocate();
  const LayersShape shape{key.steps, key.batch, training(), masked_layers(), first_block()};
  layers_ = training() ? choose_layers(context_, shape, view(), key.carry, algorithm_)
                       : make_layers(context_, shape, view(), algorithm_);
  // Pin after all large device allocations: a batch that the GPU cannot hold would otherwise first pin gigabytes of
  // host memory.
  pin();
  CHECK_CUDA(cudaStreamSynchronize(context.stream));  // uploads, on another stream, must not precede the zeroing
}

template <class T>
void Plan<T>::allocate() {
  const ModelSpec& spec = context_.spec;
  MemoryAccount& account = context_.account;
  const std::size_t hidden = spec.hidden, vocabulary = spec.vocabulary, features = spec.input_size();
  const std::size_t ring = training() ? static_cast<std::size_t>(upload_steps_) * kUploads : 1;
  auto device = [&](std::size_t bytes, const char* what) { return DeviceBuffer(account, bytes, what); };

  ids_ = device(ring * ids_stride() * sizeof(std::int32_t), "ids");
  inputs_ = device(ring * sizeof(StepInput), "step inputs");
  cursor_ = device(sizeof(Cursor), "the step cursor");
  x_ = device(positions_ * features * sizeof(T), "the network's input");
  if (key_.dropout) dropped_ = device(targets_ * hidden * sizeof(T), "the LSTM's output after dropout");
  logits_ = device(targets_ * vocabulary * sizeof(float), "logits");
  losses_ = device(targets_ * sizeof(float), "losses");
  state_ = device(state_layout_.size() * sizeof(T), "the state");
  next_state_ = device(state_layout_.size() * sizeof(T), "the state");
  CHECK_CUDA(cudaMemsetAsync(cursor_.data(), 0, cursor_.bytes(), context_.stream));
  CHECK_CUDA(cudaMemsetAsync(inputs_.data(), 0, inputs_.bytes(), context_.stream));
  CHECK_CUDA(cudaMemsetAsync(state_.data(), 0, state_.bytes(), context_.stream));
  CHECK_CUDA(cudaMemsetAsync(next_state_.data(), 0, next_state_.bytes(), context_.stream));  // its gaps are copied too
  if (key_.kind == PlanKind::draw) {
    draw_options_ = device(targets_ * sizeof(SamplingOptions), "the sampling options");
    draw_weights_ = device(targets_ * vocabulary * sizeof(Weight), "the sampler");
    drawn_ = device(kDraws * targets_ * sizeof(std::int32_t), "the ids drawn");
  }
  if (!training()) return;

  // Only an embedding reads dx. Otherwise it overwrites the logits if it fits: one-hot rows of a large vocabulary take
  // gigabytes.
  const std::size_t dx_bytes = positions_ * features * sizeof(T);
  if (spec.coding == InputCoding::embedding || dx_bytes > logits_.bytes())
    dx_ = device(dx_bytes, "the gradient of the network's input");
  if (sizeof(T) != sizeof(float))
    logits_gradient_ = device(targets_ * vocabulary * sizeof(T), "the gradient of the logits");
  // Enough threads for the largest GPU, each with a short column, but no more rows of partial sums than a warp adds up
  // quickly.
  const std::size_t column_chunks = std::clamp<std::size_t>(kColumnThreads / vocabulary, 1, kColumnChunks);
  column_chunk_ = std::max<std::size_t>(64, chunks(targets_, column_chunks));
  column_partials_ = device(chunks(targets_, column_chunk_) * vocabulary * sizeof(float), "partial sums");
  loss_chunk_ = std::max<std::size_t>(256, chunks(targets_, 1024));
  loss_partials_ = device(chunks(targets_, loss_chunk_) * sizeof(double), "partial sums");
  if (shared()) nats_ = device(sizeof(double), "the loss of all ranks");
  square_partials_ = device(chunks(context_.arena.size, kSquareChunk) * sizeof(double), "partial sums");
  if (spec.coding == InputCoding::embedding) {
    // One row per chunk and symbol: enough chunks to occupy the GPU, so few if there are many symbols, whose tables
    // would take gigabytes.
    const std::size_t most = std::max<std::size_t>(1, std::min<std::size_t>(64, kScatterRows / vocabulary));
    scatter_chunk_ = std::max<std::size_t>(512, chunks(positions_, most));
    scatter_partials_ =
        device(chunks(positions_, scatter_chunk_) * vocabulary * spec.embedding * sizeof(float), "partial sums");
  }
  outputs_ = device(kMaxSteps * sizeof(StepOutput), "step outputs");
  for (int i = 0; i < kUploads; ++i) {
    uploaded_[i] = make_event();
    consumed_[i] = make_event();
  }
}

template <class T>
void Plan<T>::pin() {
  const auto pinned = [&](const DeviceBuffer& buffer, const char* what) {
    return PinnedBuffer(context_.account, buffer.bytes(), what);
  };
  pinned_ids_ = pinned(ids_, "ids");
  pinned_inputs_ = pinned(inputs_, "step inputs");
  pinned_outputs_ = pinned(outputs_, "step outputs");
  pinned_draw_options_ = pinned(draw_options_, "the sampling options");
  pinned_drawn_ = pinned(drawn_, "the ids drawn");
  if (key_.kind == PlanKind::sample) pinned_logits_ = pinned(logits_, "logits");
}

template <class T>
StepView Plan<T>::view() const {
  return {cursor_.as<Cursor>(), inputs_.as<StepInput>(), ids_.as<std::int32_t>(), ids_stride()};
}

template <class T>
T* Plan<T>::logits_gradient() const {
  // In float32 the gradient overwrites the logits.
  return sizeof(T) == sizeof(float) ? reinterpret_cast<T*>(logits_.data()) : logits_gradient_.as<T>();
}

template <class T>
T* Plan<T>::dx() const {
  return dx_.data() != nullptr ? dx_.as<T>() : reinterpret_cast<T*>(logits_.data());
}

template <class T>
void Plan<T>::product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                      std::int64_t lda, const T* b, std::int64_t ldb, void* c, cudaDataType_t c_type,
                      std::int64_t ldc) const {
  const float one = 1, zero = 0;
  const Numerics& numerics = context_.rnn.numerics();
  CHECK_CUBLAS(context_.rnn.libraries(), cublasGemmEx_64(context_.blas, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                                                         transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &one, a,
                                                         numerics.blas_type, lda, b, numerics.blas_type, ldb, &zero, c,
                                                         c_type, ldc, numerics.blas_compute, CUBLAS_GEMM_DEFAULT));
}

// ---- The calls of a pass, in order

template <class T>
void Plan<T>::enqueue() {
  if (key_.kind == PlanKind::sample) {
    CHECK_CUDA(cudaMemcpyAsync(ids_.data(), pinned_ids_.data(), ids_.bytes(), cudaMemcpyHostToDevice, context_.stream));
  }
  enqueue_forward();
  const std::size_t values = targets_ * context_.spec.vocabulary;
  switch (key_.kind) {
    case PlanKind::train:
      enqueue_loss(true);
      enqueue_backward();
      if (shared()) enqueue_sum();
      enqueue_update();
      return;
    case PlanKind::evaluate:
      enqueue_loss(false);
      break;
    case PlanKind::sample:
      for_each_element(context_.stream, values,
                       AddBias<T>{logits_.as<float>(), context_.arena.weights() + context_.arena.output_bias,
                                  context_.spec.vocabulary});
      CHECK_CUDA(cudaMemcpyAsync(pinned_logits_.data(), logits_.data(), logits_.bytes(), cudaMemcpyDeviceToHost,
                                 context_.stream));
      break;
    case PlanKind::draw:
      for_each_row(context_.stream, targets_,
                   Draw<T>{cursor_.as<Cursor>(), draw_options_.as<SamplingOptions>(), logits_.as<float>(),
                           context_.arena.weights() + context_.arena.output_bias, context_.spec.vocabulary, targets_,
                           kDraws, draw_weights_.as<Weight>(), ids_.as<std::int32_t>(), drawn_.as<std::int32_t>()});
      for_each_element(context_.stream, 1, AdvanceCursor{cursor_.as<Cursor>(), 1});
      break;
  }
  if (key_.carry) {
    CHECK_CUDA(
        cudaMemcpyAsync(state_.data(), next_state_.data(), state_.bytes(), cudaMemcpyDeviceToDevice, context_.stream));
  }
}

template <class T>
void Plan<T>::enqueue_forward() {
  const ModelSpec& spec = context_.spec;
  const Arena<T>& arena = context_.arena;
  for_each_element(context_.stream, positions_ * spec.input_size(),
                   EncodeInput<T>{view(), encoding_of(spec.coding), spec.vocabulary, spec.input_size(),
                                  arena.weights() + arena.embedding, x_.as<T>()});
  layers_->forward(x_.as<T>(), key_.carry ? state() : nullptr, next_state_.as<T>());
  if (key_.dropout) {
    const int ticks = static_cast<int>(targets_ / key_.batch);
    for_each_element(context_.stream, static_cast<std::size_t>(ticks) * ((key_.batch + 7) / 8) * spec.hidden,
                     Dropout<T>{view(), layers_->y() + top_offset_, dropped_.as<T>(), key_.batch, spec.hidden,
                                key_.steps - ticks, static_cast<std::uint32_t>(spec.layers - 1),
                                dropout_threshold(spec.dropout), spec.seed, first_block()});
  }
  // logits [M, V] = top [M, H] x weight^T
  product(true, false, spec.vocabulary, static_cast<std::int64_t>(targets_), spec.hidden,
          arena.weights() + arena.output, spec.hidden, top(), spec.hidden, logits_.data(), CUDA_R_32F, spec.vocabulary);
}

template <class T>
void Plan<T>::enqueue_loss(bool gradient) {
  const Arena<T>& arena = context_.arena;
  const std::size_t first_target = positions_ - targets_ + key_.batch;
  for_each_row(context_.stream, targets_,
               SoftmaxLoss<T>{view(), logits_.as<float>(), arena.weights() + arena.output_bias,
                              context_.spec.vocabulary, first_target, static_cast<float>(all_targets_),
                              losses_.as<float>(), gradient ? logits_gradient() : nullptr});
  if (!gradient) return;
  for_each_row(context_.stream, chunks(targets_, loss_chunk_),
               SumChunks{losses_.as<float>(), targets_, loss_chunk_, loss_partials_.as<double>()});
}

template <class T>
void Plan<T>::enqueue_backward() {
  const ModelSpec& spec = context_.spec;
  const Arena<T>& arena = context_.arena;
  const std::int64_t hidden = spec.hidden, vocabulary = spec.vocabulary, targets = static_cast<std::int64_t>(targets_);
  const T* dlogits = logits_gradient();
  float* gradients = arena.gradients.template as<float>();

  // The output layer: dW [V, H] = dlogits^T x top, db = column sums, dtop [M, H] = dlogits x W.
  product(false, true, hidden, vocabulary, targets, top(), hidden, dlogits, vocabulary, gradients + arena.output,
          CUDA_R_32F, hidden);
  const std::size_t column_chunks = chunks(targets_, column_chunk_);
  for_each_element(context_.stream, column_chunks * spec.vocabulary,
                   SumColumns<T>{dlogits, spec.vocabulary, targets_, column_chunk_, column_partials_.as<float>()});
  for_each_row(context_.stream, static_cast<std::size_t>(spec.vocabulary),
               SumPartialsOfRow{column_partials_.as<float>(), static_cast<std::size_t>(spec.vocabulary), column_chunks,
                                gradients + arena.output_bias});
  // Target::last writes only the last tick; the rest stays zero.
  T* dtop = layers_->dy().template as<T>() + top_offset_;
  product(false, false, hidden, targets, vocabulary, arena.weights() + arena.output, hidden, dlogits, vocabulary, dtop,
          context_.rnn.numerics().blas_type, hidden);
  if (key_.dropout) {
    const int ticks = static_cast<int>(targets_ / key_.batch);
    for_each_element(context_.stream, static_cast<std::size_t>(ticks) * ((key_.batch + 7) / 8) * spec.hidden,
                     Dropout<T>{view(), dtop, dtop, key_.batch, spec.hidden, key_.steps - ticks,
                                static_cast<std::uint32_t>(spec.layers - 1), dropout_threshold(spec.dropout), spec.seed,
                                first_block()});
  }

  CHECK_CUDA(cudaMemsetAsync(arena.lstm_gradients(), 0, arena.lstm * sizeof(T), context_.stream));
  layers_->backward(x_.as<T>(), key_.carry ? state() : nullptr, dx(), arena.lstm_gradients());
  for (const Segment& segment : arena.frozen) {
    CHECK_CUDA(cudaMemsetAsync(arena.lstm_gradients() + segment.arena, 0, segment.size * sizeof(T), context_.stream));
  }

  if (spec.coding == InputCoding::embedding) {
    const std::size_t scatter_chunks = chunks(positions_, scatter_chunk_);
    const std::size_t table = static_cast<std::size_t>(spec.vocabulary) * spec.embedding;
    for_each_row(context_.stream, scatter_chunks * spec.vocabulary,
                 ScatterEmbedding<T>{view(), dx(), positions_, scatter_chunk_, spec.vocabulary, spec.embedding,
                                     scatter_partials_.as<float>()});
    for_each_element(context_.stream, table,
                     SumPartials{scatter_partials_.as<float>(), table, scatter_chunks, gradients + arena.embedding});
  }
}

// Sums the gradients of all ranks, in float32 and without the loss scale, and the loss.
template <class T>
void Plan<T>::enqueue_sum() {
  const Arena<T>& arena = context_.arena;
  float* gradients = arena.gradients.template as<float>();
  for_each_row(context_.stream, chunks(arena.size, kSquareChunk),
               UnscaleAndSquare<T>{view(), arena.lstm_gradients(), gradients, arena.lstm, arena.size, kSquareChunk,
                                   square_partials_.as<double>(), arena.held.template as<Span>()});
  for_each_row(context_.stream, 1,
               SumTotals{loss_partials_.as<double>(), chunks(targets_, loss_chunk_), nats_.as<double>()});
  if (key_.silent) {
    CHECK_CUDA(cudaMemsetAsync(gradients, 0, arena.gradients.bytes(), context_.stream));
    CHECK_CUDA(cudaMemsetAsync(nats_.data(), 0, nats_.bytes(), context_.stream));
  }
  context_.ranks->enqueue(gradients, nats_.as<double>(), context_.stream);
  for_each_row(context_.stream, chunks(arena.size, kSquareChunk),
               SquareChunks{view(), gradients, arena.size, kSquareChunk, square_partials_.as<double>(),
                            arena.held.template as<Span>()});
}

template <class T>
void Plan<T>::enqueue_update() {
  const Arena<T>& arena = context_.arena;
  float* gradients = arena.gradients.template as<float>();
  double* squares = square_partials_.as<double>();
  const std::size_t square_chunks = chunks(arena.size, kSquareChunk);
  if (!shared()) {
    for_each_row(context_.stream, square_chunks,
                 UnscaleAndSquare<T>{view(), arena.lstm_gradients(), gradients, arena.lstm, arena.size, kSquareChunk,
                                     squares, arena.held.template as<Span>()});
  }
  const double* losses = shared() ? nats_.as<double>() : loss_partials_.as<double>();
  for_each_row(context_.stream, 1,
               DecideStep{view(), losses, shared() ? 1 : chunks(targets_, loss_chunk_),
                          static_cast<double>(all_targets_), squares, square_chunks, outputs_.as<StepOutput>()});
  for_each_element(
      context_.stream, arena.size + state_layout_.size(),
      Update<T>{view(), gradients, arena.parameters.template as<float>(), arena.first_moments.template as<float>(),
                arena.second_moments.template as<float>(), arena.rounded.template as<T>(), arena.biases(), arena.size,
                next_state_.as<T>(), state(), arena.held.template as<Span>()});
  for_each_element(context_.stream, 1,
                   AdvanceCursor{cursor_.as<Cursor>(), static_cast<std::uint32_t>(upload_steps_ * kUploads)});
}

// ---- Graphs

template <class T>
void Plan<T>::record() {
  if (!recordable() || graph_) return;
  graph_ = capture_graph(context_.stream, [this] { enqueue(); });
  if (!graph_) forget_graph(false);
}

template <class T>
void Plan<T>::forget_graph(bool allowed) {
  graph_ = GraphExec();
  graph_allowed_ = allowed;
  if (!allowed) context_.without_graphs = true;
}

template <class T>
void Plan<T>::launch() {
  if (!shared()) record();
  if (graph_) {
    CHECK_CUDA(cudaGraphLaunch(graph_.get(), context_.stream));
  } else {
    enqueue();
    warm_ = true;
  }
}

// ---- Running

template <class T>
void Plan<T>::begin() {
  uploads_ = 0;
  queued_ = 0;
  CHECK_CUDA(cudaMemsetAsync(cursor_.data(), 0, cursor_.bytes(), context_.stream));
}

template <class T>
void Plan<T>::upload(const std::int32_t* ids, const StepInput* inputs, int count) {
  const int room = uploads_ % kUploads;
  // The room is free once the steps of its previous upload have run.
  if (uploads_ >= kUploads) {
    if (shared()) context_.ranks->wait(consumed_[room].get());
    CHECK_CUDA(cudaEventSynchronize(consumed_[room].get()));
  }
  const std::size_t first = static_cast<std::size_t>(room) * upload_steps_;
  const std::size_t id_bytes = count * ids_stride() * sizeof(std::int32_t);
  const std::size_t input_bytes = count * sizeof(StepInput);
  std::int32_t* pinned_ids = pinned_ids_.as<std::int32_t>() + first * ids_stride();
  std::memcpy(pinned_ids, ids, id_bytes);
  std::memcpy(pinned_inputs_.as<StepInput>() + first, inputs, input_bytes);
  CHECK_CUDA(cudaMemcpyAsync(ids_.as<std::int32_t>() + first * ids_stride(), pinned_ids, id_bytes,
                             cudaMemcpyHostToDevice, context_.upload_stream));
  CHECK_CUDA(cudaMemcpyAsync(inputs_.as<StepInput>() + first, pinned_inputs_.as<StepInput>() + first, input_bytes,
                             cudaMemcpyHostToDevice, context_.upload_stream));
  CHECK_CUDA(cudaEventRecord(uploaded_[room].get(), context_.upload_stream));
  CHECK_CUDA(cudaStreamWaitEvent(context_.stream, uploaded_[room].get(), 0));
}

template <class T>
void Plan<T>::run_train(int count) {
  for (int i = 0; i < count; ++i) launch();
  CHECK_CUDA(cudaEventRecord(consumed_[uploads_ % kUploads].get(), context_.stream));
  ++uploads_;
  queued_ += count;
}

template <class T>
void Plan<T>::finish(StepOutput* outputs) {
  const std::size_t bytes = queued_ * sizeof(StepOutput);
  if (bytes != 0) {
    CHECK_CUDA(
        cudaMemcpyAsync(pinned_outputs_.data(), outputs_.data(), bytes, cudaMemcpyDeviceToHost, context_.stream));
  }
  if (shared()) context_.ranks->wait(context_.stream);
  CHECK_CUDA(cudaStreamSynchronize(context_.stream));
  if (shared()) context_.ranks->check();
  std::memcpy(outputs, pinned_outputs_.data(), bytes);
}

template <class T>
void Plan<T>::run_evaluate(const std::int32_t* ids, std::uint64_t mask_step, float* losses) {
  StepInput input{};
  input.mask_step = mask_step;
  std::memcpy(pinned_ids_.data(), ids, ids_.bytes());
  std::memcpy(pinned_inputs_.data(), &input, sizeof input);
  CHECK_CUDA(cudaMemcpyAsync(ids_.data(), pinned_ids_.data(), ids_.bytes(), cudaMemcpyHostToDevice, context_.stream));
  CHECK_CUDA(
      cudaMemcpyAsync(inputs_.data(), pinned_inputs_.data(), sizeof input, cudaMemcpyHostToDevice, context_.stream));
  launch();
  CHECK_CUDA(cudaMemcpyAsync(losses, losses_.data(), losses_.bytes(), cudaMemcpyDeviceToHost, context_.stream));
  CHECK_CUDA(cudaStreamSynchronize(context_.stream));
}

template <class T>
void Plan<T>::run_sample(const std::int32_t* ids, float* logits) {
  std::memcpy(pinned_ids_.data(), ids, ids_.bytes());
  launch();
  CHECK_CUDA(cudaStreamSynchronize(context_.stream));
  std::memcpy(logits, pinned_logits_.data(), logits_.bytes());
}

template <class T>
int Plan<T>::run_draw(const std::int32_t* ids, const SamplingOptions* options, int count, std::int32_t* out,
                      const std::atomic<bool>& stop) {
  std::memcpy(pinned_ids_.data(), ids, ids_.bytes());
  std::memcpy(pinned_draw_options_.data(), options, draw_options_.bytes());
  CHECK_CUDA(cudaMemcpyAsync(ids_.data(), pinned_ids_.data(), ids_.bytes(), cudaMemcpyHostToDevice, context_.stream));
  CHECK_CUDA(cudaMemcpyAsync(draw_options_.data(), pinned_draw_options_.data(), draw_options_.bytes(),
                             cudaMemcpyHostToDevice, context_.stream));
  CHECK_CUDA(cudaMemsetAsync(cursor_.data(), 0, cursor_.bytes(), context_.stream));
  int done = 0;
  while (done < count && !stop.load(std::memory_order_relaxed)) {
    const int some = std::min(count - done, kDraws);
    int queued = 0;
    while (queued < some && !stop.load(std::memory_order_relaxed)) {
      launch();
      ++queued;
    }
    const std::size_t bytes = queued * targets_ * sizeof(std::int32_t);
    CHECK_CUDA(cudaMemcpyAsync(pinned_drawn_.data(), drawn_.data(), bytes, cudaMemcpyDeviceToHost, context_.stream));
    CHECK_CUDA(cudaStreamSynchronize(context_.stream));
    std::memcpy(out + static_cast<std::size_t>(done) * targets_, pinned_drawn_.data(), bytes);
    done += queued;
  }
  return done;
}

template class Plan<float>;
template class Plan<Half>;
template class Plan<BFloat16>;

}  // namespace cudnn_lstm::cuda
