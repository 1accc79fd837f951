// The CUDA backend on the stand-in device: the same numbers as the CPU backend, calls in the right order, and every
// error path. argv[1]: the folder of the stand-in's libraries.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "cpu/cpu_backend.h"
#include "standin_case.h"

namespace {

// ---- the same numbers

void train_like_cpu(const ModelSpec& spec, Target target, bool carry, bool lazy,
                    cuda::Algorithm algorithm = cuda::Algorithm::standard) {
  begin_case("trains like the CPU: coding " + std::to_string(static_cast<int>(spec.coding)) + ", layers " +
             std::to_string(spec.layers) + ", dropout " + std::to_string(spec.dropout) +
             (target == Target::last ? ", last" : ", every") + (carry ? ", carry" : "") + (lazy ? ", lazy" : "") +
             (algorithm == cuda::Algorithm::standard ? "" : ", persistent"));
  standin::reset();
  standin::settings().lazy = lazy;
  standin::settings().persist_supported = true;
  {
    const int steps = 6, batch = 19, count = 21;  // more than two uploads of eight
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, cuda::Precision::fp32, algorithm);
    initialize_both(*cpu, *gpu);
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 1);
    const std::vector<OptimizerStep> optimizers(count, kOptimizer);
    std::vector<StepResult> expected(count), found(count);
    const Batch first{ids.data(), steps, batch, target, carry};
    // One step, compared in full, then the rest in one call.
    cpu->train_step(first, kOptimizer, kNeverStop);
    gpu->train_step(first, kOptimizer, kNeverStop);
    expect_close(read(*cpu, Slot::gradients), read(*gpu, Slot::gradients), 2e-5, "gradients");
    const Batch rest{ids.data() + (steps + 1) * batch, steps, batch, target, carry};
    // The first step ran call by call; what was captured before is the trial of the algorithms.
    const std::size_t launched = standin::calls_of("cudaGraphLaunch");
    const std::size_t captured = standin::calls_of("cudaStreamBeginCapture");
    expect(cpu->train_steps(rest, optimizers.data(), count - 1, expected.data(), kNeverStop) == count - 1, "CPU steps");
    expect(gpu->train_steps(rest, optimizers.data(), count - 1, found.data(), kNeverStop) == count - 1, "GPU steps");
    for (int i = 0; i < count - 1; ++i) {
      expect(std::fabs(expected[i].loss - found[i].loss) <= 1e-4 * expected[i].loss,
             "loss of step " + std::to_string(i));
      expect(std::fabs(expected[i].gradient_norm - found[i].gradient_norm) <= 2e-3 * expected[i].gradient_norm,
             "norm of step " + std::to_string(i));
    }
    expect_close(read(*cpu, Slot::parameters), read(*gpu, Slot::parameters), 2e-3, "parameters");
    expect_close(read(*cpu, Slot::training_state), read(*gpu, Slot::training_state), 2e-3, "training state");
    expect(gpu->step_count() == static_cast<std::uint64_t>(count), "step count");
    expect(standin::calls_of("cudaGraphLaunch") - launched == static_cast<std::size_t>(count - 1), "graph launches");
    expect(standin::calls_of("cudaStreamBeginCapture") - captured == 1, "captures");
    expect_clean("training");
  }
  expect_nothing_left();
}

void evaluate_like_cpu(const ModelSpec& spec, Target target, bool dropout) {
  begin_case("evaluates like the CPU: coding " + std::to_string(static_cast<int>(spec.coding)) +
             (target == Target::last ? ", last" : ", every") + (dropout ? ", dropout" : ""));
  standin::reset();
  {
    const int steps = 5, batch = 18;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec);
    initialize_both(*cpu, *gpu);
    for (const bool carry : {false, true, true}) {
      const auto ids = make_ids((steps + 1) * batch, spec.vocabulary, 4);
      const Batch whole{ids.data(), steps, batch, target, carry};
      std::vector<float> expected(target == Target::last ? batch : steps * batch), found(expected.size());
      cpu->evaluate(whole, dropout, 77, expected.data(), kNeverStop);
      gpu->evaluate(whole, dropout, 77, found.data(), kNeverStop);
      expect_close(expected, found, 1e-5, carry ? "losses, carried" : "losses");
    }
    expect(read(*gpu, Slot::training_state).empty(), "training state touched");
    cpu->reset_evaluation_state();
    gpu->reset_evaluation_state();
    expect_clean("evaluation");
  }
  expect_nothing_left();
}

