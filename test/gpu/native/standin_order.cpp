// What runs when: the calls of a step, graphs, streams, and the bits that a run repeats.
#include <algorithm>
#include <thread>

#include "cpu/cpu_backend.h"
#include "standin_case.h"
#include "standin_suites.h"

namespace {

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

// The masks are the CPU's in every layer, so a run may change its device: the CPU goes on from what the GPU left as it
// would have gone on from its own.
void resumes_on_the_other_device(int layers) {
  begin_case("resumes on the other device: layers " + std::to_string(layers));
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::embedding, layers, 0.3f);
    const int steps = 4, batch = 9, count = 12, cut = 5;
    const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 6);
    const std::vector<OptimizerStep> optimizers(count, kOptimizer);
    std::vector<StepResult> expected(count), found(count);
    const auto from = [&](int step) {
      return Batch{ids.data() + step * (steps + 1) * batch, steps, batch, Target::every, true};
    };
    auto unbroken = cpu::create_cpu_backend(spec, 1);
    initialize_one(*unbroken);
    unbroken->train_steps(from(0), optimizers.data(), count, expected.data(), kNeverStop);
    for (const bool cpu_first : {false, true}) {
      auto gpu = make_cuda(spec);
      auto cpu = cpu::create_cpu_backend(spec, 1);
      Backend& before = cpu_first ? *cpu : *gpu;
      Backend& after = cpu_first ? *gpu : *cpu;
      initialize_one(before);
      before.train_steps(from(0), optimizers.data(), cut, found.data(), kNeverStop);
      for (const Slot slot : kAllSlots) {
        if (slot == Slot::gradients) continue;
        const auto values = read(before, slot);
        after.write(slot, values.data(), values.size());
      }
      after.set_step_count(before.step_count());
      after.train_steps(from(cut), optimizers.data(), count - cut, found.data() + cut, kNeverStop);
      for (int i = 0; i < count; ++i)
        expect(std::fabs(expected[i].loss - found[i].loss) <= 1e-4 * expected[i].loss, "loss of step " + std::to_string(i));
      expect_close(read(*unbroken, Slot::parameters), read(after, Slot::parameters), 2e-3, "parameters");
      expect_close(read(*unbroken, Slot::training_state), read(after, Slot::training_state), 2e-3, "training state");
    }
    expect_clean("resuming");
  }
  expect_nothing_left();
}

