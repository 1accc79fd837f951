// What failures leave: typed errors, nothing leaked, a model that is whole or says that it is not.
#include <algorithm>

#include <cudnn.h>

#include "core/error.h"
#include "core/sampler.h"
#include "cpu/cpu_backend.h"
#include "standin_case.h"
#include "standin_suites.h"

namespace {

void unapplied_step_changes_nothing() {
  begin_case("a step that is not finite changes nothing");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0);
    const int steps = 4, batch = 3;
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    const auto ids = make_ids(4 * (steps + 1) * batch, spec.vocabulary, 2);
    const Batch first{ids.data(), steps, batch, Target::every, true};
    StepResult results[4];
    OptimizerStep wild = kOptimizer;
    wild.learning_rate = NAN;
    wild.clip = 0;
    const OptimizerStep optimizers[] = {kOptimizer, wild, kOptimizer, kOptimizer};
    // Step 1 is applied with a rate of NaN, so step 2 has NaN for a loss and is not applied, nor is step 3.
    expect(gpu->train_steps(first, optimizers, 4, results, kNeverStop) == 2, "two steps completed");
    expect(std::isnan(results[2].loss) && !results[2].applied, "the third step's result says so");
    expect(gpu->step_count() == 2, "two steps counted");
    const auto state = read(*gpu, Slot::training_state);
    expect(std::all_of(state.begin(), state.end(), [](float value) { return std::isfinite(value); }),
           "the state is that of step 1");
    initialize_one(*gpu);
    expect(gpu->train_step(first, kOptimizer, kNeverStop).applied, "a repaired model trains");
    const std::atomic<bool> stop{true};
    expect(gpu->train_steps(first, optimizers, 4, results, stop) == 0 && !results[0].applied,
           "stop before the first step");
    expect_clean("training");
  }
  expect_nothing_left();
}

void fp16_overflow_is_retried() {
  begin_case("fp16: a step whose scaled gradient overflows is run again at a lower scale");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 1, 0);
    const int steps = 8, batch = 64;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, cuda::Precision::fp16);
    initialize_both(*cpu, *gpu);
    auto parameters = read(*cpu, Slot::parameters);
    const Parameter& output = cpu->layout().output_weight();
    for (std::size_t i = 0; i < output.size; ++i)
      parameters[output.offset + i] = i / spec.hidden % 2 == 0 ? 500.0f : -500.0f;
    cpu->write(Slot::parameters, parameters.data(), parameters.size());
    gpu->write(Slot::parameters, parameters.data(), parameters.size());
    const auto ids = make_ids((steps + 1) * batch, spec.vocabulary, 2);
    const Batch first{ids.data(), steps, batch, Target::every, false};
    const std::size_t before = standin::calls_of("cudnnRNNForward");
    const StepResult expected = cpu->train_step(first, kOptimizer, kNeverStop);
    const StepResult found = gpu->train_step(first, kOptimizer, kNeverStop);
    expect(found.applied, "applied in the end");
    expect(std::fabs(found.gradient_norm - expected.gradient_norm) < 0.05 * expected.gradient_norm, "norm");
    expect(standin::calls_of("cudnnRNNForward") + standin::calls_of("cudaGraphLaunch") > before + 1,
           "more than one try");
    expect(gpu->step_count() == 1, "one step");
    expect_clean("training");
  }
  expect_nothing_left();
}

void out_of_memory_is_typed() {
  begin_case("out of memory is a typed error, and a smaller batch works after it");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0);
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    standin::settings().memory_limit = standin::live_bytes() + 2'000'000;
    const auto ids = make_ids(65 * 256, spec.vocabulary, 2);
    const std::size_t held = gpu->device_bytes(), pinned = standin::calls_of("cudaHostAlloc");
    try {
      gpu->train_step({ids.data(), 64, 256, Target::every, false}, kOptimizer, kNeverStop);
      expect(false, "no error");
    } catch (const Error& error) {
      expect(error.code() == kOutOfMemory, error.code());
      const std::string message = error.what();
      expect(message.find("MB asked for") != std::string::npos && message.find("free") != std::string::npos, message);
    }
    expect(gpu->device_bytes() == held, "nothing kept of the failed shape");
    expect(standin::calls_of("cudaHostAlloc") == pinned, "host memory was pinned for what does not fit");
    expect(gpu->train_step({ids.data(), 4, 3, Target::every, false}, kOptimizer, kNeverStop).applied,
           "a smaller batch works");
    standin::settings().memory_limit = 1000;
    try {
      make_cuda(spec);
      expect(false, "no error");
    } catch (const Error& error) {
      expect(error.code() == kOutOfMemory, error.code());
    }
    expect_clean("running out");
  }
  expect_nothing_left();
}

