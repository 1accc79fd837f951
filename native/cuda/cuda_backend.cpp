#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>

#include "core/sampler.h"
#include "cuda/kernels.h"
#include "cuda/nccl.h"

namespace cudnn_lstm::cuda {
namespace {

// Plans kept at a time: training's full and last batch, validation's and sampling's, with room to spare.
constexpr std::size_t kPlans = 12;
// NVIDIA recommends 32 MiB of cuBLAS workspace on Hopper, less on other GPUs.
constexpr std::size_t kBlasWorkspace = std::size_t{32} << 20;
// An fp16 step whose gradients overflow is run again with its loss scaled down by this factor.
constexpr float kScaleBackoff = 1.0f / 16;
constexpr int kScaleRetries = 6;

// Above this many logits the scratch memory would matter, so the host draws.
constexpr std::size_t kDrawLogits = std::size_t{1} << 24;

constexpr const char* kDead =
    "no model of this process can use the GPU any more: restart the process and resume from the last checkpoint";

// Runs in ascending order, adjacent ones merged.
std::vector<Span> merged_spans(std::vector<Span> spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  std::vector<Span> merged;
  for (const Span& span : spans) {
    if (!merged.empty() && merged.back().end == span.begin) {
      merged.back().end = span.end;
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

// The arena's runs of parameters that do not decay.
std::vector<Span> bias_spans(const Layout& layout, const std::vector<Segment>& segments) {
  std::vector<Span> spans;
  for (const Segment& segment : segments) {
    for (const Parameter& parameter : layout.parameters()) {
      const bool inside =
          segment.canonical >= parameter.offset && segment.canonical < parameter.offset + parameter.size;
      if (inside && !parameter.decays()) spans.push_back({segment.arena, segment.arena + segment.size});
    }
  }
  return merged_spans(std::move(spans));
}

// The arena's runs of the first `frozen` parameters.
std::vector<Span> frozen_spans(std::size_t frozen, const std::vector<Segment>& segments) {
  std::vector<Span> spans;
  for (const Segment& segment : segments) {
    if (segment.canonical >= frozen) continue;
    spans.push_back({segment.arena, segment.arena + std::min(segment.size, frozen - segment.canonical)});
  }
  return merged_spans(std::move(spans));
}

}  // namespace

template <class T>
CudaBackend<T>::CudaBackend(const ModelSpec& spec, const CudaOptions& options,
                            std::shared_ptr<const Libraries> libraries, const std::string& device_name,
                            const Numerics& numerics)
    : spec_(spec),
      layout_(spec),
      options_(options),
      device_name_(device_name),
      libraries_(std::move(libraries)),
      stream_(make_stream(true)),
      upload_stream_(make_stream()),
      rnn_(libraries_, spec_, numerics, options.algorithm != Algorithm::standard, masked_layers() && options.pieces > 1,
           stream_.get()),
      choice_{options.algorithm, std::nullopt} {
  cublasHandle_t handle = nullptr;
  CHECK_CUBLAS(*libraries_, cublasCreate_v2(&handle));
  blas_ = CublasHandle(handle, libraries_->cublas.cublasDestroy_v2);
  CHECK_CUBLAS(*libraries_, cublasSetStream_v2(handle, stream_.get()));
  // With our own workspace, cuBLAS allocates none inside a capture, and its results do not depend on what ran before.
  blas_workspace_ = DeviceBuffer(account_, kBlasWorkspace, "cuBLAS's workspace");
  CHECK_CUBLAS(*libraries_, cublasSetWorkspace_v2(handle, blas_workspace_.data(), blas_workspace_.bytes()));
  if (options.algorithm == Algorithm::automatic && options.chosen) choose(cudnn_algorithm(*options.chosen));
  make_arena();
}

template <class T>
CudaBackend<T>::~CudaBackend() {
  // Buffers, handles and graphs are freed on the model's own device, once nothing queued still uses them.
  cudaSetDevice(options_.ordinal);
  cudaStreamSynchronize(upload_stream_.get());
  cudaStreamSynchronize(stream_.get());
}

template <class T>
void CudaBackend<T>::make_arena() {
  // One weight space, or one per layer where training runs layer by layer.
  std::vector<LayerRange> ranges;
  if (masked_layers()) {
    for (int layer = 0; layer < spec_.layers; ++layer) ranges.push_back({layer, 1});
  } else {
    ranges.push_back(rnn_.all_layers());
  }
  std::vector<RnnDescriptor> descriptors;
  std::vector<std::size_t> begins;
  for (const LayerRange& range : ranges) {
    descriptors.push_back(rnn_.make_descriptor(CUDNN_RNN_ALGO_STANDARD, range));
    begins.push_back(arena_.lstm);
    arena_.lstm += aligned(rnn_.weight_elements(descriptors.back().get()));
  }
  arena_.output = arena_.lstm;
  arena_.output_bias = arena_.output + aligned(layout_.output_weight().size);
  arena_.embedding = arena_.output_bias + aligned(layout_.output_bias().size);
  arena_.size = arena_.embedding + (spec_.coding == InputCoding::embedding ? aligned(layout_.embedding().size) : 0);
  const auto zeroed = [&](std::size_t bytes, const char* what) {
    DeviceBuffer buffer(account_, bytes, what);
    CHECK_CUDA(cudaMemsetAsync(buffer.data(), 0, buffer.bytes(), stream_.get()));
    return buffer;
  };
  for (DeviceBuffer* buffer : {&arena_.parameters, &arena_.gradients, &arena_.first_moments, &arena_.second_moments})
    *buffer = zeroed(arena_.size * sizeof(float), "the parameters, their gradients and moments");
  if (sizeof(T) != sizeof(float)) {
    arena_.rounded = zeroed(arena_.size * sizeof(T), "the 16-bit parameters");
    arena_.rounded_gradients = DeviceBuffer(account_, arena_.lstm * sizeof(T), "the 16-bit gradients");
  }
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const WeightMap map = rnn_.weight_map(descriptors[i].get(), ranges[i], layout_, arena_.weights() + begins[i]);
    for (const Segment& segment : map.parameters)
      arena_.segments.push_back({segment.canonical, begins[i] + segment.arena, segment.size});
    for (const Segment& segment : map.frozen) arena_.frozen.push_back({0, begins[i] + segment.arena, segment.size});
  }
  if (masked_layers()) {
    arena_.layers = begins;
    const RnnDescriptor all = rnn_.make_descriptor(CUDNN_RNN_ALGO_STANDARD, rnn_.all_layers());
    arena_.joined = zeroed(rnn_.weight_elements(all.get()) * sizeof(T), "the layers' weights side by side");
    const WeightMap map = rnn_.weight_map(all.get(), rnn_.all_layers(), layout_, arena_.joined.data());
    // Both maps list the layers in the same order.
    for (std::size_t i = 0; i < map.parameters.size(); ++i)
      arena_.joined_segments.push_back({arena_.segments[i].arena, map.parameters[i].arena, map.parameters[i].size});
  }
  arena_.segments.push_back({layout_.output_weight().offset, arena_.output, layout_.output_weight().size});
  arena_.segments.push_back({layout_.output_bias().offset, arena_.output_bias, layout_.output_bias().size});
  if (spec_.coding == InputCoding::embedding) {
    arena_.segments.push_back({layout_.embedding().offset, arena_.embedding, layout_.embedding().size});
  }
  const std::vector<Span> biases = bias_spans(layout_, arena_.segments);
  arena_.bias_spans = DeviceBuffer(account_, biases.size() * sizeof(Span), "the places of the biases");
  CHECK_CUDA(cudaMemcpyAsync(arena_.bias_spans.data(), biases.data(), biases.size() * sizeof(Span),
                             cudaMemcpyHostToDevice, stream_.get()));
  // A segment makes at most one run.
  arena_.held = zeroed(arena_.segments.size() * sizeof(Span), "the places of what is frozen");
  CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
}

template <class T>
void CudaBackend<T>::freeze(std::size_t frozen) {
  if (frozen == frozen_) return;
  const std::vector<Span> spans = frozen_spans(frozen, arena_.segments);
  if (!spans.empty()) {
    CHECK_CUDA(cudaMemcpyAsync(arena_.held.data(), spans.data(), spans.size() * sizeof(Span), cudaMemcpyHostToDevice,
                               stream_.get()));
    CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
  }
  frozen_ = frozen;
  held_ = static_cast<std::int32_t>(spans.size());
}

template <class T>
void CudaBackend<T>::join_layers(const Plan<T>& plan) {
  if (arena_.joined.data() == nullptr || plan.masked_layers() || !joined_stale_) return;
  for (const Segment& segment : arena_.joined_segments) {
    CHECK_CUDA(cudaMemcpyAsync(arena_.joined.template as<T>() + segment.arena, arena_.weights() + segment.canonical,
                               segment.size * sizeof(T), cudaMemcpyDeviceToDevice, stream_.get()));
  }
  joined_stale_ = false;
}

// ---- Failures

template <class T>
void CudaBackend<T>::require_whole() const {
  if (dead_) throw Error(kDeviceFailed, "the model was lost when a GPU call failed (" + lost_ + "): " + kDead);
  if (!lost_.empty())
    throw Error(kDeviceFailed, "the model was lost when a GPU call failed (" + lost_ + "): load its last checkpoint");
}

template <class T>
template <class Work>
auto CudaBackend<T>::settled(const Work& work) -> decltype(work()) {
  require_whole();
  try {
    use_device(options_.ordinal);
    return work();
  } catch (const Error& error) {
    const cudaError_t uploads = cudaStreamSynchronize(upload_stream_.get());
    const cudaError_t steps = cudaStreamSynchronize(stream_.get());
    const cudaStream_t side = rnn_.stream(1);
    const cudaError_t pieces = side == nullptr ? cudaSuccess : cudaStreamSynchronize(side);
    cudaGetLastError();
    if (uploads == cudaSuccess && steps == cudaSuccess && pieces == cudaSuccess) throw;
    // The streams no longer work either. A kernel fault stays in the context until the process ends.
    dead_ = true;
    lost_ = error.what();
    throw Error(kDeviceFailed, lost_ + "; " + kDead);
  }
}

// ---- Plans

template <class T>
Plan<T>& CudaBackend<T>::plan_for(const PlanKey& key) {
  auto found = plans_.find(key);
  if (found == plans_.end()) {
    evict_plans(kPlans - 1);
    const Context<T> context{spec_,
                             layout_,
                             rnn_,
                             arena_,
                             blas_.get(),
                             stream_.get(),
                             upload_stream_.get(),
                             account_,
                             choice_,
                             options_.pieces,
                             without_graphs_,
                             ranks_.get()};
    std::unique_ptr<Plan<T>> plan;
    try {
      plan = std::make_unique<Plan<T>>(context, key);
    } catch (const Error& error) {
      if (error.code() != kOutOfMemory || plans_.empty()) throw;
      evict_plans(0);  // the other shapes' buffers take up the memory
      plan = std::make_unique<Plan<T>>(context, key);
    }
    found = plans_.emplace(key, std::move(plan)).first;
  }
  found->second->last_used = ++plan_uses_;
  return *found->second;
}

template <class T>
void CudaBackend<T>::evict_plans(std::size_t keep) {
  while (plans_.size() > keep) {
    auto oldest = plans_.end();
    for (auto it = plans_.begin(); it != plans_.end(); ++it) {
      // A plan that ranks share has a graph that all of them must have.
      if (keep > 0 && it->first.all_sequences > 0) continue;
      if (oldest == plans_.end() || it->second->last_used < oldest->second->last_used) oldest = it;
    }
    if (oldest == plans_.end()) return;
    for (State* state : {&training_, &evaluation_, &streams_}) {
      if (state->resident == oldest->second.get()) store_state(*state);
    }
    plans_.erase(oldest);
  }
}

// ---- States

template <class T>
void CudaBackend<T>::take_state(State& state, Plan<T>& plan) {
  if (state.resident == &plan && state.batch == plan.key().batch) return;
  const StateLayout to = plan.state_layout(), from = state.layout();
  const auto copy = [&](std::size_t at, std::size_t source, std::size_t values) {
    CHECK_CUDA(cudaMemcpyAsync(plan.state() + at, state.data() + source, values * sizeof(T), cudaMemcpyDeviceToDevice,
                               stream_.get()));
  };
  if (state.batch != plan.key().batch) {
    CHECK_CUDA(cudaMemsetAsync(plan.state(), 0, to.size() * sizeof(T), stream_.get()));
  } else if (from.apart == to.apart) {
    copy(0, 0, to.size());
  } else {
    for (std::size_t layer = 0; layer < to.layers; ++layer) {
      for (std::size_t which = 0; which < 2; ++which) copy(to.offset(which, layer), from.offset(which, layer), to.rows);
    }
  }
  state.batch = plan.key().batch;
  state.resident = &plan;
}

template <class T>
void CudaBackend<T>::store_state(State& state) {
  const StateLayout layout = state.resident->state_layout();
  const std::size_t bytes = layout.size() * sizeof(T);
  if (state.stored.bytes() != bytes) state.stored = DeviceBuffer(account_, bytes, "the state");
  CHECK_CUDA(
      cudaMemcpyAsync(state.stored.data(), state.resident->state(), bytes, cudaMemcpyDeviceToDevice, stream_.get()));
  CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
  state.stored_layout = layout;
  state.resident = nullptr;
}

// ---- Training

template <class T>
StepInput CudaBackend<T>::step_input(const OptimizerStep& optimizer, std::uint64_t done, float loss_scale) const {
  StepInput input{};
  input.mask_step = done;
  input.update = update_constants(optimizer, static_cast<double>(done + 1));
  input.clip = static_cast<float>(optimizer.clip);
  input.loss_scale = loss_scale;
  input.held = held_;
  return input;
}

template <class T>
StepResult CudaBackend<T>::train_step(const Batch& batch, const OptimizerStep& optimizer,
                                      const std::atomic<bool>& stop) {
  StepResult result;
  train_steps(batch, &optimizer, 1, &result, stop);
  return result;
}

template <class T>
int CudaBackend<T>::train_steps(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                                const std::atomic<bool>& stop) {
  if (first.ranks != nullptr) return train_shared(first, optimizers, count, results, stop);
  return train(first, optimizers, count, results, stop,
               {PlanKind::train, first.steps, first.batch, first.target, first.carry_state, spec_.dropout > 0});
}

// Agrees on whether all ranks replay their steps as graphs. NCCL needs a sum recorded on all ranks or on none, and a
// rank may have lost its graph with its plan or failed to record one.
template <class T>
void CudaBackend<T>::agree_on_graph(Communicator& ranks, Plan<T>& plan) {
  if (ranks.all(plan.recorded())) return;
  plan.forget_graph(plan.recordable() || !plan.warm());
  if (!ranks.all(plan.recordable())) return;
  plan.record();
  if (!ranks.all(plan.recorded())) plan.forget_graph(false);
}

// All ranks queue the same steps, so they first agree on whether to stop.
template <class T>
int CudaBackend<T>::train_shared(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                                 const std::atomic<bool>& stop) {
  require_whole();  // before waiting for the others
  if (!first.ranks->all(!stop.load(std::memory_order_relaxed))) {
    results[0] = {std::nan(""), std::nan(""), false, true};
    return 0;
  }
  static const std::atomic<bool> never{false};
  if (!ranks_) {
    settled([&] {
      ranks_ = options_.nccl ? sum_by_nccl(*first.ranks, arena_.size, options_.library_path)
                             : sum_by_host(*first.ranks, arena_.size, account_);
    });
    ranks_size_ = first.ranks->size();
  }
  PlanKey key{PlanKind::train,   first.steps,          std::max(first.batch, 1), first.target,    first.carry_state,
              spec_.dropout > 0, first.first_sequence, first.global_batch,       first.batch == 0};
  if (key.silent) key.carry = false;
  settled([&] { agree_on_graph(*first.ranks, plan_for(key)); });
  if (!key.silent) return train(first, optimizers, count, results, never, key);
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(count) * (first.steps + 1));
  Batch dummy = first;
  dummy.ids = ids.data();
  dummy.batch = 1;
  dummy.carry_state = false;
  const int done = train(dummy, optimizers, count, results, never, key);
  training_.clear();
  return done;
}

template <class T>
int CudaBackend<T>::train(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                          const std::atomic<bool>& stop, const PlanKey& key) {
  return settled([&] {
    Plan<T>& plan = plan_for(key);
    last_algorithm_ = plan.algorithm();
    if (options_.algorithm == Algorithm::automatic) choose(*choice_.chosen);
    joined_stale_ = true;
    try {
      freeze(optimizers->frozen);
      return run_steps(plan, first, optimizers, count, results, stop);
    } catch (const Error& error) {
      lost_ = error.what();
      if (ranks_) give_up_ranks();
      throw;
    }
  });
}

template <class T>
void CudaBackend<T>::give_up_ranks() {
  for (const auto& [key, plan] : plans_) plan->forget_graph(false);
  ranks_->give_up();
}

template <class T>
int CudaBackend<T>::run_steps(Plan<T>& plan, const Batch& first, const OptimizerStep* optimizers, int count,
                              StepResult* results, const std::atomic<bool>& stop) {
  const std::size_t stride = static_cast<std::size_t>(first.steps + 1) * first.batch;
  // fp16: the mean over the targets makes gradients too small for 5 bits of exponent, so the loss is scaled up to their
  // sum. The scale depends on the shape alone, so that a resumed run repeats the bits of an uninterrupted one.
  const double targets = static_cast<double>(first.all_sequences()) * (first.target == Target::last ? 1 : first.steps);
  const float base_scale =
      options_.precision == Precision::fp16 ? static_cast<float>(std::exp2(std::floor(std::log2(targets)))) : 1.0f;

  int completed = 0;
  int retries = 0;  // of the step at `completed`
  while (completed < count) {
    if (stop.load(std::memory_order_relaxed)) break;
    const int limit = std::min(count - completed, retries > 0 ? 1 : Plan<T>::kMaxSteps);
    if (first.carry_state) take_state(training_, plan);
    plan.begin();
    int queued = 0;
    while (queued < limit && (queued == 0 || !stop.load(std::memory_order_relaxed))) {
      const int some = std::min(limit - queued, plan.upload_steps());
      StepInput inputs[Plan<T>::kUploadSteps];
      for (int i = 0; i < some; ++i) {
        const int step = completed + queued + i;
        const float scale = base_scale * std::pow(kScaleBackoff, static_cast<float>(i + queued == 0 ? retries : 0));
        inputs[i] = step_input(optimizers[step], step_count_ + queued + i, scale);
      }
      plan.upload(first.ids + static_cast<std::size_t>(completed + queued) * stride, inputs, some);
      plan.run_train(some);
      queued += some;
    }
    std::vector<StepOutput> outputs(queued);
    plan.finish(outputs.data());

    int applied = 0;
    while (applied < queued && outputs[applied].applied != 0) ++applied;
    for (int i = 0; i < std::min(applied + 1, queued); ++i) {
      results[completed + i] = {outputs[i].loss, outputs[i].norm, outputs[i].applied != 0};
    }
    if (applied > 0) {
      step_count_ += applied;
      training_.batch = first.batch;
      training_.resident = &plan;
    }
    completed += applied;
    if (applied == queued) {
      retries = 0;
      continue;
    }
    retries = applied > 0 ? 1 : retries + 1;
    const bool overflow = options_.precision == Precision::fp16 && std::isfinite(outputs[applied].loss);
    if (!overflow || retries > kScaleRetries) return completed;
  }
  if (completed < count) results[completed] = {std::nan(""), std::nan(""), false};
  return completed;
}

template <class T>
void CudaBackend<T>::evaluate(const Batch& batch, bool dropout, std::uint64_t mask_step, float* losses,
                              const std::atomic<bool>& stop) {
  if (stop.load(std::memory_order_relaxed)) return;
  settled([&] {
    Plan<T>& plan = plan_for(
        {PlanKind::evaluate, batch.steps, batch.batch, batch.target, batch.carry_state, dropout && spec_.dropout > 0});
    if (batch.carry_state) take_state(evaluation_, plan);
    join_layers(plan);
    plan.run_evaluate(batch.ids, mask_step, losses);
  });
}

// ---- Sampling

template <class T>
void CudaBackend<T>::reset_stream_state(int streams) {
  settled([&] {
    streams_.clear();
    take_state(streams_, plan_for({PlanKind::sample, 1, streams, Target::every, true, false}));
  });
}

template <class T>
void CudaBackend<T>::next_logits(const std::int32_t* ids, int steps, int streams, float* logits,
                                 const std::atomic<bool>& stop) {
  settled([&] {
    Plan<T>& plan = plan_for({PlanKind::sample, 1, streams, Target::every, true, false});
    take_state(streams_, plan);
    join_layers(plan);
    for (int step = 0; step < steps && !stop.load(std::memory_order_relaxed); ++step) {
      plan.run_sample(ids + static_cast<std::size_t>(step) * streams, logits);
    }
  });
}

template <class T>
int CudaBackend<T>::draw(const std::int32_t* ids, int streams, const SamplingOptions* options, int count,
                         std::int32_t* out, const std::atomic<bool>& stop) {
  const std::size_t logits = static_cast<std::size_t>(streams) * spec_.vocabulary;
  if (spec_.vocabulary > kMostDrawn || logits > kDrawLogits) return -1;
  return settled([&] {
    Plan<T>& plan = plan_for({PlanKind::draw, 1, streams, Target::every, true, false});
    take_state(streams_, plan);
    join_layers(plan);
    return plan.run_draw(ids, options, count, out, stop);
  });
}

// ---- Slots

template <class T>
std::size_t CudaBackend<T>::slot_size(Slot slot) const {
  if (slot == Slot::training_state) return state_values(training_.batch);
  if (slot == Slot::stream_state) return state_values(streams_.batch);
  return layout_.size();
}

template <class T>
const DeviceBuffer& CudaBackend<T>::arena_slot(Slot slot) const {
  switch (slot) {
    case Slot::gradients:
      return arena_.gradients;
    case Slot::first_moments:
      return arena_.first_moments;
    case Slot::second_moments:
      return arena_.second_moments;
    default:
      return arena_.parameters;
  }
}

template <class T>
template <class Visit>
void CudaBackend<T>::for_each_overlap(std::size_t offset, std::size_t count, const Visit& visit) const {
  for (const Segment& segment : arena_.segments) {
    const std::size_t begin = std::max(offset, segment.canonical);
    const std::size_t end = std::min(offset + count, segment.canonical + segment.size);
    if (begin < end) visit(segment.arena + (begin - segment.canonical), begin - offset, end - begin);
  }
}

template <class T>
void CudaBackend<T>::read_range(Slot slot, std::size_t offset, std::size_t count, float* out) const {
  require_whole();
  check_range(slot, offset, count, false);
  use_device(options_.ordinal);
  if (slot == Slot::training_state) return read_state(training_, out);
  if (slot == Slot::stream_state) return read_state(streams_, out);
  const float* values = arena_slot(slot).template as<float>();
  for_each_overlap(offset, count, [&](std::size_t inside, std::size_t outside, std::size_t size) {
    CHECK_CUDA(
        cudaMemcpyAsync(out + outside, values + inside, size * sizeof(float), cudaMemcpyDeviceToHost, stream_.get()));
  });
  CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
}

template <class T>
void CudaBackend<T>::write_range(Slot slot, std::size_t offset, const float* values, std::size_t count) {
  require_whole();
  check_range(slot, offset, count, true);
  use_device(options_.ordinal);
  if (slot == Slot::training_state) return write_state(training_, values, count);
  if (slot == Slot::stream_state) return write_state(streams_, values, count);
  float* const to = arena_slot(slot).template as<float>();
  if (slot == Slot::parameters) joined_stale_ = true;
  const bool rounds = slot == Slot::parameters && arena_.rounded.data() != nullptr;
  for_each_overlap(offset, count, [&](std::size_t inside, std::size_t outside, std::size_t size) {
    CHECK_CUDA(
        cudaMemcpyAsync(to + inside, values + outside, size * sizeof(float), cudaMemcpyHostToDevice, stream_.get()));
    if (rounds) {
      for_each_element(stream_.get(), size, Round<T>{to + inside, arena_.rounded.template as<T>() + inside});
    }
  });
  CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
}

template <class T>
void CudaBackend<T>::read_state(const State& state, float* out) const {
  if (state.batch == 0) return;
  const StateLayout& inside = state.layout();
  std::vector<T> values(inside.size());
  CHECK_CUDA(
      cudaMemcpyAsync(values.data(), state.data(), values.size() * sizeof(T), cudaMemcpyDeviceToHost, stream_.get()));
  CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
  for (std::size_t layer = 0; layer < inside.layers; ++layer) {
    for (std::size_t which = 0; which < 2; ++which) {
      const T* from = values.data() + inside.offset(which, layer);
      for (std::size_t i = 0; i < inside.rows; ++i) *out++ = to_float(from[i]);
    }
  }
}

template <class T>
void CudaBackend<T>::write_state(State& state, const float* values, std::size_t count) {
  state.clear();
  if (count == 0) return;
  const int batch = static_cast<int>(count / state_values(1));
  const StateLayout inside = state_layout_of(spec_, batch, false);
  std::vector<T> rounded(inside.size(), from_float<T>(0.0f));
  for (std::size_t layer = 0; layer < inside.layers; ++layer) {
    for (std::size_t which = 0; which < 2; ++which) {
      T* to = rounded.data() + inside.offset(which, layer);
      for (std::size_t i = 0; i < inside.rows; ++i) to[i] = from_float<T>(*values++);
    }
  }
  const std::size_t bytes = rounded.size() * sizeof(T);
  if (state.stored.bytes() != bytes) state.stored = DeviceBuffer(account_, bytes, "the state");
  CHECK_CUDA(cudaMemcpyAsync(state.stored.data(), rounded.data(), bytes, cudaMemcpyHostToDevice, stream_.get()));
  CHECK_CUDA(cudaStreamSynchronize(stream_.get()));
  state.stored_layout = inside;
  state.batch = batch;
}

template <class T>
void CudaBackend<T>::choose(cudnnRNNAlgo_t algorithm) {
  choice_.chosen = algorithm;
  chosen_algorithm_ = algorithm_title(algorithm);
}

template <class T>
std::string CudaBackend<T>::chosen_algorithm() const {
  const char* title = chosen_algorithm_;
  return title == nullptr ? "" : title;
}

template <class T>
std::string CudaBackend<T>::description() const {
  std::string text = device_name_ + " (cuDNN " + libraries_->cudnn_version.version + ", " + rnn_.numerics().title;
  if (const char* algorithm = last_algorithm_) text += std::string(", ") + algorithm;
  if (const int size = ranks_size_)
    text +=
        ", gradients summed over " + std::to_string(size) + " ranks by " + (options_.nccl ? "NCCL" : "way of the host");
  if (without_graphs_) text += ", without CUDA graphs";
  return text + ")";
}

template class CudaBackend<float>;
template class CudaBackend<Half>;
template class CudaBackend<BFloat16>;

}  // namespace cudnn_lstm::cuda