void sample_like_cpu(const ModelSpec& spec, bool lazy) {
  begin_case("samples like the CPU: coding " + std::to_string(static_cast<int>(spec.coding)));
  standin::reset();
  standin::settings().lazy = lazy;
  {
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec);
    initialize_both(*cpu, *gpu);
    for (const int streams : {1, 3, 17}) {
      cpu->reset_stream_state(streams);
      gpu->reset_stream_state(streams);
      std::vector<float> expected(streams * spec.vocabulary), found(expected.size());
      for (std::uint32_t step = 0; step < 4; ++step) {
        const auto ids = make_ids(streams, spec.vocabulary, step);
        cpu->next_logits(ids.data(), streams, expected.data());
        gpu->next_logits(ids.data(), streams, found.data());
        expect_close(expected, found, 1e-5, "logits of " + std::to_string(streams));
      }
      const auto state = read(*gpu, Slot::stream_state);
      expect_close(read(*cpu, Slot::stream_state), state, 1e-5, "stream state");
      // Forth and back through another size, then on from what was read.
      cpu->reset_stream_state(2);
      gpu->reset_stream_state(2);
      cpu->write(Slot::stream_state, state.data(), state.size());
      gpu->write(Slot::stream_state, state.data(), state.size());
      expect(read(*gpu, Slot::stream_state) == state, "stream state written and read");
      const auto ids = make_ids(streams, spec.vocabulary, 9);
      cpu->next_logits(ids.data(), streams, expected.data());
      gpu->next_logits(ids.data(), streams, found.data());
      expect_close(expected, found, 1e-5, "logits after a write");
    }
    expect_clean("sampling");
  }
  expect_nothing_left();
}

void mixed_precision_follows_cpu(cuda::Precision precision, double bound) {
  begin_case("16 bits follow the CPU: " + std::string(precision == cuda::Precision::fp16 ? "fp16" : "bf16"));
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::embedding, 2, 0);
    const int steps = 6, batch = 8, count = 12;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, precision);
    initialize_both(*cpu, *gpu);
    expect(read(*cpu, Slot::parameters) == read(*gpu, Slot::parameters), "master parameters are float32");
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 1);
    const std::vector<OptimizerStep> optimizers(count, kOptimizer);
    std::vector<StepResult> expected(count), found(count);
    const Batch first{ids.data(), steps, batch, Target::every, true};
    cpu->train_step(first, kOptimizer, kNeverStop);
    gpu->train_step(first, kOptimizer, kNeverStop);
    expect_close(read(*cpu, Slot::gradients), read(*gpu, Slot::gradients), bound, "gradients");
    cpu->train_steps(first, optimizers.data(), count, expected.data(), kNeverStop);
    gpu->train_steps(first, optimizers.data(), count, found.data(), kNeverStop);
    for (int i = 0; i < count; ++i) {
      expect(found[i].applied && std::fabs(expected[i].loss - found[i].loss) < bound * expected[i].loss,
             "loss of step " + std::to_string(i));
    }
    const auto state = read(*gpu, Slot::training_state);
    gpu->write(Slot::training_state, state.data(), state.size());
    expect(read(*gpu, Slot::training_state) == state, "state written and read");
    expect_clean("training");
  }
  expect_nothing_left();
}

// ---- repeat and resume, bit for bit