// Every call of a small life fails once, one after another, those that free included: each time a typed error or a
// documented fallback, nothing leaks.
void every_failure_is_clean(bool lazy) {
  begin_case(std::string("every call may fail") + (lazy ? ", lazy" : ""));
  const ModelSpec spec = make_spec(InputCoding::embedding, 2, 0.25f);
  const auto ids = make_ids(4 * 5 * 3, spec.vocabulary, 2);
  int survived = 0, failed = 0;
  for (int nth = 1; nth < 100'000; ++nth) {
    standin::reset();
    standin::settings().lazy = lazy;
    standin::settings().persist_supported = true;
    standin::fail_call("", nth, 999);
    bool reached = false;
    try {
      auto gpu = make_cuda(spec, cuda::Precision::tf32, cuda::Algorithm::automatic);
      initialize_one(*gpu);
      const std::vector<OptimizerStep> optimizers(4, kOptimizer);
      StepResult results[4];
      gpu->train_steps({ids.data(), 4, 3, Target::every, true}, optimizers.data(), 4, results, kNeverStop);
      std::vector<float> losses(12), logits(2 * spec.vocabulary);
      std::vector<std::int32_t> drawn(6);
      gpu->evaluate({ids.data(), 4, 3, Target::every, false}, true, 1, losses.data(), kNeverStop);
      gpu->next_logits(ids.data(), 1, 2, logits.data());
      gpu->next_logits(ids.data(), 1, 2, logits.data());
      const SamplingOptions options[2];
      gpu->draw(ids.data(), 2, options, 3, drawn.data(), kNeverStop);
      const auto state = read(*gpu, Slot::training_state);
      gpu->write(Slot::training_state, state.data(), state.size());
      ++survived;
    } catch (const Error& error) {
      reached = true;
      ++failed;
      expect(error.code() == kDeviceFailed || error.code() == kDeviceUnavailable, error.what());
      expect(std::string(error.what()).find('\n') == std::string::npos, "one line");
    }
    expect_nothing_left();
    const bool all_calls_done = !reached && standin::calls().size() < static_cast<std::size_t>(nth);
    if (all_calls_done) break;
  }
  std::printf("  %d failures typed, %d survived by a fallback\n", failed, survived);
  expect(failed > 100, "too few calls failed: " + std::to_string(failed));
}

// After any failure a model either continues as if nothing had been, or says that it is lost.
void a_failed_model_is_whole_or_says_so() {
  begin_case("after a failure a model is whole or says that it is not");
  const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0.25f);
  const auto ids = make_ids(20 * 5 * 3, spec.vocabulary, 2);
  const std::vector<OptimizerStep> optimizers(20, kOptimizer);
  std::vector<StepResult> results(20);
  const Batch first{ids.data(), 4, 3, Target::every, true};
  std::vector<float> expected;
  int whole = 0, lost = 0;
  for (int nth = 0; nth < 100'000; ++nth) {
    standin::reset();
    standin::settings().lazy = nth % 2 == 0;
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    standin::fail_call("", nth, 999);  // the 0th: none
    const std::size_t before = standin::calls().size();
    bool failed = false;
    try {
      gpu->train_steps(first, optimizers.data(), 20, results.data(), kNeverStop);
    } catch (const Error&) {
      failed = true;
    }
    const std::size_t calls = standin::calls().size() - before;
    standin::fail_call("", 0, 0);
    if (nth > 0 && !failed && calls < static_cast<std::size_t>(nth)) break;
    try {
      if (failed) gpu->train_steps(first, optimizers.data(), 20, results.data(), kNeverStop);
      const auto found = read(*gpu, Slot::parameters);
      if (nth == 0) expected = found;
      expect(gpu->step_count() == 20 && found == expected, "another model after failure " + std::to_string(nth));
      ++whole;
    } catch (const Error& error) {
      ++lost;
      expect(error.code() == kDeviceFailed && std::string(error.what()).find("the model was lost") == 0, error.what());
    }
    expect_clean("failing");
  }
  std::printf("  whole after %d failures, lost after %d\n", whole, lost);
  expect(whole > 20 && lost > 20, "both were met");
}

