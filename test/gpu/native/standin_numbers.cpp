// The same numbers as the CPU backend.
#include <algorithm>
#include <cstring>

#include "core/sampler.h"
#include "cpu/cpu_backend.h"
#include "standin_case.h"
#include "standin_suites.h"

namespace {

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
    const int steps = 6, batch = 19,
              count = lazy ? 42 : 21;  // uploads of eight: more than there is room for, where they pile up
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, cuda::Precision::fp32, algorithm);
    initialize_both(*cpu, *gpu);
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 1);
    // What changes between the replays of one graph.
    std::vector<OptimizerStep> optimizers(count, kOptimizer);
    for (int i = 0; i < count; ++i) {
      optimizers[i].learning_rate *= 1.0 / (1 + i % 5);
      optimizers[i].beta1 = i % 2 == 0 ? 0.9 : 0.8;
      optimizers[i].clip = i % 3 == 0 ? 0 : 0.5;
    }
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

void optimizes_like_cpu(Optimizer optimizer, cuda::Algorithm algorithm) {
  begin_case("optimizes like the CPU: " + std::to_string(static_cast<int>(optimizer)) +
             (algorithm == cuda::Algorithm::standard ? "" : ", two biases a layer"));
  standin::reset();
  standin::settings().persist_supported = true;
  {
    const ModelSpec spec = make_spec(InputCoding::embedding, 2, 0);
    const int steps = 6, batch = 19, count = 12;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, cuda::Precision::fp32, algorithm);
    initialize_both(*cpu, *gpu);
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 1);
    std::vector<OptimizerStep> optimizers(count, kOptimizer);
    for (int i = 0; i < count; ++i) {
      optimizers[i].optimizer = optimizer;
      optimizers[i].learning_rate = 1e-2 / (1 + i % 5);
      optimizers[i].epsilon = 1e-4;
      optimizers[i].weight_decay = i % 4;
      optimizers[i].momentum = 0.8;
    }
    std::vector<StepResult> results(count);
    const Batch first{ids.data(), steps, batch, Target::every, true};
    const auto start = read(*cpu, Slot::parameters);
    expect(cpu->train_steps(first, optimizers.data(), count, results.data(), kNeverStop) == count, "CPU steps");
    expect(gpu->train_steps(first, optimizers.data(), count, results.data(), kNeverStop) == count, "GPU steps");
    const auto expected = read(*cpu, Slot::parameters);
    expect(expected != start, "nothing moved");
    expect_close(expected, read(*gpu, Slot::parameters), 1e-4, "parameters");
    expect_close(read(*cpu, Slot::first_moments), read(*gpu, Slot::first_moments), 1e-3, "first moments");
    expect_close(read(*cpu, Slot::second_moments), read(*gpu, Slot::second_moments), 1e-3, "second moments");
    expect_clean("optimizing");
  }
  expect_nothing_left();
}

// How many parameters stay as they are changes from call to call, to none too.
void freezes_like_cpu(cuda::Precision precision, double bound) {
  begin_case("freezes like the CPU");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::embedding, 2, 0.25f);
    const int steps = 6, batch = 19, count = 2;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, precision);
    initialize_both(*cpu, *gpu);
    const std::size_t size = cpu->layout().size();
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 1);
    const Batch first{ids.data(), steps, batch, Target::every, true};
    for (const std::size_t frozen : {std::size_t{100}, std::size_t{0}, size, size - 5, std::size_t{0}}) {
      std::vector<OptimizerStep> optimizers(count, kOptimizer);
      for (OptimizerStep& optimizer : optimizers) {
        optimizer.frozen = frozen;
        optimizer.epsilon = 1e-3;
      }
      std::vector<StepResult> expected(count), found(count);
      const auto before = read(*gpu, Slot::parameters);
      expect(cpu->train_steps(first, optimizers.data(), count, expected.data(), kNeverStop) == count, "CPU steps");
      expect(gpu->train_steps(first, optimizers.data(), count, found.data(), kNeverStop) == count, "GPU steps");
      const auto after = read(*gpu, Slot::parameters);
      expect(std::equal(before.begin(), before.begin() + frozen, after.begin()), "what is frozen moved");
      expect_close(read(*cpu, Slot::parameters), after, bound, "parameters");
      const double norm = expected[count - 1].gradient_norm;
      expect(std::fabs(norm - found[count - 1].gradient_norm) <= bound * norm, "norm");
    }
    expect_clean("freezing");
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
        cpu->next_logits(ids.data(), 1, streams, expected.data());
        gpu->next_logits(ids.data(), 1, streams, found.data());
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
      cpu->next_logits(ids.data(), 1, streams, expected.data());
      gpu->next_logits(ids.data(), 1, streams, found.data());
      expect_close(expected, found, 1e-5, "logits after a write");
    }
    expect_clean("sampling");
  }
  expect_nothing_left();
}