// Whatever order CUDA runs the streams in, the bits are the same: ids are not overwritten before their step has read
// them, and no layer's piece runs before what it reads is there.
// steps, batch, count: 41 small steps are five uploads of eight and one of one; large ones are an upload each. What they
// upload is read to the last id whatever has a target, which is most of the work.
void streams_may_run_in_any_order(cuda::Precision precision, const ModelSpec& spec, int steps, int batch, int count,
                                  std::uint32_t orders, int pieces = 1, Target target = Target::every) {
  begin_case("streams in any order, T = " + std::to_string(steps) + ", pieces " + std::to_string(pieces));
  const auto ids = make_ids(count * (steps + 1) * batch, spec.vocabulary, 6);
  std::vector<OptimizerStep> optimizers(count, kOptimizer);
  std::vector<float> expected, expected_losses;
  for (std::uint32_t seed = 0; seed < orders; ++seed) {
    standin::reset();
    standin::settings().shuffle = seed;
    standin::settings().eagerness = seed % 4 * 4;  // from far behind to close by
    auto gpu = make_cuda(spec, precision, cuda::Algorithm::standard, pieces);
    initialize_one(*gpu);
    std::vector<StepResult> results(count);
    std::vector<float> losses(target == Target::last ? batch : steps * batch);
    gpu->train_steps({ids.data(), steps, batch, target, true}, optimizers.data(), count, results.data(), kNeverStop);
    gpu->evaluate({ids.data(), steps, batch, target, false}, true, 3, losses.data(), kNeverStop);
    const auto found = read(*gpu, Slot::parameters);
    if (seed == 0) {
      expected = found;
      expected_losses = losses;
    }
    expect(found == expected && losses == expected_losses, "differs in order " + std::to_string(seed));
    expect_clean("training");
  }
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

// As many shapes as one likes: graphs and buffers of the latest are kept, the state goes from one to the next.
void shapes_are_kept_within_bounds() {
  begin_case("many shapes");
  const ModelSpec spec = make_spec(InputCoding::embedding, 1, 0.2f);
  standin::reset();
  {
    const int batch = 4, shapes = 30;
    auto cpu = cpu::create_cpu_backend(spec, 1);
    auto gpu = make_cuda(spec);
    initialize_both(*cpu, *gpu);
    const auto ids = make_ids(3 * (shapes + 1) * batch, spec.vocabulary, 8);
    const std::vector<OptimizerStep> optimizers(3, kOptimizer);
    StepResult expected[3], found[3];
    int held = 0;
    for (int round = 0; round < 2; ++round) {
      for (int steps = 1; steps <= shapes; ++steps) {
        const Batch first{ids.data(), steps, batch, Target::every, true};
        cpu->train_steps(first, optimizers.data(), 3, expected, kNeverStop);
        expect(gpu->train_steps(first, optimizers.data(), 3, found, kNeverStop) == 3, "steps");
        expect(std::fabs(expected[2].loss - found[2].loss) < 1e-3, "loss with T = " + std::to_string(steps));
        if (steps == 15) held = standin::live_objects();
        if (steps > 15) expect(standin::live_objects() == held, "objects pile up");
      }
    }
    expect_close(read(*cpu, Slot::training_state), read(*gpu, Slot::training_state), 5e-3, "training state");
    // A shape that is kept is not captured anew.
    const std::size_t captured = standin::calls_of("cudaStreamBeginCapture");
    const Batch last{ids.data(), shapes, batch, Target::every, true};
    gpu->train_steps(last, optimizers.data(), 3, found, kNeverStop);
    expect(standin::calls_of("cudaStreamBeginCapture") == captured, "captured again");
    expect_clean("training");
  }
  expect_nothing_left();
}

// ---- the record of one step

// What a graph records is what ran call by call before it, and nothing that CUDA forbids in a capture (the stand-in
// makes faults of those).
void graphs_record_the_same_calls() {
  begin_case("a graph records the calls of the pass before it");
  standin::reset();
  {
    auto gpu = make_cuda(make_spec(InputCoding::embedding, 2, 0.2f), cuda::Precision::bf16);
    initialize_one(*gpu);
    const auto ids = make_ids(5 * 3, 11, 2);
    const auto between = [](const std::string& from, const std::string& to) {
      const std::vector<std::string>& calls = standin::calls();
      const auto first = std::find(calls.begin(), calls.end(), from);
      auto last = calls.end();
      while (last != first && *(last - 1) != to) --last;
      return std::vector<std::string>(first, last);
    };
    const auto run = [&](int kind) {
      standin::calls().clear();
      std::vector<float> values(100);
      if (kind == 0) gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop);
      if (kind == 1) gpu->evaluate({ids.data(), 4, 3, Target::every, true}, true, 5, values.data(), kNeverStop);
    };
    for (const int kind : {0, 1}) {
      run(kind);
      // The last call of a pass: the cursor in training, the state's copy in evaluation.
      const auto eager = between("for_each_element", kind == 0 ? "for_each_element" : "cudaMemcpyAsync");
      run(kind);
      auto recorded = between("cudaStreamBeginCapture", "cudaStreamEndCapture");
      expect(recorded.size() > (kind == 0 ? 20 : 5), "nothing recorded");
      recorded = {recorded.begin() + 1, recorded.end() - 1};
      const bool same = std::equal(recorded.begin(), recorded.end(), eager.begin());
      // An evaluation's losses are copied after it.
      expect(same && eager.size() - recorded.size() == (kind == 0 ? 0 : 1), "other calls");
    }
    expect_clean("recording");
  }
  expect_nothing_left();
}

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
    // With masks between the layers, a call a layer.
    const std::vector<std::string> expected = {"cudnnRNNForward T4 B3 training", "cudnnRNNForward T4 B3 training",
                                               "cublasGemmEx_64 11x3x9",          "cublasGemmEx_64 9x11x3",
                                               "cublasGemmEx_64 9x3x11",          "cudnnRNNBackwardData_v8 T4 B3",
                                               "cudnnRNNBackwardData_v8 T4 B3", "cudnnRNNBackwardWeights_v8 T4 B3",
                                               "cudnnRNNBackwardWeights_v8 T4 B3"};
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

// cuDNN computes the gradient of its input always; where nobody reads it, it goes where the logits were.
void unread_gradients_take_no_memory() {
  begin_case("the gradient of one-hot rows takes no memory of its own");
  for (const auto precision : {cuda::Precision::fp32, cuda::Precision::bf16}) {
    standin::reset();
    {
      const int steps = 4, batch = 3, bytes = precision == cuda::Precision::fp32 ? 4 : 2;
      const ModelSpec spec = make_spec(InputCoding::onehot, 1, 0);
      auto gpu = make_cuda(spec, precision);
      initialize_one(*gpu);
      const auto ids = make_ids(5 * 3, spec.vocabulary, 2);
      standin::calls().clear();
      gpu->train_step({ids.data(), steps, batch, Target::every, true}, kOptimizer, kNeverStop);
      const std::string rows = "cudaMalloc " + std::to_string(steps * batch * spec.vocabulary * bytes);
      // The rows and the logits, or their gradient in 16 bits.
      expect(standin::calls_of(rows) == 2, std::to_string(standin::calls_of(rows)) + " times " + rows);
      expect_clean("training");
    }
    expect_nothing_left();
  }
}