// A kernel's fault stays in the context: nothing in the process that could be tried again, and the words say so.
void a_dead_context_is_said() {
  begin_case("a fault that stays is told from one that passes");
  const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0);
  const auto ids = make_ids(5 * 3, spec.vocabulary, 2);
  const Batch whole{ids.data(), 4, 3, Target::every, true};
  for (const bool training : {true, false}) {
    for (const bool for_good : {true, false}) {
      standin::reset();
      auto gpu = make_cuda(spec);
      initialize_one(*gpu);
      std::vector<float> losses(12);
      standin::fail_call("cudaMemcpyAsync", training ? 3 : 1, 700, for_good);
      const auto run = [&] {
        try {
          if (training) {
            gpu->train_step(whole, kOptimizer, kNeverStop);
          } else {
            gpu->evaluate(whole, false, 0, losses.data(), kNeverStop);
          }
          return std::string();
        } catch (const Error& error) {
          return std::string(error.what());
        }
      };
      const bool dead = run().find("restart the process") != std::string::npos;
      expect(dead == for_good, "the first error");
      const std::string again = run();
      expect((again.find("restart the process") != std::string::npos) == for_good, again);
      if (!for_good) expect((again.find("load its last checkpoint") != std::string::npos) == training, again);
    }
    standin::reset();
  }
  expect_nothing_left();
}

// An algorithm that fails inside cuDNN is no candidate, and what its launch has left is not the next kernel's error.
void a_failed_candidate_is_passed_over() {
  begin_case("an algorithm that fails in its trial");
  standin::reset();
  standin::settings().persist_supported = true;
  {
    auto gpu = make_cuda(make_spec(InputCoding::onehot, 2, 0), cuda::Precision::tf32, cuda::Algorithm::persist_static);
    initialize_one(*gpu);
    const auto ids = make_ids(5 * 3, 11, 2);
    // The first two are the standard algorithm's, as it is called and as it is recorded.
    standin::fail_call("cudnnRNNForward", 3, 5000);
    expect(gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop).applied, "not applied");
    expect(gpu->description().find("standard") != std::string::npos, gpu->description());
    expect_clean("training");
  }
  expect_nothing_left();
}

// cuDNN's word for a shape that it does not have, and those for a fault, which another precision would not put right.
void refusals_are_told_from_faults() {
  begin_case("what cuDNN has not, and what is wrong with it");
  struct Refusal {
    int status;
    const char* code;
  };
  for (const Refusal& refusal : {Refusal{CUDNN_STATUS_NOT_SUPPORTED, kInvalidArgument},
                                 Refusal{CUDNN_STATUS_BAD_PARAM, kInvalidArgument},
                                 Refusal{CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, kDeviceFailed},
                                 Refusal{CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE, kDeviceFailed},
                                 Refusal{CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED, kDeviceFailed},
                                 Refusal{CUDNN_STATUS_EXECUTION_FAILED, kDeviceFailed}}) {
    standin::reset();
    standin::fail_call("cudnnSetRNNDescriptor_v8", 1, refusal.status);
    try {
      make_cuda(make_spec(InputCoding::scalar, 1, 0));
      expect(false, "no error");
    } catch (const Error& error) {
      expect(error.code() == refusal.code, std::to_string(refusal.status) + ": " + error.code() + " " + error.what());
    }
    expect_nothing_left();
  }
}

// Whichever call of a pass fails, none of the streams has work left when the error is out.
void an_error_leaves_nothing_queued() {
  begin_case("after an error nothing is queued");
  const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0.25f);
  const int steps = 24, batch = 3;
  const auto ids = make_ids((steps + 1) * batch, spec.vocabulary, 2);
  int failed = 0;
  for (int nth = 1;; ++nth) {
    standin::reset();
    standin::settings().lazy = true;
    auto gpu = make_cuda(spec, cuda::Precision::fp32, cuda::Algorithm::standard, 3);
    initialize_one(*gpu);
    std::vector<float> losses(steps * batch);
    const auto evaluate = [&] {
      gpu->evaluate({ids.data(), steps, batch, Target::every, false}, true, 1, losses.data(), kNeverStop);
    };
    const std::size_t before = standin::calls().size();
    standin::fail_call("", nth, 999);
    try {
      evaluate();
      if (standin::calls().size() - before < static_cast<std::size_t>(nth)) break;
    } catch (const Error&) {
      ++failed;
      expect(standin::queued() == 0, std::to_string(standin::queued()) + " left after failure " + std::to_string(nth));
    }
    standin::fail_call("", 0, 0);
    evaluate();
    expect_clean("failing");
  }
  expect(failed > 30, "too few: " + std::to_string(failed));
  expect_nothing_left();
}