void resumes_bit_equal(const ModelSpec& spec, cuda::Precision precision) {
  begin_case("resumes bit for bit: layers " + std::to_string(spec.layers));
  standin::reset();
  {
    const int steps = 4, batch = 9, count = 14, cut = 5;
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 6);
    const std::vector<OptimizerStep> optimizers(count, kOptimizer);
    std::vector<StepResult> results(count);
    auto unbroken = make_cuda(spec, precision);
    initialize_one(*unbroken);
    const Batch first{ids.data(), steps, batch, Target::every, true};
    unbroken->train_steps(first, optimizers.data(), count, results.data(), kNeverStop);

    auto before = make_cuda(spec, precision);
    initialize_one(*before);
    for (int i = 0; i < cut; ++i) {  // in single calls: the same bits
      const Batch one{ids.data() + i * (steps + 1) * batch, steps, batch, Target::every, true};
      before->train_step(one, kOptimizer, kNeverStop);
    }
    auto after = make_cuda(spec, precision);
    for (const Slot slot : kAllSlots) {
      const auto values = read(*before, slot);
      after->write(slot, values.data(), values.size());
    }
    after->set_step_count(before->step_count());
    const Batch rest{ids.data() + cut * (steps + 1) * batch, steps, batch, Target::every, true};
    after->train_steps(rest, optimizers.data(), count - cut, results.data(), kNeverStop);
    for (const Slot slot : kAllSlots)
      expect(read(*unbroken, slot) == read(*after, slot), "slot " + std::to_string(static_cast<int>(slot)));
    // Dropout in evaluation is a function of (seed, step) as well.
    std::vector<float> once(steps * batch), twice(steps * batch), other(steps * batch);
    const Batch plain{ids.data(), steps, batch, Target::every, false};
    unbroken->evaluate(plain, true, 3, once.data(), kNeverStop);
    unbroken->evaluate(plain, true, 4, other.data(), kNeverStop);
    after->evaluate(plain, true, 3, twice.data(), kNeverStop);
    expect(once == twice, "masked evaluation repeats");
    expect(once != other, "masks depend on the step");
    expect_clean("resuming");
  }
  expect_nothing_left();
}

// Whatever order CUDA runs the streams in, the bits are the same: ids are not overwritten before their step has read
// them, nor are the masks of one step by the seeding of the next.
void streams_may_run_in_any_order(cuda::Precision precision) {
  begin_case("streams in any order");
  const ModelSpec spec = make_spec(InputCoding::embedding, 2, 0.3f);
  const int steps = 3, batch = 5, count = 41;  // five uploads of eight and one of one
  const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 6);
  std::vector<OptimizerStep> optimizers(count, kOptimizer);
  std::vector<float> expected, expected_losses;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    standin::reset();
    standin::settings().shuffle = seed;
    auto gpu = make_cuda(spec, precision);
    initialize_one(*gpu);
    std::vector<StepResult> results(count);
    std::vector<float> losses(steps * batch);
    gpu->train_steps({ids.data(), steps, batch, Target::every, true}, optimizers.data(), count, results.data(),
                     kNeverStop);
    gpu->evaluate({ids.data(), steps, batch, Target::every, false}, true, 3, losses.data(), kNeverStop);
    const auto found = read(*gpu, Slot::parameters);
    if (seed == 0) {
      expected = found;
      expected_losses = losses;
    }
    expect(found == expected && losses == expected_losses, "differs in order " + std::to_string(seed));
    expect_clean("training");
  }
}

// ---- what a failed step leaves

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
    expect(gpu->train_step(first, kOptimizer, kNeverStop).applied, "a mended model goes on");
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

// ---- memory, failures, algorithms

void out_of_memory_is_typed() {
  begin_case("out of memory is a typed error, and a smaller batch works after it");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0);
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    standin::settings().memory_limit = standin::live_bytes() + 2'000'000;
    const auto ids = make_ids(65 * 256, spec.vocabulary, 2);
    const std::size_t held = gpu->device_bytes();
    try {
      gpu->train_step({ids.data(), 64, 256, Target::every, false}, kOptimizer, kNeverStop);
      expect(false, "no error");
    } catch (const Error& error) {
      expect(error.code() == kOutOfMemory, error.code());
      const std::string message = error.what();
      expect(message.find("MB asked for") != std::string::npos && message.find("free") != std::string::npos, message);
    }
    expect(gpu->device_bytes() == held, "nothing kept of the failed shape");
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

