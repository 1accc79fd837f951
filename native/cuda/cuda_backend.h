// The cuDNN backend: one model on one GPU. It owns the parameters and states; plan.h holds the passes that run on them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/plan.h"

namespace cudnn_lstm::cuda {

// T: storage type of weights and activations (arithmetic.h).
template <class T>
class CudaBackend final : public Backend {
 public:
  // Throws Error, as create_cuda_backend does.
  CudaBackend(const ModelSpec& spec, const CudaOptions& options, std::shared_ptr<const Libraries> libraries,
              const std::string& device_name, const Numerics& numerics);
  ~CudaBackend() override;

  const ModelSpec& spec() const override { return spec_; }
  const Layout& layout() const override { return layout_; }
  StepResult train_step(const Batch& batch, const OptimizerStep& optimizer, const std::atomic<bool>& stop) override;
  int train_steps(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                  const std::atomic<bool>& stop) override;
  void evaluate(const Batch& batch, bool dropout, std::uint64_t mask_step, float* losses,
                const std::atomic<bool>& stop) override;
  void reset_evaluation_state() override { evaluation_.clear(); }
  void reset_training_state() override { training_.clear(); }
  using Backend::next_logits;
  void next_logits(const std::int32_t* ids, int steps, int streams, float* logits,
                   const std::atomic<bool>& stop) override;
  void reset_stream_state(int streams) override;
  int draw(const std::int32_t* ids, int streams, const SamplingOptions* options, int count, std::int32_t* out,
           const std::atomic<bool>& stop) override;
  std::size_t slot_size(Slot slot) const override;
  void read_range(Slot slot, std::size_t offset, std::size_t count, float* out) const override;
  void write_range(Slot slot, std::size_t offset, const float* values, std::size_t count) override;
  std::uint64_t step_count() const override { return step_count_; }
  void set_step_count(std::uint64_t steps) override { step_count_ = steps; }
  std::size_t host_bytes() const override { return account_.host; }
  std::size_t device_bytes() const override { return account_.device; }
  std::string description() const override;
  std::string chosen_algorithm() const override;

 private:
  // A carried state, laid out by StateLayout. It lives in the plan that last used it or in `stored`; batch 0: none.
  struct State {
    int batch = 0;
    Plan<T>* resident = nullptr;
    DeviceBuffer stored;
    StateLayout stored_layout;
    void clear() {
      batch = 0;
      resident = nullptr;
    }
    const T* data() const { return resident != nullptr ? resident->state() : stored.as<T>(); }
    const StateLayout& layout() const { return resident != nullptr ? resident->state_layout() : stored_layout; }
  };

  // Throws Error(kDeviceFailed) if a GPU call has failed in the middle of training steps, since the parameters may then
  // be those of any step and the model is useless, or if the GPU accepts no more calls from this process.
  void require_whole() const;
  // Runs `work` on the model's device. On an Error, waits for queued work, so that no buffer is in use when the next
  // call starts. If the wait fails too, the fault is in the device's context, which all models of the process share,
  // and the error says so.
  template <class Work>
  auto settled(const Work& work) -> decltype(work());
  int train(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
            const std::atomic<bool>& stop, const PlanKey& key);
  int train_shared(const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                   const std::atomic<bool>& stop);
  void give_up_ranks();
  void agree_on_graph(Communicator& ranks, Plan<T>& plan);
  int run_steps(Plan<T>& plan, const Batch& first, const OptimizerStep* optimizers, int count, StepResult* results,
                const std::atomic<bool>& stop);
  void make_arena();
  void choose(cudnnRNNAlgo_t algorithm);
  // Brings the copy that passes without masks read up to date with the parameters.
  void join_layers(const Plan<T>& plan);
  // From the next step on, leaves the first `frozen` parameters of the canonical layout unchanged.
  void freeze(std::size_t frozen);
  Plan<T>& plan_for(const PlanKey& key);
  void evict_plans(std::size_t keep);
  // Makes `plan` hold the state: a copy, or zero if there is none or B changed.
  void take_state(State& state, Plan<T>& plan);
  void store_state(State& state);
  void read_state(const State& state, float* out) const;
  void write_state(State& state, const float* values, std::size_t count);
  const DeviceBuffer& arena_slot(Slot slot) const;
  // visit(index in the arena, index relative to `offset`, size) for each run of the values [offset, offset + count).
  template <class Visit>
  void for_each_overlap(std::size_t offset, std::size_t count, const Visit& visit) const;
  StepInput step_input(const OptimizerStep& optimizer, std::uint64_t done, float loss_scale) const;
  // Number of values of a state outside the backend, [L, 2, B, H].
  std::size_t state_values(int batch) const {
    return static_cast<std::size_t>(2) * spec_.layers * batch * spec_.hidden;
  }
  // Training has masks between the layers, and so makes one call per layer.
  bool masked_layers() const { return spec_.dropout > 0 && spec_.layers > 1; }

  const ModelSpec spec_;
  const Layout layout_;
  const CudaOptions options_;
  const std::string device_name_;
  const std::shared_ptr<const Libraries> libraries_;
  MemoryAccount account_;  // outlives every buffer below
  Stream stream_, upload_stream_;
  Rnn rnn_;
  CublasHandle blas_;
  DeviceBuffer blas_workspace_;
  Arena<T> arena_;
  bool joined_stale_ = true;  // arena_.joined lags behind the parameters
  std::size_t frozen_ = 0;    // the count that arena_.held is for
  std::int32_t held_ = 0;     // runs in it
  AlgorithmChoice choice_;
  std::unique_ptr<RankSum> ranks_;  // outlives the plans
  State training_, evaluation_, streams_;
  std::map<PlanKey, std::unique_ptr<Plan<T>>> plans_;
  std::uint64_t plan_uses_ = 0;
  std::uint64_t step_count_ = 0;
  // For `description`, which may be read while a call runs on another thread.
  std::atomic<const char*> last_algorithm_{nullptr};    // training's; a static string
  std::atomic<const char*> chosen_algorithm_{nullptr};  // the outcome of Algorithm::automatic; the same
  std::atomic<bool> without_graphs_{false};             // a pass could not be captured
  std::atomic<int> ranks_size_{0};                      // the job's; 0 without ranks
  std::string lost_;                                    // the error that lost the model; empty while it is intact
  bool dead_ = false;                                   // the device's context is lost too, for good
};

}  // namespace cudnn_lstm::cuda