// sample() on the device against the host's sampler over the same device's logits: the same ids and state.
void draws_like_host(const ModelSpec& spec, bool lazy, cuda::Precision precision) {
  begin_case("draws like the host: coding " + std::to_string(static_cast<int>(spec.coding)));
  standin::reset();
  standin::settings().lazy = lazy;
  {
    auto device = make_cuda(spec, precision);
    auto host = make_cuda(spec, precision);
    initialize_both(*device, *host);
    const int rows = 3, streams = 5, count = 300;  // more than one look at the result
    const auto ids = make_ids(rows * streams, spec.vocabulary, 5);
    SamplingOptions greedy, drawn;
    greedy.greedy = true;
    drawn.temperature = 0.7;
    drawn.top_k = 8;
    drawn.top_p = 0.95;
    drawn.min_p = 0.01;
    for (SamplingOptions options : {greedy, drawn}) {
      options.seed = 3;
      options.position = 40;
      device->reset_stream_state(streams);
      host->reset_stream_state(streams);
      std::vector<std::int32_t> found(count * streams, -1);
      std::vector<SampleStream> each(streams);
      for (int s = 0; s < streams; ++s) {
        each[s].options = options;
        each[s].options.stream = static_cast<std::uint32_t>(s);
        each[s].options.temperature += 0.1 * s;
      }
      const SampleCall call{ids.data(), rows, streams, count, 0, each.data()};
      const std::size_t launched = standin::calls_of("cudaGraphLaunch");
      const std::size_t waited = standin::calls_of("cudaStreamSynchronize");
      expect(sample(*device, call, found.data(), kNeverStop) == count, "draws");
      expect(standin::calls_of("cudaGraphLaunch") - launched >= static_cast<std::size_t>(count - 1),
             "one graph a character");
      expect(standin::calls_of("cudaStreamSynchronize") - waited < 12, "the host waits between characters");

      std::vector<float> logits(streams * spec.vocabulary);
      Sampler sampler(spec.vocabulary);
      std::vector<std::int32_t> next(ids.begin(), ids.begin() + streams);
      for (int step = 0; step < rows - 1 + count; ++step) {
        host->next_logits(next.data(), 1, streams, logits.data());
        if (step + 1 < rows) {
          next.assign(ids.begin() + (step + 1) * streams, ids.begin() + (step + 2) * streams);
          continue;
        }
        const int draw = step + 1 - rows;
        for (int s = 0; s < streams; ++s) {
          next[s] = sampler.draw(logits.data() + s * spec.vocabulary, each[s].options, nullptr, 0,
                                 draw_coin(each[s].options, draw));
          expect(found[draw * streams + s] == next[s], "draw " + std::to_string(draw));
        }
      }
      expect(read(*device, Slot::stream_state) == read(*host, Slot::stream_state), "stream state");
    }
    std::vector<std::int32_t> out(4 * streams);
    const std::vector<SamplingOptions> options(streams);
    const std::atomic<bool> stop{true};
    expect(device->draw(ids.data(), streams, options.data(), 4, out.data(), stop) == 0, "stopped");
    expect_clean("drawing");
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

// States of every odd size, whose second half would not be aligned in 16 bits if it lay right behind the first.
void odd_shapes_follow_cpu(cuda::Precision precision, int layers, int hidden, int batch) {
  begin_case("odd shapes: layers " + std::to_string(layers) + ", H = " + std::to_string(hidden) +
             ", B = " + std::to_string(batch));
  standin::reset();
  {
    // Without masks, and with: then every layer's state is a tensor of its own.
    const ModelSpec spec{11, layers, hidden, InputCoding::onehot, 0, layers == 2 ? 0.25f : 0.0f, 42};
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec, precision);
    initialize_both(*cpu, *gpu);
    const int steps = 5;
    const auto ids = make_ids((steps + 1) * batch, spec.vocabulary, 1);
    const Batch whole{ids.data(), steps, batch, Target::last, true};
    std::vector<float> expected(batch), found(batch);
    for (int i = 0; i < 3; ++i) {
      const StepResult cpu_step = cpu->train_step(whole, kOptimizer, kNeverStop);
      const StepResult gpu_step = gpu->train_step(whole, kOptimizer, kNeverStop);
      expect(gpu_step.applied && std::fabs(cpu_step.loss - gpu_step.loss) < 0.02 * cpu_step.loss, "loss");
      cpu->evaluate(whole, false, 0, expected.data(), kNeverStop);
      gpu->evaluate(whole, false, 0, found.data(), kNeverStop);
      expect_close(expected, found, 0.05, "losses");
    }
    const auto state = read(*gpu, Slot::training_state);
    expect_close(read(*cpu, Slot::training_state), state, 0.05, "training state");
    gpu->write(Slot::training_state, state.data(), state.size());
    expect(read(*gpu, Slot::training_state) == state, "state written and read");
    std::vector<float> logits(batch * spec.vocabulary), other(logits.size());
    cpu->reset_stream_state(batch);
    gpu->reset_stream_state(batch);
    for (int i = 0; i < 2; ++i) {
      cpu->next_logits(ids.data(), 1, batch, other.data());
      gpu->next_logits(ids.data(), 1, batch, logits.data());
      expect_close(other, logits, 0.05, "logits");
    }
    expect_clean("an odd shape");
  }
  expect_nothing_left();
}

// T in pieces beside one another: the numbers of T in one, and as many calls as the pieces ask for. 8 ticks a block.
void pieces_give_the_numbers_of_one(int layers, cuda::Precision precision, int steps, Target target) {
  begin_case("pieces of T = " + std::to_string(steps) + ", layers " + std::to_string(layers) +
             (target == Target::last ? ", last" : ", every"));
  const ModelSpec spec = make_spec(InputCoding::scalar, layers, 0.3f);
  const int batch = 3, count = 6;
  const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 1);
  const std::vector<OptimizerStep> optimizers(count, kOptimizer);
  const double bound = precision == cuda::Precision::fp32 ? 1e-4 : 5e-2;
  std::vector<float> gradients, parameters, state, losses;
  for (const int pieces : {1, 2, 4}) {
    standin::reset();
    {
      auto gpu = make_cuda(spec, precision, cuda::Algorithm::standard, pieces);
      initialize_one(*gpu);
      std::vector<StepResult> results(count);
      const Batch first{ids.data(), steps, batch, target, true};
      standin::calls().clear();
      gpu->train_step(first, kOptimizer, kNeverStop);
      const int parts = std::min(pieces, (steps + 7) / 8);
      expect(standin::calls_of("cudnnRNNForward") == static_cast<std::size_t>(layers * parts), "forward calls");
      expect(standin::calls_of("cudnnRNNBackwardWeights_v8") == static_cast<std::size_t>(layers * parts), "backward calls");
      const auto step_gradients = read(*gpu, Slot::gradients);
      const std::size_t launched = standin::calls_of("cudaGraphLaunch");
      expect(gpu->train_steps(first, optimizers.data(), count, results.data(), kNeverStop) == count, "steps");
      expect(standin::calls_of("cudaGraphLaunch") - launched == static_cast<std::size_t>(count), "graphs");
      std::vector<float> masked(target == Target::last ? batch : steps * batch);
      gpu->evaluate({ids.data(), steps, batch, target, false}, true, 9, masked.data(), kNeverStop);
      if (pieces == 1) {
        gradients = step_gradients;
        parameters = read(*gpu, Slot::parameters);
        state = read(*gpu, Slot::training_state);
        losses = masked;
      } else {
        expect_close(gradients, step_gradients, bound, "gradients");
        expect_close(parameters, read(*gpu, Slot::parameters), 10 * bound, "parameters");
        expect_close(state, read(*gpu, Slot::training_state), 10 * bound, "state");
        expect_close(losses, masked, bound, "masked losses");
      }
      expect_clean("pieces");
    }
    expect_nothing_left();
  }
}