void waiting_threads_sleep() {
  begin_case("a thread that waits for the GPU sleeps");
  standin::reset();
  make_cuda(make_spec(InputCoding::onehot, 1, 0));
  expect(standin::calls_of("cudaSetDeviceFlags " +
                           std::to_string(cudaDeviceMapHost | cudaDeviceScheduleBlockingSync)) == 1,
         "blocking, beside the flags that were");
  expect_nothing_left();
}

// On a machine with several GPUs: naming another one, even to put the thread back, would make a context there.
void a_model_keeps_to_its_gpu() {
  begin_case("a model on the second GPU never touches the first");
  standin::reset();
  standin::settings().devices = 2;
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 2, 0.2f);
    cuda::CudaOptions options;
    options.ordinal = 1;
    options.library_path = library_folder;
    auto gpu = cuda::create_cuda_backend(spec, options);
    initialize_one(*gpu);
    const auto ids = make_ids(5 * 3, spec.vocabulary, 2);
    std::vector<float> values(100);
    gpu->train_step({ids.data(), 4, 3, Target::every, true}, kOptimizer, kNeverStop);
    gpu->evaluate({ids.data(), 4, 3, Target::every, true}, false, 0, values.data(), kNeverStop);
    gpu->next_logits(ids.data(), 1, 3, values.data());
    read(*gpu, Slot::parameters);
  }
  expect(standin::calls_of("cudaSetDevice 1") > 5, "the second is chosen");
  expect(standin::calls_of("cudaSetDevice") == standin::calls_of("cudaSetDevice 1"), "the first is touched");
  expect_nothing_left();
}

// As JavaScript may: a model tells what it is while a call runs on another thread.
void may_be_asked_while_it_works() {
  begin_case("a model may be asked what it is while it works");
  standin::reset();
  {
    const ModelSpec spec = make_spec(InputCoding::onehot, 1, 0);
    auto gpu = make_cuda(spec);
    initialize_one(*gpu);
    const auto ids = make_ids(31 * 3, spec.vocabulary, 2);
    std::atomic<bool> done{false};
    std::thread training([&] {
      for (int i = 0; i < 300; ++i)
        gpu->train_step({ids.data(), 1 + i % 30, 3, Target::every, true}, kOptimizer, kNeverStop);
      done = true;
    });
    bool told = true;
    while (!done) told = told && gpu->description().find("fp32") != std::string::npos && gpu->device_bytes() > 0;
    training.join();
    expect(told, "nothing told");
    expect(gpu->description().find("standard") != std::string::npos, gpu->description());
    expect_clean("training");
  }
  expect_nothing_left();
}

}  // namespace

void check_order() {
  resumes_bit_equal(make_spec(InputCoding::onehot, 1, 0.3f), cuda::Precision::fp32);
  resumes_bit_equal(make_spec(InputCoding::embedding, 2, 0.3f), cuda::Precision::tf32);
  resumes_bit_equal(make_spec(InputCoding::embedding, 2, 0.3f), cuda::Precision::fp16);
  for (const int layers : {1, 2, 3}) resumes_on_the_other_device(layers);
  const ModelSpec masked = make_spec(InputCoding::embedding, 2, 0.3f);
  streams_may_run_in_any_order(cuda::Precision::fp32, masked, 3, 5, 41, 60);
  streams_may_run_in_any_order(cuda::Precision::fp16, masked, 3, 5, 41, 60);
  const ModelSpec small{3, 1, 1, InputCoding::scalar, 0, 0, 42};
  streams_may_run_in_any_order(cuda::Precision::fp32, small, 257, 256, 7, 5, 1, Target::last);
  for (const int layers : {2, 3}) {
    streams_may_run_in_any_order(cuda::Precision::fp32, make_spec(InputCoding::embedding, layers, 0.3f), 27, 3, 6, 12, 3);
  }
  capture_failure_falls_back();
  shapes_are_kept_within_bounds();
  graphs_record_the_same_calls();
  calls_are_in_order();
  unread_gradients_take_no_memory();
  waiting_threads_sleep();
  a_model_keeps_to_its_gpu();
  may_be_asked_while_it_works();
}