// Every call of a small life fails once, one after another: each time a typed error or a documented fallback, nothing
// leaks.
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
      gpu->evaluate({ids.data(), 4, 3, Target::every, false}, true, 1, losses.data(), kNeverStop);
      gpu->next_logits(ids.data(), 2, logits.data());
      gpu->next_logits(ids.data(), 2, logits.data());
      read(*gpu, Slot::training_state);
      ++survived;
    } catch (const Error& error) {
      reached = true;
      ++failed;
      expect(error.code() == kDeviceFailed || error.code() == kOutOfMemory || error.code() == kInvalidArgument,
             error.what());
    }
    expect_nothing_left();
    const bool all_calls_done = !reached && standin::calls().size() < static_cast<std::size_t>(nth);
    if (all_calls_done) break;
  }
  std::printf("  %d failures typed, %d survived by a fallback\n", failed, survived);
  expect(failed > 100, "too few calls failed: " + std::to_string(failed));
}

void capture_failure_falls_back() {
  begin_case("without graphs the same steps run call by call");
  const ModelSpec spec = make_spec(InputCoding::scalar, 2, 0);
  const auto ids = make_ids(6 * 5 * 3, spec.vocabulary, 2);
  std::vector<float> parameters[2];
  for (const bool graphs : {true, false}) {
    standin::reset();
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    if (!graphs) standin::fail_call("cudaGraphInstantiate", 1, 999);
    const std::vector<OptimizerStep> optimizers(6, kOptimizer);
    StepResult results[6];
    expect(gpu->train_steps({ids.data(), 4, 3, Target::every, true}, optimizers.data(), 6, results, kNeverStop) == 6,
           "steps");
    parameters[graphs] = read(*gpu, Slot::parameters);
    expect((gpu->description().find("without CUDA graphs") != std::string::npos) == !graphs, gpu->description());
    expect_clean("training");
  }
  expect(parameters[0] == parameters[1], "the same bits");
}

void algorithms_are_tried_and_compared() {
  struct Expectation {
    bool supported, wrong;
    double speedup;
    cuda::Algorithm asked;
    const char* chosen;
  };
  const Expectation expectations[] = {
      {false, false, 2, cuda::Algorithm::automatic, "standard"},
      {true, false, 2, cuda::Algorithm::automatic, "persist-static"},
      {true, false, 1.05, cuda::Algorithm::automatic, "standard"},  // within the noise
      {true, true, 2, cuda::Algorithm::automatic, "standard"},      // fast and wrong
      {true, false, 0.5, cuda::Algorithm::persist_dynamic, "persist-dynamic"},
      {false, false, 2, cuda::Algorithm::persist_static, "standard"},
  };
  for (const Expectation& expectation : expectations) {
    begin_case(std::string("algorithm ") + expectation.chosen);
    standin::reset();
    standin::settings().persist_supported = expectation.supported;
    standin::settings().persist_wrong = expectation.wrong;
    standin::settings().persist_speedup = expectation.speedup;
    {
      const ModelSpec spec = make_spec(InputCoding::scalar, 2, 0.1f);
      auto gpu = make_cuda(spec, cuda::Precision::tf32, expectation.asked);
      initialize_one(*gpu);
      const auto ids = make_ids(5 * 3, spec.vocabulary, 2);
      gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop);
      expect(gpu->description().find(expectation.chosen) != std::string::npos, gpu->description());
      expect_clean("choosing");
    }
    expect_nothing_left();
  }
}

// ---- the record of one step

