#include "cpu/cpu_backend.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>

#include "core/communicator.h"

namespace cudnn_lstm::cpu {
namespace {

std::size_t round_up(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Grows, never shrinks: a run alternates between training, evaluation and sampling.
template <typename T>
void ensure(AlignedBuffer<T>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer.resize(size);
}

// Logits are kept for a run of pairs of at most this many bytes, so that a large vocabulary is not multiplied by T.
constexpr std::size_t kLogitsBytes = std::size_t{8} << 20;

// A model of at most this size keeps all forms of its weights: switching would cost more than the memory they take.
constexpr std::size_t kKeptBytes = std::size_t{4} << 20;

int blocks_of(int batch) { return (batch + kLanes - 1) / kLanes; }

const char* isa_title(const std::string& name) {
  if (name == "avx512bf16") return "AVX-512 with BF16";
  if (name == "avx512") return "AVX-512";
  if (name == "avx2") return "AVX2";
  if (name == "neon") return "NEON";
  return "baseline";
}

}  // namespace

CpuBackend::CpuBackend(const ModelSpec& spec, int threads, TeamTuner::Mode mode, const KernelTable& kernels,
                       WeightForm form, Arithmetic arithmetic)
    : spec_(spec),
      layout_(spec_),
      kernels_(kernels),
      form_(form),
      arithmetic_(arithmetic),
      team_(threads),
      tuner_(mode),
      weights_(spec_, layout_, kernels_, form_, arithmetic_, parameters_, team_),
      units_padded_(static_cast<int>(round_up(spec.hidden, 16))),
      inputs_(spec.input_size()),
      input_gradients_(spec.input_size()),
      outputs_gradient_(spec.hidden),
      recurrent_gradient_(spec.hidden),
      cell_gradient_(spec.hidden),
      logits_(weights_.vocabulary_padded()),
      panels_(team_.most()),
      bf16_panels_(team_.most()),
      rounded_(team_.most()),
      rounded_tiles_(team_.most()),
      training_state_(spec.hidden),
      evaluation_state_(spec.hidden),
      stream_lanes_(spec.hidden),
      sequence_gates_(4 * spec.hidden),
      sequence_logits_(spec.vocabulary) {
  for (int layer = 0; layer < spec_.layers; ++layer) layers_.emplace_back(spec_.hidden);
  parameters_.resize(layout_.size());
}

// A trial lasts at least this many seconds; under a quota, as long as one of its periods, at the start of which all
// threads run.
constexpr double kTrialSeconds = 0.01;
constexpr double kTrialSecondsOfQuota = 0.11;

CpuBackend::TunedCall::TunedCall(CpuBackend& backend, Call call, int blocks, int steps, int most)
    : backend_(backend), steps_(steps), start_(nanoseconds()) {
  const CpuAllowance& allowance = backend.allowance_.now();
  ThreadTeam& team = backend.team_;
  const bool adapts = backend.tuner_.mode() == TeamTuner::Mode::adapt;
  const bool part = allowance.quota > 0 && allowance.quota < allowance.cpus;
  std::uint64_t kind = static_cast<std::uint64_t>(call);
  kind = kind << 32 | static_cast<std::uint64_t>(blocks);
  int magnitude = 0;
  while (steps >> magnitude > 1) ++magnitude;
  kind = kind << 8 | static_cast<std::uint64_t>(magnitude);
  do {
    const int threads = std::min({most, team.most(), adapts ? allowance.threads() : team.most()});
    const auto options = [&]() -> std::vector<Partition> {
      if (call != Call::sequence) {
        return partition_options(threads, blocks, backend.spec_.hidden, backend.kernels_.tile_rows,
                                 backend.kernels_.tile_blocks);
      }
      std::vector<Partition> sizes;
      for (const int size : team_sizes(threads)) sizes.push_back({size, 0, true, {}});
      return sizes;
    };
    partition_ = &backend.tuner_.choose(kind, threads, part ? kTrialSecondsOfQuota : kTrialSeconds, options);
  } while (team.resize(partition_->threads) < partition_->threads);
  team.set_cpus(allowance.threads());
}

CpuBackend::TunedCall::~TunedCall() {
  const double worked = backend_.team_.take_worked_share();
  if (!backend_.gave_up()) {
    backend_.tuner_.report(steps_, static_cast<double>(nanoseconds() - start_) * 1e-9, worked);
  }
}

void CpuBackend::share(int count, const std::function<void(int)>& work) {
  const int threads = std::min(count, team_.size());
  team_.run(threads, [&](int thread) {
    for (int i = share_begin(count, threads, thread); i < share_begin(count, threads, thread + 1); ++i) work(i);
  });
}

void CpuBackend::run_team(const std::function<void(int)>& work) {
  team_.run(pass_.partition.threads, [&](int thread) {
    resumed();
    work(thread);
    looked();
  });
}

void CpuBackend::heed(const std::atomic<bool>& stop) {
  stop_.watch(stop);
  abandoned_ = false;
}

bool CpuBackend::meet() {
  looked();
  team_.barrier([this] { abandoned_ = abandoned_ || stopped(); });
  resumed();
  return abandoned_;
}

void CpuBackend::zero_share(AlignedBuffer<float>& buffer, int thread) {
  constexpr std::size_t kBetweenLooks = std::size_t{1} << 18;
  const int threads = pass_.partition.threads;
  const std::size_t end = buffer.size() * (thread + 1) / threads;
  for (std::size_t at = buffer.size() * thread / threads; at < end && !stopped(); at += kBetweenLooks) {
    std::fill_n(buffer.data() + at, std::min(kBetweenLooks, end - at), 0.0f);
  }
}

// Makes room for a pass and sets its initial state: `from`, or zero if that is null or from a batch of another size.
void CpuBackend::begin_pass(const Pass& pass, const LaneState* from) {
  pass_ = pass;
  pass_.blocks = blocks_of(pass.batch);
  if (pass_.blocks == 0) return;  // a rank with no share of an epoch's last, smaller batch
  const std::size_t blocks = pass_.blocks;
  const std::size_t all = pairs();
  for (int l = 0; l < spec_.layers; ++l) {
    LayerActivations& layer = layers_[l];
    layer.gates.ensure(all);
    layer.c.ensure(all + blocks);
    layer.h.ensure(all + blocks);
    if (pass_.dropout) {
      layer.dropped.ensure(all);
      ensure(layer.keep, all * units_padded_);
    }
    for (int which = 0; which < 2; ++which) {
      LaneBlocks& start = which == 0 ? layer.h : layer.c;
      const bool carried = from != nullptr && from->batch == pass_.batch;
      for (std::size_t block = 0; block < blocks && !stopped(); ++block) {
        float* to = start.block(block).rows();
        if (carried) {
          std::copy_n(from->data.rows(state_block(pass_.blocks, l, which) + block), start.stride(), to);
        } else {
          std::fill_n(to, start.stride(), 0.0f);
        }
      }
    }
  }
  find_resets();
  if (spec_.coding != InputCoding::onehot) inputs_.ensure(all);
  const std::size_t pair_logits = static_cast<std::size_t>(weights_.vocabulary_padded()) * kLanes;
  const std::size_t threads = pass_.partition.threads;
  output_chunk_ = static_cast<int>(std::max(kLogitsBytes / (pair_logits * sizeof(float)), threads));
  output_chunk_ = std::min<int>(output_chunk_, pass_.target == Target::last ? pass_.blocks : pairs());
  logits_.ensure(output_chunk_);
  ensure(losses_, all * kLanes);
  if (pass_.gradient) {
    outputs_gradient_.ensure(all);
    recurrent_gradient_.ensure(spec_.layers * blocks);
    cell_gradient_.ensure(spec_.layers * blocks);
    for (std::size_t i = 0; i < threads; ++i) {
      panels_[i].ensure(rounds() ? 1 : panels_of_a_thread(), kernels_.panel_width);
      if (!rounds()) continue;
      bf16_panels_[i].ensure(panels_of_a_thread(), kernels_.panel_width);
      rounded_[i].ensure(kRoundedBlocks, std::max(4 * spec_.hidden, spec_.embedding));
      rounded_[i].ensure(1, spec_.vocabulary);
      rounded_tiles_[i].ensure(kernels_.tile_rows);
    }
    if (spec_.coding == InputCoding::embedding) input_gradients_.ensure(all);
    if (spec_.coding == InputCoding::onehot) {
      ensure(onehot_gradient_, static_cast<std::size_t>(spec_.vocabulary) * weights_.gate_rows_padded());
    }
  }
  weights_.prepare_lanes(pass_.gradient, lean(), stop_);
}

// Finds which lanes are reset before which step, and prepares the rows that the first step starts from.
void CpuBackend::find_resets() {
  if (spec_.reset_symbol < 0) return;
  resets_.assign(pairs(), 0);
  for (int step = 0; step < pass_.steps; ++step)
    for (int b = 0; b < pass_.batch; ++b) {
      if (pass_.ids[static_cast<std::size_t>(step) * pass_.batch + b] != spec_.reset_symbol) continue;
      resets_[static_cast<std::size_t>(step) * pass_.blocks + b / kLanes] |= 1u << (b % kLanes);
    }
  for (int l = 0; l < spec_.layers; ++l) {
    layers_[l].h_reset.ensure(pairs());
    layers_[l].c_reset.ensure(pairs());
    for (int block = 0; block < pass_.blocks; ++block) reset_lanes(l, 0, block, 0, units_padded_);
  }
}

void CpuBackend::end_pass(LaneState& to) const {
  to.batch = pass_.batch;
  if (pass_.blocks == 0) return;
  to.data.ensure(state_block(pass_.blocks, spec_.layers, 0));
  const std::size_t last = static_cast<std::size_t>(pass_.steps) * pass_.blocks;
  for (int l = 0; l < spec_.layers; ++l)
    for (int which = 0; which < 2; ++which) {
      const LaneBlocks& from = which == 0 ? layers_[l].h : layers_[l].c;
      for (int block = 0; block < pass_.blocks; ++block) {
        std::copy_n(from.rows(last + block), from.stride(),
                    to.data.block(state_block(pass_.blocks, l, which) + block).rows());
      }
    }
}

bool CpuBackend::lean() const {
  return layout_.size() * sizeof(float) > kKeptBytes && gradients_.size() == 0 && first_moments_.size() == 0 &&
         second_moments_.size() == 0;
}

StepResult CpuBackend::train_step(const Batch& batch, const OptimizerStep& optimizer, const std::atomic<bool>& stop) {
  if (form_ != WeightForm::fp32) {
    throw Error(kInvalidArgument, "a model whose weights are kept in 8 or 16 bits cannot be trained");
  }
  Pass pass;
  pass.ids = batch.ids;
  pass.steps = batch.steps;
  pass.batch = batch.batch;
  pass.first_block = batch.first_sequence / kLanes;
  pass.all_sequences = batch.all_sequences();
  pass.target = batch.target;
  pass.dropout = spec_.dropout > 0;
  pass.mask_step = step_count_;
  pass.gradient = true;
  heed(stop);
  if (!finish_update()) {
    if (batch.ranks == nullptr) return {std::nan(""), std::nan(""), false, true};
    finish_update(0, layout_.size());  // the other ranks wait for this one to say that it stops
    update_.done.clear();
  }
  // Not earlier: a model that only writes or scores text has no use for them.
  gradients_.resize(layout_.size());
  make_slots(optimizer.optimizer);
  const TunedCall call(*this, Call::train, blocks_of(batch.batch), batch.steps, team_.most());
  pass.partition = call.partition();
  begin_pass(pass, batch.carry_state ? &training_state_ : nullptr);
  const int threads = pass_.partition.threads;
  norm_parts_.assign(norm_pieces(), 0.0);
  double norm = 0;
  double loss = 0;
  bool applied = false;
  bool given_up = false;
  std::exception_ptr failure;
  // A failure is thrown once the team has finished. After one, nothing is asked of the other ranks.
  const auto together = [&](const auto& collective) {
    try {
      if (!failure) collective();
    } catch (...) {
      failure = std::current_exception();
    }
  };
  run_team([&](int thread) {
    zero_share(gradients_, thread);
    if (pass_.blocks > 0) compute_gradients(thread);
    // Even if this rank gives up: the others wait for it.
    if (batch.ranks != nullptr) {
      if (thread == 0) together([&] { batch.ranks->sum(gradients_.data(), layout_.size()); });
      team_.barrier();
    }
    if (!abandoned_) norm_share(thread, threads, optimizer.frozen);
    team_.barrier();
    if (thread == 0) {
      norm = gradient_norm();
      Agreement agreed{sum_of_losses(), stopped()};
      if (batch.ranks != nullptr) together([&] { agreed = batch.ranks->agree(agreed.nats, agreed.stopped); });
      given_up = agreed.stopped;
      loss = agreed.nats / (static_cast<double>(pass_.steps - output_first_step()) * pass_.all_sequences);
      applied = !given_up && !failure && std::isfinite(loss) && std::isfinite(norm);
      if (applied) begin_update(optimizer, norm);
    }
    team_.barrier();
    if (applied) update_share(thread, threads);
  });
  if (failure) std::rethrow_exception(failure);
  if (given_up) return {std::nan(""), std::nan(""), false, true};
  if (!applied) return {loss, norm, false};
  if (!gave_up()) update_.done.clear();
  ++step_count_;
  weights_.changed();
  end_pass(training_state_);
  return {loss, norm, true};
}

void CpuBackend::compute_gradients(int thread) {
  encode_input(thread);
  if (meet()) return;
  forward(thread);
  if (!abandoned_) output_stage(thread);
  if (!abandoned_) backward(thread);
}

// In nats, over this rank's targets.
double CpuBackend::sum_of_losses() {
  double total = 0;
  for (int step = output_first_step(); step < pass_.steps && !stopped(); ++step)
    for (int b = 0; b < pass_.batch; ++b) {
      total += losses_[(static_cast<std::size_t>(step) * pass_.blocks + b / kLanes) * kLanes + b % kLanes];
    }
  return total;
}

void CpuBackend::evaluate(const Batch& batch, bool dropout, std::uint64_t mask_step, float* losses,
                          const std::atomic<bool>& stop) {
  heed(stop);
  if (!finish_update()) return;
  if (batch.batch <= kSingleStreams && !(dropout && spec_.dropout > 0)) return evaluate_single(batch, losses);
  Pass pass;
  pass.ids = batch.ids;
  pass.steps = batch.steps;
  pass.batch = batch.batch;
  pass.target = batch.target;
  pass.all_sequences = batch.batch;
  pass.dropout = dropout && spec_.dropout > 0;
  pass.mask_step = mask_step;
  const TunedCall call(*this, Call::evaluate, blocks_of(batch.batch), batch.steps, team_.most());
  pass.partition = call.partition();
  begin_pass(pass, batch.carry_state ? &evaluation_state_ : nullptr);
  run_team([&](int thread) {
    encode_input(thread);
    if (meet()) return;
    forward(thread);
    if (!abandoned_) output_stage(thread);
  });
  if (gave_up()) return;
  if (batch.carry_state) {
    end_pass(evaluation_state_);
    evaluation_rows_.clear();
  }
  const int first = output_first_step();
  for (int step = first; step < pass_.steps; ++step) {
    for (int b = 0; b < pass_.batch; ++b) {
      *losses++ = losses_[(static_cast<std::size_t>(step) * pass_.blocks + b / kLanes) * kLanes + b % kLanes];
    }
  }
}

// ---- Slots: the canonical layout outside, lane blocks inside.

void CpuBackend::read_lane_state(const LaneState& state, float* out) const {
  const int blocks = (state.batch + kLanes - 1) / kLanes;
  for (int l = 0; l < spec_.layers; ++l)
    for (int which = 0; which < 2; ++which) {
      const std::size_t first = state_block(blocks, l, which);
      for (int b = 0; b < state.batch; ++b) {
        const float* rows = state.data.rows(first + b / kLanes);
        for (int u = 0; u < spec_.hidden; ++u) *out++ = rows[u * kLanes + b % kLanes];
      }
    }
}

void CpuBackend::write_lane_state(LaneState& state, const float* values, std::size_t count) {
  const std::size_t each = static_cast<std::size_t>(spec_.layers) * 2 * spec_.hidden;
  state.batch = static_cast<int>(count / each);
  const int blocks = (state.batch + kLanes - 1) / kLanes;
  state.data.ensure(state_block(blocks, spec_.layers, 0));
  state.data.zero();
  for (int l = 0; l < spec_.layers; ++l)
    for (int which = 0; which < 2; ++which) {
      const std::size_t first = state_block(blocks, l, which);
      for (int b = 0; b < state.batch; ++b) {
        float* rows = state.data.block(first + b / kLanes).rows();
        for (int u = 0; u < spec_.hidden; ++u) rows[u * kLanes + b % kLanes] = *values++;
      }
    }
}

std::size_t CpuBackend::slot_size(Slot slot) const {
  const std::size_t each = static_cast<std::size_t>(spec_.layers) * 2 * spec_.hidden;
  if (slot == Slot::training_state) return each * training_state_.batch;
  if (slot == Slot::stream_state) return each * streams_;
  return layout_.size();
}

void CpuBackend::read_range(Slot slot, std::size_t offset, std::size_t count, float* out) const {
  check_range(slot, offset, count, false);
  const bool state = slot == Slot::training_state || slot == Slot::stream_state;
  if (!state) finish_update(offset, count);
  // The gradients and moments of a model that was never trained are zero and not allocated.
  const auto copy = [&](const AlignedBuffer<float>& from) {
    if (from.size() > 0) {
      std::copy_n(from.data() + offset, count, out);
    } else {
      std::fill_n(out, count, 0.0f);
    }
  };
  switch (slot) {
    case Slot::parameters:
      return weights_.read(offset, count, out);
    case Slot::gradients:
      return copy(gradients_);
    case Slot::first_moments:
      return copy(first_moments_);
    case Slot::second_moments:
      return copy(second_moments_);
    case Slot::training_state:
      return read_lane_state(training_state_, out);
    case Slot::stream_state:
      if (stream_rows_.empty()) return read_lane_state(stream_lanes_, out);
      std::copy_n(stream_rows_.begin(), count, out);
      return;
  }
}

void CpuBackend::write_range(Slot slot, std::size_t offset, const float* values, std::size_t count) {
  check_range(slot, offset, count, true);
  if (slot == Slot::training_state) return write_lane_state(training_state_, values, count);
  if (slot == Slot::stream_state) {
    const std::size_t each = static_cast<std::size_t>(spec_.layers) * 2 * spec_.hidden;
    reset_stream_state(static_cast<int>(count / each));
    if (stream_rows_.empty()) return write_lane_state(stream_lanes_, values, count);
    std::copy(values, values + count, stream_rows_.begin());
    return;
  }
  finish_update(offset, count);
  AlignedBuffer<float>& target = slot == Slot::parameters      ? parameters_
                                 : slot == Slot::gradients     ? gradients_
                                 : slot == Slot::first_moments ? first_moments_
                                                               : second_moments_;
  if (slot == Slot::parameters) weights_.restore();
  target.resize(layout_.size());
  std::copy_n(values, count, target.data() + offset);
  if (slot == Slot::parameters) weights_.changed();
}

std::size_t CpuBackend::host_bytes() const {
  std::size_t total = parameters_.bytes() + gradients_.bytes() + first_moments_.bytes() + second_moments_.bytes() +
                      weights_.bytes() + inputs_.bytes() + input_gradients_.bytes() + outputs_gradient_.bytes() +
                      recurrent_gradient_.bytes() + cell_gradient_.bytes() + onehot_gradient_.bytes() +
                      logits_.bytes() + losses_.bytes() + training_state_.data.bytes() +
                      evaluation_state_.data.bytes() + stream_lanes_.data.bytes() + sequence_gates_.bytes() +
                      sequence_outputs_.bytes() + sequence_logits_.bytes() +
                      (stream_rows_.size() + evaluation_rows_.size()) * sizeof(float);
  for (const LayerActivations& layer : layers_) {
    total += layer.gates.bytes() + layer.c.bytes() + layer.h.bytes() + layer.dropped.bytes() + layer.keep.bytes() +
             layer.c_reset.bytes() + layer.h_reset.bytes();
  }
  for (std::size_t i = 0; i < panels_.size(); ++i) {
    total += panels_[i].bytes() + bf16_panels_[i].bytes() + rounded_[i].bytes() + rounded_tiles_[i].bytes();
  }
  return total;
}

std::string CpuBackend::description() const {
  const int threads =
      tuner_.mode() == TeamTuner::Mode::adapt ? std::min(team_.most(), read_cpu_allowance().threads()) : team_.most();
  return std::string("CPU (") + isa_title(kernels_.name) + ", " + std::to_string(threads) +
         (threads == 1 ? " thread" : " threads") + ", " +
         (arithmetic_ == Arithmetic::fp32 ? "fp32"
          : kernels_.multiplies_bf16      ? "bf16 in training"
                                          : "bf16 in training, emulated") +
         (form_ == WeightForm::bf16   ? ", bf16 weights"
          : form_ == WeightForm::int8 ? ", int8 weights"
                                      : "") +
         ")";
}

std::unique_ptr<Backend> create_cpu_backend(const ModelSpec& spec, int threads, TeamTuner::Mode mode, WeightForm form,
                                            Arithmetic arithmetic) {
  return std::make_unique<CpuBackend>(spec, threads, mode, choose_kernels(), form, arithmetic);
}

double measure_peak(int threads, int milliseconds, const std::atomic<bool>& stop) {
  const KernelTable& kernels = choose_kernels();
  ThreadTeam team(threads);
  team.resize(threads);
  PeakOperands halves{};
  std::fill_n(halves.factor, kLanes, 0.5f);
  std::fill_n(halves.term, kLanes, 0.5f);
  std::vector<PeakOperands> operands(team.size(), halves);
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(milliseconds);
  double best = 0;
  // The best of many short bursts: a ceiling is what the machine can do, not what it did while something else ran.
  while (Clock::now() < end && !stop.load(std::memory_order_relaxed)) {
    std::vector<double> done(team.size());
    const auto start = Clock::now();
    team.run(team.size(), [&](int thread) { done[thread] = kernels.peak(400'000, operands[thread]); });
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    double total = 0;
    for (double value : done) total += value;
    best = std::max(best, total / seconds / 1e9);
  }
  return best;
}

}  // namespace cudnn_lstm::cpu