// Memory runs out at each allocation in turn: a typed error, or other shapes make room; a smaller batch then works.
void every_allocation_may_fail() {
  begin_case("every allocation may fail");
  const ModelSpec spec = make_spec(InputCoding::embedding, 2, 0.25f);
  const auto ids = make_ids(5 * 3, spec.vocabulary, 2);
  for (const char* function : {"cudaMalloc", "cudaHostAlloc"}) {
    int typed = 0;
    for (int nth = 1;; ++nth) {
      standin::reset();
      bool failed = false;
      {
        std::unique_ptr<Backend> gpu;
        standin::fail_call(function, nth, cudaErrorMemoryAllocation);
        try {
          gpu = make_cuda(spec, cuda::Precision::fp16, cuda::Algorithm::automatic);
          initialize_one(*gpu);
          gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop);
        } catch (const Error& error) {
          failed = true;
          expect(error.code() == kOutOfMemory, error.what());
        }
        if (gpu) {
          expect(gpu->train_step({ids.data(), 4, 2, Target::every, false}, kOptimizer, kNeverStop).applied,
                 "a smaller batch works after allocation " + std::to_string(nth));
        }
      }
      expect_nothing_left();
      typed += failed ? 1 : 0;
      if (!failed && standin::calls_of(function) < static_cast<std::size_t>(nth)) break;
    }
    std::printf("  %d failures of %s typed\n", typed, function);
    expect(typed > 2, "too few");
  }
}

// cuBLAS's and cuDNN's own words for exhausted memory, and a runtime call's.
void memory_of_libraries_is_typed() {
  begin_case("memory that a library lacks is a typed error too");
  struct Failure {
    const char* function;
    int status;
  };
  for (const Failure& failure : {Failure{"cublasCreate_v2", 3}, Failure{"cudnnCreate", 4004},
                                 Failure{"cudnnCreate", 4003}, Failure{"cudaStreamCreateWithPriority", 2}}) {
    standin::reset();
    standin::fail_call(failure.function, 1, failure.status);
    try {
      make_cuda(make_spec(InputCoding::scalar, 1, 0));
      expect(false, "no error");
    } catch (const Error& error) {
      const std::string message = error.what();
      expect(error.code() == kOutOfMemory && message.find(" MB free") != std::string::npos &&
                 message.find(std::string(failure.function).substr(0, 9)) != std::string::npos,
             message);
    }
    expect_nothing_left();
  }
}

void old_gpus_are_passed_over() {
  begin_case("a GPU that the kernels are not compiled for");
  standin::reset();
  standin::settings().compute_capability_major = 7;
  const cuda::CudaInfo info = cuda::cuda_info(library_folder);
  expect(!info.available && info.devices.empty() &&
             info.reason == "Stand-in GPU has compute capability 7.0, 7.5 or later is needed",
         info.reason);
  try {
    make_cuda(make_spec(InputCoding::scalar, 1, 0));
    expect(false, "no error");
  } catch (const Error& error) {
    expect(error.code() == kDeviceUnavailable, error.what());
  }
  standin::settings().compute_capability_major = 8;
  expect(cuda::cuda_info(library_folder).available, "a newer one");
}

}  // namespace

void check_failures() {
  unapplied_step_changes_nothing();
  fp16_overflow_is_retried();
  out_of_memory_is_typed();
  memory_of_libraries_is_typed();
  old_gpus_are_passed_over();
  a_dead_context_is_said();
  a_failed_candidate_is_passed_over();
  refusals_are_told_from_faults();
  an_error_leaves_nothing_queued();
}

void check_every_failure() {
  every_allocation_may_fail();
  a_failed_model_is_whole_or_says_so();
  every_failure_is_clean(false);
  every_failure_is_clean(true);
}