// A carried evaluation with masks, then without, then with them again: the state goes from one form of the layers to the
// other.
void evaluation_changes_form() {
  begin_case("a carried evaluation with masks and without");
  standin::reset();
  {
    const ModelSpec spec{11, 3, 7, InputCoding::onehot, 0, 0.3f, 42};
    const int steps = 4, batch = 3;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec);
    initialize_both(*cpu, *gpu);
    const auto ids = make_ids((steps + 1) * batch, spec.vocabulary, 4);
    std::vector<float> expected(steps * batch), found(steps * batch);
    for (const bool dropout : {true, false, true, false, false, true}) {
      const Batch whole{ids.data(), steps, batch, Target::every, true};
      cpu->evaluate(whole, dropout, 5, expected.data(), kNeverStop);
      gpu->evaluate(whole, dropout, 5, found.data(), kNeverStop);
      expect_close(expected, found, 1e-5, "losses");
    }
    // After a step the passes without masks read the new weights, and so they do after a write.
    for (int i = 0; i < 2; ++i) {
      cpu->train_step({ids.data(), steps, batch, Target::every, true}, kOptimizer, kNeverStop);
      gpu->train_step({ids.data(), steps, batch, Target::every, true}, kOptimizer, kNeverStop);
      cpu->evaluate({ids.data(), steps, batch, Target::every, false}, false, 5, expected.data(), kNeverStop);
      gpu->evaluate({ids.data(), steps, batch, Target::every, false}, false, 5, found.data(), kNeverStop);
      expect_close(expected, found, 1e-4, "losses after a step");
    }
    initialize_both(*cpu, *gpu);
    cpu->evaluate({ids.data(), steps, batch, Target::every, false}, false, 5, expected.data(), kNeverStop);
    gpu->evaluate({ids.data(), steps, batch, Target::every, false}, false, 5, found.data(), kNeverStop);
    expect_close(expected, found, 1e-5, "losses after a write");
    expect_clean("evaluation");
  }
  expect_nothing_left();
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
      // Another shape takes the same, by a comparison where it is not the standard one, untimed.
      standin::settings().persist_speedup = 4;
      const std::size_t timed = standin::calls_of("cudaEventElapsedTime");
      gpu->train_step({ids.data(), 4, 2, Target::every, true}, kOptimizer, kNeverStop);
      expect(gpu->description().find(expectation.chosen) != std::string::npos, gpu->description());
      const bool compared = std::string(expectation.chosen) != "standard";
      expect(standin::calls_of("cudaEventElapsedTime") - timed <= (compared ? 2u : expectation.supported ? 0u : 1u),
             "timed again");
      expect_clean("choosing");
    }
    expect_nothing_left();
  }
}