void calls_are_in_order() {
  begin_case("the calls of a step, in order");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0.2f);
    auto gpu = make_cuda(spec, cuda::Precision::tf32);
    initialize_one(*gpu);
    const auto ids = make_ids(5 * 3, spec.vocabulary, 2);
    standin::calls().clear();
    gpu->train_step({ids.data(), 4, 3, Target::last, false}, kOptimizer, kNeverStop);
    std::vector<std::string> found;
    for (const std::string& call : standin::calls()) {
      if (call.rfind("cudnn", 0) == 0 || call.rfind("cublas", 0) == 0) found.push_back(call);
    }
    const std::vector<std::string> expected = {"cudnnSetDropoutDescriptor",       "cudnnRNNForward T4 B3 training",
                                               "cublasGemmEx_64 11x3x9",          "cublasGemmEx_64 9x11x3",
                                               "cublasGemmEx_64 9x3x11",          "cudnnRNNBackwardData_v8 T4 B3",
                                               "cudnnRNNBackwardWeights_v8 T4 B3", "cudnnSetDropoutDescriptor"};
    const auto start = std::find(found.begin(), found.end(), expected.front());
    expect(std::vector<std::string>(start, found.end()) == expected, "the record differs");
    if (std::vector<std::string>(start, found.end()) != expected) {
      for (const std::string& call : found) std::printf("  %s\n", call.c_str());
    }
    // tf32 is cuDNN's default math; true fp32 asks for FMA.
    expect(standin::calls_of("cudnnSetRNNDescriptor_v8") > 0, "descriptor");
    standin::calls().clear();
    make_cuda(spec, cuda::Precision::fp32);
    bool fma = false;
    for (const std::string& call : standin::calls()) fma = fma || call == "cudnnSetRNNDescriptor_v8 algorithm 0 math 3";
    expect(fma, "fp32 asks for FMA math");
  }
  expect_nothing_left();
}

}  // namespace

int main(int, char** arguments) {
  library_folder = arguments[1];
  for (const InputCoding coding : {InputCoding::scalar, InputCoding::onehot, InputCoding::embedding}) {
    for (const Target target : {Target::every, Target::last}) {
      for (const bool carry : {false, true}) {
        train_like_cpu(make_spec(coding, carry ? 1 : 2, 0), target, carry, carry);
      }
      // With one layer all dropout is the backend's own, whose masks are the CPU's.
      train_like_cpu(make_spec(coding, 1, 0.3f), target, true, true);
      evaluate_like_cpu(make_spec(coding, 1, 0.3f), target, true);
      evaluate_like_cpu(make_spec(coding, 2, 0.3f), target, false);
    }
    // Two biases a layer in cuDNN, one in the model.
    train_like_cpu(make_spec(coding, 2, 0), Target::every, true, false, cuda::Algorithm::persist_static);
    sample_like_cpu(make_spec(coding, 2, 0.3f), coding == InputCoding::onehot);
  }
  mixed_precision_follows_cpu(cuda::Precision::bf16, 5e-2);
  mixed_precision_follows_cpu(cuda::Precision::fp16, 1e-2);
  resumes_bit_equal(make_spec(InputCoding::onehot, 1, 0.3f), cuda::Precision::fp32);
  resumes_bit_equal(make_spec(InputCoding::embedding, 2, 0.3f), cuda::Precision::tf32);
  resumes_bit_equal(make_spec(InputCoding::embedding, 2, 0.3f), cuda::Precision::fp16);
  streams_may_run_in_any_order(cuda::Precision::fp32);
  streams_may_run_in_any_order(cuda::Precision::fp16);
  unapplied_step_changes_nothing();
  fp16_overflow_is_retried();
  out_of_memory_is_typed();
  capture_failure_falls_back();
  algorithms_are_tried_and_compared();
  calls_are_in_order();
  every_failure_is_clean(false);
  every_failure_is_clean(true);
  std::printf("%s\n", failures() == 0 ? "all passed" : "FAILED");
  return failures() == 0 ? 0 : 1;
}