// The trial's own gradients add up over all positions, and must not leave the range of half precision.
void large_batches_are_tried_in_16_bits() {
  for (const auto precision : {cuda::Precision::fp16, cuda::Precision::bf16}) {
    begin_case(std::string("a trial of a large batch in ") + (precision == cuda::Precision::fp16 ? "fp16" : "bf16"));
    standin::reset();
    standin::settings().persist_supported = true;
    {
      const int steps = 100, batch = 2048;
      auto gpu = make_cuda({3, 1, 1, InputCoding::scalar, 0, 0, 42}, precision, cuda::Algorithm::persist_static);
      initialize_one(*gpu);
      const auto ids = make_ids((steps + 1) * batch, 3, 2);
      gpu->train_step({ids.data(), steps, batch, Target::last, false}, kOptimizer, kNeverStop);
      expect(gpu->description().find("persist-static") != std::string::npos, gpu->description());
      expect_clean("choosing");
    }
    expect_nothing_left();
  }
}

// In fp32 an algorithm that rounds inside as TF32 does is no candidate; in tf32 it is.
void fp32_means_fp32() {
  begin_case("an algorithm that rounds inside");
  for (const bool fp32 : {true, false}) {
    standin::reset();
    standin::settings().persist_supported = true;
    standin::settings().persist_rounds = 1e-3;
    {
      auto gpu = make_cuda(make_spec(InputCoding::scalar, 2, 0.1f), fp32 ? cuda::Precision::fp32 : cuda::Precision::tf32,
                           cuda::Algorithm::automatic);
      initialize_one(*gpu);
      const auto ids = make_ids(5 * 3, 11, 2);
      gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop);
      expect(gpu->description().find(fp32 ? "standard" : "persist") != std::string::npos, gpu->description());
    }
    expect_nothing_left();
  }
}

// Right call by call and wrong in a replay, or not to be recorded at all: no candidate either.
void what_runs_is_what_is_compared() {
  for (const bool recordable : {true, false}) {
    begin_case(recordable ? "an algorithm that is wrong in a graph" : "an algorithm that cannot be recorded");
    standin::reset();
    standin::settings().persist_supported = true;
    standin::settings().persist_wrong_in_graphs = recordable;
    standin::settings().persist_recordable = recordable;
    {
      auto gpu = make_cuda(make_spec(InputCoding::scalar, 2, 0.1f), cuda::Precision::tf32, cuda::Algorithm::automatic);
      initialize_one(*gpu);
      const auto ids = make_ids(5 * 3, 11, 2);
      for (int i = 0; i < 3; ++i)
        gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop);
      expect(gpu->description().find("standard)") != std::string::npos, gpu->description());
    }
    standin::faults().clear();
    expect_nothing_left();
  }
}

}  // namespace

void check_numbers() {
  for (const InputCoding coding : {InputCoding::scalar, InputCoding::onehot, InputCoding::embedding}) {
    for (const Target target : {Target::every, Target::last}) {
      for (const bool carry : {false, true}) {
        train_like_cpu(make_spec(coding, carry ? 1 : 2, 0), target, carry, carry);
      }
      for (const int layers : {1, 2, 3}) {
        train_like_cpu(make_spec(coding, layers, 0.3f), target, layers != 2, layers == 1);
        evaluate_like_cpu(make_spec(coding, layers, 0.3f), target, true);
      }
      evaluate_like_cpu(make_spec(coding, 2, 0.3f), target, false);
    }
    // Two biases a layer in cuDNN, one in the model.
    train_like_cpu(make_spec(coding, 2, 0), Target::every, true, false, cuda::Algorithm::persist_static);
    sample_like_cpu(make_spec(coding, 2, 0.3f), coding == InputCoding::onehot);
  }
  for (const Optimizer optimizer : kOptimizers) {
    optimizes_like_cpu(optimizer, cuda::Algorithm::standard);
    optimizes_like_cpu(optimizer, cuda::Algorithm::persist_static);
  }
  freezes_like_cpu(cuda::Precision::fp32, 1e-3);
  freezes_like_cpu(cuda::Precision::bf16, 5e-2);
  draws_like_host(make_spec(InputCoding::onehot, 2, 0.3f), false, cuda::Precision::fp32);
  draws_like_host(make_spec(InputCoding::embedding, 1, 0), true, cuda::Precision::tf32);
  draws_like_host(make_spec(InputCoding::scalar, 2, 0), true, cuda::Precision::fp16);
  mixed_precision_follows_cpu(cuda::Precision::bf16, 5e-2);
  mixed_precision_follows_cpu(cuda::Precision::fp16, 1e-2);
  for (const cuda::Precision precision : {cuda::Precision::fp32, cuda::Precision::bf16, cuda::Precision::fp16}) {
    for (const int layers : {1, 2, 3}) {
      for (const int hidden : {1, 7, 8}) {
        for (const int batch : {1, 3}) odd_shapes_follow_cpu(precision, layers, hidden, batch);
      }
    }
  }
  for (const int layers : {2, 3}) {
    for (const int steps : {1, 8, 9, 33}) {
      for (const Target target : {Target::every, Target::last}) {
        pieces_give_the_numbers_of_one(layers, cuda::Precision::fp32, steps, target);
      }
    }
    pieces_give_the_numbers_of_one(layers, cuda::Precision::bf16, 21, Target::every);
  }
  evaluation_changes_form();
  algorithms_are_tried_and_compared();
  large_batches_are_tried_in_16_bits();
  fp32_means_fp32();
  what_runs_is_what_is_compared();
}
