// The kernels' self-test, without Node: every table that runs on this CPU against plain double arithmetic. For
// cross-compiled builds under an emulator, and for sanitizers. Prints one line per check; exits with 1 if any failed.
//
//   native_selftest               every part below
//   native_selftest PART…         only these:    kernels   each kernel, on every table; no threads
//                                                models    whole models, on one thread and on several
//                                                teams     the thread team
//                                                tuner     what chooses its size, on simulated machines
//                                                stops     calls that are stopped
//                                                looks     what large models compute between two looks at the stop flag
//   native_selftest sweep N S F   N sizes of model and batch from the F-th on (0 if omitted), for every S-th vocabulary
//                                 of 2 to 600 symbols and for those around powers of two, on every table; prints how
//                                 long that took (docs/cpu-kernels.md has figures)
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/communicator.h"
#include "core/initialize.h"
#include "core/random.h"
#include "core/sampler.h"
#include "cpu/cpu_backend.h"
#include "cpu/selftest.h"

#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace cudnn_lstm::cpu {
namespace {

int failures = 0;

// No place where a kernel may touch more than it was asked for can be made from a pointer.
template <typename Made, typename T>
constexpr bool takes_pointer = std::is_constructible_v<Made, T*> || std::is_convertible_v<T*, Made>;
static_assert(!takes_pointer<TileRows, float> && !takes_pointer<PackedTiles<float>, float> &&
              !takes_pointer<GradientPanel<float>, float> && !takes_pointer<SquareRows, float> &&
              !takes_pointer<Bf16TileRows, Bf16Pair> && !takes_pointer<PackedTiles<Bf16Pair>, Bf16Pair> &&
              !takes_pointer<GradientPanel<Bf16Pair>, Bf16Pair> && !takes_pointer<SquareTarget, float> &&
              !takes_pointer<PanelRows, float> && !takes_pointer<ConstPanelRows, float> &&
              !takes_pointer<MatrixPanels<float>, float> &&
              !takes_pointer<MatrixPanels<std::uint16_t>, std::uint16_t> &&
              !takes_pointer<MatrixPanels<std::int8_t>, std::int8_t>);

}  // namespace

void check(bool ok, const char* subject, const char* what, double got, double bound) {
  std::printf("%s %-9s %-28s %.3g (bound %.3g)\n", ok ? "ok  " : "FAIL", subject, what, got, bound);
  if (!ok) ++failures;
}

namespace {

// Uniform in [-1, 1).
std::vector<float> noise(std::size_t count, std::uint32_t stream) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = 2 * uniform01(philox4x32({static_cast<std::uint32_t>(i), stream, 0, 0}, philox_key(7))[0]) - 1;
  }
  return values;
}

double ulps(float got, double want) {
  const float nearest = static_cast<float>(want);
  const double spacing = std::nextafter(std::fabs(nearest), INFINITY) - std::fabs(nearest);
  return std::fabs(got - want) / spacing;
}

// The known answers of the Random123 distribution's kat_vectors for philox4x32-10.
void check_philox() {
  const auto zero = philox4x32({0, 0, 0, 0}, {{0, 0}});
  const auto pi = philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {{0xa4093822u, 0x299f31d0u}});
  const auto same = [](const PhiloxWords& words, std::initializer_list<std::uint32_t> wanted) {
    return std::equal(wanted.begin(), wanted.end(), words.word);
  };
  const bool ok = same(zero, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}) &&
                  same(pi, {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
  check(ok, "-", "philox known answers", ok ? 0 : 1, 0);
}

// The straight line that replaces the sigmoid, in all three kernels that have it: its values, cut off at 0 and 1, and
// its slope, zero where it is cut off.
void check_hard_gates(const KernelTable& table, float slope) {
  double value_worst = 0, slope_worst = 0;
  for (int i = 0; i < 200; ++i) {
    alignas(64) float gates[64] = {}, c_before[16] = {}, c[16], h[16], dh[16] = {}, dc[16];
    float at[16];
    for (int lane = 0; lane < 16; ++lane) {
      at[lane] = static_cast<float>(-4.0 + (i * 16 + lane) * (8.0 / 3200));
      gates[lane] = at[lane];
      gates[32 + lane] = 0.5f;
      dc[lane] = 1;
    }
    float single[64] = {}, single_c[16] = {}, single_h[16];
    for (int unit = 0; unit < 16; ++unit) {
      single[4 * unit] = at[unit];
      single[4 * unit + 2] = 0.5f;
    }
    GateForward forward{1, slope, gates, c_before, c, h, nullptr, nullptr, 0};
    table.gate_forward(forward);
    table.gate_single(16, slope, single, single_c, single_h);
    for (int lane = 0; lane < 16; ++lane) {
      const double line = std::fmin(1, std::fmax(0, static_cast<double>(slope) * at[lane] + 0.5));
      value_worst = std::fmax(value_worst, std::fabs(gates[lane] - line));
      value_worst = std::fmax(value_worst, std::fabs(c[lane] - line * std::tanh(0.5)));
      value_worst = std::fmax(value_worst, std::fabs(single_c[lane] - c[lane]));
      value_worst = std::fmax(value_worst, std::fabs(h[lane] - 0.5 * std::tanh(line * std::tanh(0.5))));
    }
    GateBackward backward{1, slope, gates, c_before, c, nullptr, dh, dc, nullptr, 0};
    table.gate_backward(backward);
    for (int lane = 0; lane < 16; ++lane) {
      const double line = static_cast<double>(slope) * at[lane] + 0.5;
      if (std::fabs(line) < 1e-6 || std::fabs(line - 1) < 1e-6)
        continue;  // Which side of the kink it is on is up to rounding.
      const double expected = line > 0 && line < 1 ? std::tanh(0.5) * slope : 0;
      slope_worst = std::fmax(slope_worst, std::fabs(gates[lane] - expected));
    }
  }
  check(value_worst <= 2e-7, table.name, "hard sigmoid", value_worst, 2e-7);
  check(slope_worst <= 2e-7, table.name, "hard sigmoid's slope", slope_worst, 2e-7);
}

// The gate stage with one gate probed at a time gives sigmoid and tanh over a dense grid.
void check_gates(const KernelTable& table) {
  double sigmoid_worst = 0, tanh_worst = 0;
  for (int i = 0; i < 40'000; ++i) {
    alignas(64) float gates[64] = {}, c_before[16] = {}, c[16], h[16];
    float at[16];
    for (int lane = 0; lane < 16; ++lane) {
      at[lane] = static_cast<float>(-20.0 + (i * 16 + lane) * (40.0 / 640'000));
      gates[lane] = at[lane];           // i: sigmoid
      gates[32 + lane] = at[lane] / 2;  // g: tanh
    }
    GateForward stage{};
    stage.units = 1;
    stage.gates = gates;
    stage.c_before = c_before;
    stage.c = c;
    stage.h = h;
    table.gate_forward(stage);
    for (int lane = 0; lane < 16; ++lane) {
      sigmoid_worst = std::fmax(sigmoid_worst, ulps(gates[lane], 1 / (1 + std::exp(-static_cast<double>(at[lane])))));
      tanh_worst = std::fmax(tanh_worst, ulps(gates[32 + lane], std::tanh(static_cast<double>(at[lane] / 2))));
    }
  }
  check(sigmoid_worst <= 4, table.name, "sigmoid, ulp", sigmoid_worst, 4);
  for (const float slope : {0.2f, 1.0f / 6.0f}) check_hard_gates(table, slope);
  check(tanh_worst <= 4, table.name, "tanh, ulp", tanh_worst, 4);
}

void check_products(const KernelTable& table) {
  double worst = 0;
  for (const auto& [rows, depth] : {std::pair{7, 5}, std::pair{64, 256}, std::pair{93, 301}}) {
    const std::vector<float> a = noise(static_cast<std::size_t>(rows) * depth, 1),
                             b = noise(static_cast<std::size_t>(depth) * 48, 2);
    const std::vector<float> start = noise(rows, 3);
    PackedMatrix packed;
    packed.shape(table, rows, depth);
    packed.pack({a.data(), static_cast<std::size_t>(depth), 1, 0, 0}, 0, 1);
    std::vector<float> c(static_cast<std::size_t>(rows) * 48, NAN);
    const float* bs[3];
    float* cs[3];
    const std::atomic<bool> never{false};
    StopRequest stop;
    stop.watch(never);
    for (int i = 0; i < 3; ++i) {
      bs[i] = b.data() + static_cast<std::size_t>(i) * depth * 16;
      cs[i] = c.data() + static_cast<std::size_t>(i) * rows * 16;
    }
    const int middle = rows / 2 / table.tile_rows * table.tile_rows;
    packed.multiply(0, middle, 3, {bs}, cs, start.data(), false, stop);
    packed.multiply(middle, rows, 3, {bs}, cs, start.data(), false, stop);
    for (int i = 0; i < 3; ++i)
      for (int r = 0; r < rows; ++r)
        for (int lane = 0; lane < 16; ++lane) {
          double want = start[r];
          for (int k = 0; k < depth; ++k)
            want += static_cast<double>(a[static_cast<std::size_t>(r) * depth + k]) * bs[i][k * 16 + lane];
          worst = std::fmax(worst, std::fabs(cs[i][r * 16 + lane] - want) / std::sqrt(depth));
        }
  }
  check(worst < 1e-6, table.name, "products", worst, 1e-6);
}

// ---- Products of bfloat16 pairs.

// What VCVTNEPS2BF16 does, according to Intel's manual.
std::uint16_t rounded_to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x00800000u) return static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return magnitude == 0x7f800000u ? static_cast<std::uint16_t>(bits >> 16)
                                  : static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float rounded(float value) { return from_bf16(rounded_to_bf16(value)); }

// Every kind of number, and every width and depth around a vector's and a pair's.
void check_rounding(const KernelTable& table) {
  std::vector<float> values = noise(3000, 5);
  for (const std::uint32_t exponent : {0u, 1u, 2u, 100u, 127u, 253u, 254u, 255u}) {
    for (const std::uint32_t fraction :
         {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu, 0x17fffu, 0x18000u, 0x18001u, 0x400000u, 0x7f8000u, 0x7fffffu}) {
      for (const std::uint32_t sign : {0u, 1u}) {
        const std::uint32_t bits = sign << 31 | exponent << 23 | fraction;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        values.push_back(value);
      }
    }
  }
  std::reverse(values.begin(), values.end());  // the rare ones first
  int wrong = 0;
  for (int width = 1; width <= 33; ++width) {
    for (const int depth : {1, 2, 3, 8, 9}) {
      AlignedBuffer<float> x;  // with guard pages, exactly as long as what is read
      AlignedBuffer<Bf16Pair> out;
      x.resize(static_cast<std::size_t>(width) * depth);
      out.resize(static_cast<std::size_t>(width) * depth_steps<Bf16Pair>(depth));
      std::copy_n(values.begin(), x.size(), x.data());
      table.round_rows(x.data(), depth, width, out.data());
      for (std::size_t i = 0; i < out.size(); ++i) {
        const std::size_t first = i / width * 2 * width + i % width, second = first + width;
        wrong += (out[i] & 0xffffu) != rounded_to_bf16(x[first]);
        wrong += out[i] >> 16 != (second < x.size() ? rounded_to_bf16(x[second]) : 0);
      }
    }
  }
  RowBlocks rows(table.tile_rows);
  rows.ensure(1);
  RoundedTiles tiles;
  tiles.ensure(table.tile_rows);
  std::copy_n(values.begin(), static_cast<std::size_t>(table.tile_rows) * kLanes, rows.block(0).rows());
  table.round_tile(rows.tile(0, 0), table.tile_rows, tiles.rows(0));
  for (int i = 0; i < table.tile_rows * kLanePairs; ++i) {
    wrong += (tiles.rows(0)[i] & 0xffffu) != rounded_to_bf16(values[2 * i]);
    wrong += tiles.rows(0)[i] >> 16 != rounded_to_bf16(values[2 * i + 1]);
  }
  check(wrong == 0, table.name, "rounding to bfloat16", wrong, 0);
}

// Compared bit for bit, emulated or by the processor, with the sum the manual specifies: of each pair, the second
// product first, each added with one rounding.
void check_bf16_products(const KernelTable& table) {
  double apart = 0, worst = 0;
  for (const int rows : {1, 2, 5, 6, 7, 8, 9, 24, 25, 64, 93}) {
    for (const int depth : {1, 2, 3, 4, 5, 255, 256, 257, 301, 512, 513}) {
      const std::vector<float> a = noise(static_cast<std::size_t>(rows) * depth, 1),
                               b = noise(static_cast<std::size_t>(depth) * 48, 2), start = noise(rows, 3);
      PackedMatrix packed;
      packed.shape(table, rows, depth, Arithmetic::bf16);
      const bool by_columns = (rows + depth) % 2 == 0;  // a transposed source
      std::vector<float> source(a);
      if (by_columns) {
        for (int r = 0; r < rows; ++r)
          for (int k = 0; k < depth; ++k)
            source[static_cast<std::size_t>(k) * rows + r] = a[static_cast<std::size_t>(r) * depth + k];
      }
      for (int part = 0; part < 2; ++part) {
        packed.pack({source.data(), by_columns ? 1 : static_cast<std::size_t>(depth),
                     by_columns ? static_cast<std::size_t>(rows) : 1, 0, 0},
                    part, 2);
      }
      RoundedBlocks blocks;
      blocks.ensure(3, depth);
      std::vector<float> c(static_cast<std::size_t>(rows) * 48, NAN);
      const float* bs[3];
      float* cs[3];
      for (int i = 0; i < 3; ++i) {
        bs[i] = b.data() + static_cast<std::size_t>(i) * depth * 16;
        cs[i] = c.data() + static_cast<std::size_t>(i) * rows * 16;
      }
      const std::atomic<bool> never{false};
      StopRequest stop;
      stop.watch(never);
      packed.multiply(0, rows, 3, {nullptr, blocks.round(table, bs, 3, depth)}, cs, start.data(), false, stop);
      for (int i = 0; i < 3; ++i)
        for (int r = 0; r < rows; ++r)
          for (int lane = 0; lane < 16; ++lane) {
            float want = start[r];
            double exact = start[r];
            const auto add = [&](int k) {
              if (k >= depth) return;
              const float left = rounded(a[static_cast<std::size_t>(r) * depth + k]);
              const float right = rounded(bs[i][k * 16 + lane]);
              want = std::fma(left, right, want);
              exact += static_cast<double>(left) * right;
            };
            for (int k = 0; k < depth; k += 2) {
              add(k + 1);
              add(k);
            }
            const float got = cs[i][r * 16 + lane];
            apart += got != want;
            worst = std::fmax(worst, std::fabs(got - exact) / std::sqrt(depth));
          }
    }
  }
  check(worst < 1e-6, table.name, "bfloat16 products", worst, 1e-6);
  check(apart == 0, table.name, "bfloat16 products, bit for bit", apart, 0);
}

// The dropout masks match the scalar Philox bit for bit.
void check_masks(const KernelTable& table) {
  std::uint16_t keep[40];
  const std::uint32_t threshold = dropout_threshold(0.2f);
  table.dropout_mask({40, 32, 3, 5, 1, (std::uint64_t{1} << 33) + 9, 123456789012345, threshold}, keep);
  int wrong = 0;
  PhiloxKey key = philox_key(123456789012345);
  key.word[1] ^= 2;
  for (int u = 0; u < 40; ++u)
    for (int lane = 0; lane < 16; ++lane) {
      const auto words = philox4x32({static_cast<std::uint32_t>((32 + u) * 2 + lane / 8), 3, 5 + (1u << 20), 9}, key);
      const std::uint32_t bits = (words[lane % 8 / 2] >> (lane % 2 * 16)) & 0xffff;
      wrong += ((keep[u] >> lane) & 1) != (bits < threshold ? 1 : 0);
    }
  check(wrong == 0, table.name, "dropout masks", wrong, 0);
}

// Finite differences of a whole training step's loss along its own gradient, and 1 thread against 3, which share the
// lane blocks or, if `split_units`, the units.
void check_step(InputCoding coding, const char* title, int hidden, int batch, bool split_units,
                Arithmetic arithmetic = Arithmetic::fp32) {
  // The slope is that of the loss in floats: rounded products have none.
  const double bound = arithmetic == Arithmetic::bf16 ? 5e-3 : 2e-3;
  const ModelSpec spec{11, 2, hidden, coding, coding == InputCoding::embedding ? 6 : 0, 0.25f, 5};
  const int steps = 6;
  const KernelTable& kernels = choose_kernels();
  const Partition partition =
      make_partition(3, (batch + kLanes - 1) / kLanes, hidden, kernels.tile_rows, kernels.tile_blocks);
  check(partition.threads == 3 && partition.split_units == split_units, title, "three threads have work",
        partition.threads, 3);
  std::vector<std::int32_t> ids((steps + 1) * batch);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>(philox4x32({static_cast<std::uint32_t>(i), 9, 0, 0}, philox_key(1))[0] % 11);
  const std::atomic<bool> stop{false};
  const Batch shape{ids.data(), steps, batch, Target::every, false};
  CpuBackend one(spec, 1, TeamTuner::Mode::fixed, kernels, WeightForm::fp32, arithmetic);
  CpuBackend three(spec, 3, TeamTuner::Mode::fixed, kernels, WeightForm::fp32, arithmetic);
  std::vector<float> parameters(one.layout().size());
  initialize(spec, one.layout(), parameters.data());
  one.write(Slot::parameters, parameters.data(), parameters.size());
  three.write(Slot::parameters, parameters.data(), parameters.size());
  one.train_step(shape, {1e-3}, stop);
  three.train_step(shape, {1e-3}, stop);
  std::vector<float> gradient(parameters.size()), other(parameters.size());
  one.read(Slot::gradients, gradient.data());
  three.read(Slot::gradients, other.data());
  check(std::memcmp(gradient.data(), other.data(), gradient.size() * sizeof(float)) == 0, title,
        "1 and 3 threads agree", 0, 0);

  double squares = 0;
  for (float g : gradient) squares += static_cast<double>(g) * g;
  const double norm = std::sqrt(squares), distance = 2e-2;
  std::vector<float> losses(static_cast<std::size_t>(steps) * batch);
  const auto loss_at = [&](double along) {
    std::vector<float> moved(parameters);
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += static_cast<float>(along * gradient[i] / norm);
    one.write(Slot::parameters, moved.data(), moved.size());
    one.evaluate(shape, true, 0, losses.data(), stop);
    double total = 0;
    for (float value : losses) total += value;
    return total / static_cast<double>(losses.size());
  };
  const double slope = (loss_at(distance) - loss_at(-distance)) / (2 * distance);
  const double off = std::fabs(slope / norm - 1);
  check(off < bound, title, arithmetic == Arithmetic::bf16 ? "slope, in bfloat16" : "slope along the gradient", off,
        bound);
}

// Streams fed many ticks at once on three threads, and tick by tick on one, give the same logits and state, bit for
// bit. A few streams run as matrix-vector products, many in lane blocks.
void check_streams(InputCoding coding, const char* title) {
  const ModelSpec spec{11, 3, 149, coding, coding == InputCoding::embedding ? 6 : 0, 0.25f, 5};
  const int steps = 70;  // more than one run of kSequenceSteps
  CpuBackend one(spec, 1), three(spec, 3, TeamTuner::Mode::fixed);
  std::vector<float> parameters(one.layout().size());
  initialize(spec, one.layout(), parameters.data());
  one.write(Slot::parameters, parameters.data(), parameters.size());
  three.write(Slot::parameters, parameters.data(), parameters.size());
  for (const int streams : {1, 2, 21}) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(steps) * streams);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(philox4x32({static_cast<std::uint32_t>(i), 8, 0, 0}, philox_key(1))[0] % 11);
    std::vector<float> expected(static_cast<std::size_t>(streams) * spec.vocabulary), found(expected.size());
    one.reset_stream_state(streams);
    three.reset_stream_state(streams);
    for (int step = 0; step < steps; ++step)
      one.next_logits(ids.data() + static_cast<std::size_t>(step) * streams, 1, streams, expected.data());
    three.next_logits(ids.data(), steps, streams, found.data());
    std::vector<float> state(one.slot_size(Slot::stream_state)), other(three.slot_size(Slot::stream_state));
    one.read(Slot::stream_state, state.data());
    three.read(Slot::stream_state, other.data());
    const bool same = expected == found && state == other && expected[0] != 0;
    check(same, title, "streams at once and by ticks", streams, 0);
  }
}

// With CUDNN_LSTM_GUARD_PAGES, a read past the guarded border of a buffer ends the process, and a read inside it does
// not: otherwise the sweep would show nothing.
void check_guard() {
#if defined(CUDNN_LSTM_MAPPED_BUFFERS)
  const char* guard = std::getenv("CUDNN_LSTM_GUARD_PAGES");
  const std::string where = guard == nullptr ? "none" : guard;
  if (where != "end" && where != "begin") return;
  int wrong = 0;
  for (const std::size_t size : {1, 7, 1023, 1024, 1025, 100'000}) {
    for (const bool outside : {false, true}) {
      const pid_t child = fork();
      if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);  // or a sanitizer's report would end it differently
        AlignedBuffer<float> buffer;
        buffer.resize(size);
        const volatile float* data = buffer.data();
        const float sum = data[0] + data[size - 1];
        _exit(static_cast<int>(sum + (outside ? where == "end" ? data[size] : data[-1] : 0.0f)));
      }
      int status = 0;
      waitpid(child, &status, 0);
      wrong += outside == (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ? 0 : 1;
    }
  }
  check(wrong == 0, "-", "guard pages", wrong, 0);
#endif
}

// ---- The stop flag: what a thread computes between two looks.

thread_local double work_since_look = 0;
thread_local double processor_at_look = 0;
std::mutex most_mutex;
int looks_until_stop = 0;  // 0: never
std::atomic<bool> stop_at_look{false};
double most_work = 0, most_milliseconds = 0;

// Processor time of this thread.
double processor_milliseconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
#else
  return 0;
#endif
}

const KernelTable* counted = nullptr;  // the table that the counting one calls

// Counts a kernel's elements, each of which takes at most as long as `each` multiply-adds of a product.
void count_work(double elements, double each) { work_since_look += elements * each; }

std::atomic<bool> stop_at_update{false};  // the call's stop flag, set by the first piece of its update
bool stopping_at_update = false;

// A table that counts what the other computes. The matrix of a matrix-vector product comes from memory.
KernelTable counting_table() {
  KernelTable table = *counted;
  table.tile_products = [](TileProduct<float> product, int tiles, int rows) {
    count_work(static_cast<double>(tiles) * counted->tile_rows * product.depth * product.blocks * kLanes, 1);
    counted->tile_products(product, tiles, rows);
  };
  table.gradient_tile = [](const GradientTile<float, TileRows>& tile) {
    count_work(static_cast<double>(tile.pairs) * kLanes * counted->tile_rows * counted->panel_width, 1);
    counted->gradient_tile(tile);
  };
  // Emulated, a product of two pairs takes as long as three of floats.
  table.bf16_products = [](TileProduct<Bf16Pair> product, int tiles, int rows) {
    count_work(static_cast<double>(tiles) * counted->tile_rows * product.depth * product.blocks * kLanes, 3);
    counted->bf16_products(product, tiles, rows);
  };
  table.bf16_gradient_tile = [](const GradientTile<Bf16Pair, Bf16TileRows>& tile) {
    count_work(static_cast<double>(tile.pairs) * kLanePairs * counted->tile_rows * counted->panel_width, 3);
    counted->bf16_gradient_tile(tile);
  };
  table.round_rows = [](const float* x, int depth, int width, Bf16Pair* out) {
    count_work(static_cast<double>(depth) * width, 8);
    counted->round_rows(x, depth, width, out);
  };
  table.round_tile = [](TileRows x, int rows, Bf16Pair* out) {
    count_work(static_cast<double>(rows) * kLanes, 8);
    counted->round_tile(x, rows, out);
  };
  table.transpose_block = [](SquareRows in, SquareTarget out) {
    count_work(kLanes * kLanes, 16);
    counted->transpose_block(in, out);
  };
  table.gate_forward = [](const GateForward& stage) {
    count_work(stage.units * kLanes, 100);
    counted->gate_forward(stage);
  };
  table.gate_backward = [](const GateBackward& stage) {
    count_work(stage.units * kLanes, 100);
    counted->gate_backward(stage);
  };
  table.dropout_mask = [](const DropoutMask& mask, std::uint16_t* keep) {
    count_work(mask.units * kLanes, 50);
    counted->dropout_mask(mask, keep);
  };
  table.softmax_loss = [](float* logits, int rows, const std::int32_t* targets, int lanes, float scale, bool gradient,
                          float* loss) {
    count_work(static_cast<double>(rows) * kLanes, 32);
    counted->softmax_loss(logits, rows, targets, lanes, scale, gradient, loss);
  };
  table.matrix_vector = [](MatrixPanels<float> a, int panels, int depth, const float* x, ConstPanelRows initial,
                           PanelRows out) {
    count_work(static_cast<double>(panels) * kPanelRows * depth, 8);
    counted->matrix_vector(a, panels, depth, x, initial, out);
  };
  table.sum_of_squares = [](const float* x, std::size_t count) {
    count_work(static_cast<double>(count), 16);
    return counted->sum_of_squares(x, count);
  };
  table.update = [](const UpdateConstants& constants, float scale, const float* g, float* first, float* second,
                    float* p, std::size_t count) {
    count_work(static_cast<double>(count), 64);
    counted->update(constants, scale, g, first, second, p, count);
    if (stopping_at_update) stop_at_update = true;
  };
  table.sum_rows = [](const TileRows* dy, const float* const* x, int pairs, int rows, float* sums, float* scaled) {
    count_work(static_cast<double>(pairs) * rows * kLanes, 16);
    counted->sum_rows(dy, x, pairs, rows, sums, scaled);
  };
  return table;
}

// Models and batches so large in one dimension that a piece of work that grew with it would be found. A few steps are
// enough: what lies between two looks does not depend on their number.
void check_looks(const KernelTable& kernels) {
  struct Shape {
    const char* what;
    ModelSpec spec;
    int batch;
    Target target = Target::every;
  };
  const Shape shapes[] = {
      {"hidden 1024, batch 64", {96, 2, 1024, InputCoding::onehot, 0, 0.2f, 5}, 64},
      {"hidden 2048, batch 1", {50, 1, 2048, InputCoding::scalar, 0, 0, 5}, 1},
      {"batch 8192", {60, 1, 64, InputCoding::onehot, 0, 0.2f, 5}, 8192},
      {"batch 4096, embedded", {20, 2, 96, InputCoding::embedding, 64, 0, 5}, 4096},
      {"65,536 symbols", {65536, 1, 64, InputCoding::onehot, 0, 0, 5}, 17},
      {"embedding 4096", {30, 1, 32, InputCoding::embedding, 4096, 0, 5}, 33, Target::last},
  };
  counted = &kernels;
  const KernelTable counting = counting_table();
  const std::atomic<bool> stop{false};
  for (const Arithmetic arithmetic : {Arithmetic::fp32, Arithmetic::bf16})
    for (const Shape& shape : shapes) {
      const auto& [what, spec, batch, target] = shape;
      const int steps = 2;
      most_work = most_milliseconds = 0;
      CpuBackend backend(spec, 2, TeamTuner::Mode::fixed, counting, WeightForm::fp32, arithmetic);
      const std::vector<float> parameters = noise(backend.layout().size(), 4);
      backend.write(Slot::parameters, parameters.data(), parameters.size());
      std::vector<std::int32_t> ids(static_cast<std::size_t>(steps + 1) * batch);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        ids[i] = static_cast<std::int32_t>(i * 7919 % static_cast<std::size_t>(spec.vocabulary));
      }
      const Batch work{ids.data(), steps, batch, target, false};
      std::vector<float> losses(static_cast<std::size_t>(steps) * batch);
      std::vector<float> logits(2 * static_cast<std::size_t>(spec.vocabulary));
      // Scored and sampled from before it is trained, so that memory is given up and taken back, too.
      resumed();
      backend.evaluate(work, spec.dropout > 0, 1, losses.data(), stop);
      for (const int streams : {1, 2}) backend.next_logits(ids.data(), 1, streams, logits.data(), stop);
      backend.train_step(work, {1e-4}, stop);
      backend.train_step(work, {1e-4}, stop);
      looked();
      char title[80];
      std::snprintf(title, sizeof title, "between looks: %s%s", what, arithmetic == Arithmetic::bf16 ? ", bf16" : "");
      check(most_work > 0 && most_work <= kMostBetweenLooks, kernels.name, title, most_work, kMostBetweenLooks);
      std::printf("     %-9s the longest of these took %.1f ms of a thread's processor time\n", kernels.name,
                  most_milliseconds);
    }
}

// A step stopped in the middle of its update counts, and is completed when asked for: in pieces, by a read, or by the
// next step.
void check_cut_update(const KernelTable& kernels) {
  const ModelSpec spec{40, 2, 300, InputCoding::onehot, 0, 0.1f, 5};
  constexpr int kSteps = 3, kBatch = 8;
  counted = &kernels;
  const KernelTable counting = counting_table();
  std::vector<std::int32_t> ids((kSteps + 1) * kBatch);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 40);
  const Batch work{ids.data(), kSteps, kBatch, Target::every, true};
  const OptimizerStep optimizer{1e-2};
  const std::atomic<bool> never{false};
  for (const int threads : {1, 3}) {
    CpuBackend whole(spec, threads), cut(spec, threads, TeamTuner::Mode::random, counting);
    std::vector<float> parameters(whole.layout().size()), other(parameters.size());
    initialize(spec, whole.layout(), parameters.data());
    whole.write(Slot::parameters, parameters.data(), parameters.size());
    cut.write(Slot::parameters, parameters.data(), parameters.size());
    bool same = true;
    struct Step {
      bool stopped, looked_at;
    };
    for (const auto& [stopped, looked_at] : {Step{true, true}, Step{true, false}, Step{false, true}}) {
      whole.train_step(work, optimizer, never);
      stopping_at_update = stopped;
      stop_at_update = false;
      same = same && cut.train_step(work, optimizer, stop_at_update).applied && stop_at_update == stopped;
      stopping_at_update = false;
      if (!looked_at) continue;
      for (const Slot slot : {Slot::second_moments, Slot::parameters, Slot::training_state}) {
        whole.read(slot, parameters.data());
        const std::size_t size = cut.slot_size(slot);
        // From the end to the beginning, so as to ask for pieces that the step did not reach.
        constexpr std::size_t kPart = 100'000;
        if (slot == Slot::training_state) {
          cut.read(slot, other.data());
        } else {
          for (std::size_t end = size; end > 0; end -= std::min(end, kPart)) {
            const std::size_t begin = end - std::min(end, kPart);
            cut.read_range(slot, begin, end - begin, other.data() + begin);
          }
        }
        same = same &&
               std::equal(parameters.begin(), parameters.begin() + static_cast<std::ptrdiff_t>(size), other.begin());
      }
    }
    same = same && whole.step_count() == cut.step_count();
    check(same, kernels.name, "a step cut in its update", threads, 0);
  }
}

// A call stopped at its k-th look, whatever k, leaves the weights as they were, or one step later; so too for a large
// model, whose weights each of these calls moves from one form to another.
void check_stops() {
#if defined(__SANITIZE_THREAD__)
  const std::vector<int> thread_counts{3};  // one thread races with nobody
#else
  const std::vector<int> thread_counts{1, 3};
#endif
  const ModelSpec spec{50, 2, 400, InputCoding::onehot, 0, 0, 5};
  constexpr int kSteps = 2, kBatch = 20;
  std::vector<std::int32_t> ids((kSteps + 1) * kBatch);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 50);
  const Batch work{ids.data(), kSteps, kBatch, Target::every, false};
  for (const int threads : thread_counts) {
    CpuBackend backend(spec, threads, TeamTuner::Mode::random), other(spec, threads);
    std::vector<float> parameters(backend.layout().size()), found(parameters.size());
    initialize(spec, backend.layout(), parameters.data());
    backend.write(Slot::parameters, parameters.data(), parameters.size());
    other.write(Slot::parameters, parameters.data(), parameters.size());
    std::vector<float> losses(kSteps * kBatch), expected_losses(losses), logits(spec.vocabulary),
        expected_logits(logits);
    const std::atomic<bool> never{false};
    other.evaluate(work, false, 0, expected_losses.data(), never);
    other.reset_stream_state(1);
    other.next_logits(ids.data(), kSteps, 1, expected_logits.data(), never);
    int wrong = 0, stopped = 0;
    const auto stop_at = [&](int look) {
      stop_at_look = false;
      looks_until_stop = look;
    };
    for (int look = 1; look < 1200; look += 1 + look / 5) {
      for (const bool lanes : {true, false}) {
        stop_at(look);
        if (lanes) {
          backend.evaluate(work, false, 0, losses.data(), stop_at_look);
        } else {
          backend.reset_stream_state(1);
          backend.next_logits(ids.data(), kSteps, 1, logits.data(), stop_at_look);
        }
        stopped += stop_at_look ? 1 : 0;
        stop_at(0);
        backend.read(Slot::parameters, found.data());
        wrong += found == parameters ? 0 : 1;
      }
      if (look % 2 == 1) continue;  // if odd, the next call resumes where this one stopped
      backend.evaluate(work, false, 0, losses.data(), never);
      backend.reset_stream_state(1);
      backend.next_logits(ids.data(), kSteps, 1, logits.data(), never);
      wrong += losses == expected_losses && logits == expected_logits ? 0 : 1;
    }
    for (int look = 1; look < 4000; look += 1 + look / 5) {
      stop_at(look);
      const bool applied = backend.train_step(work, {1e-3}, stop_at_look).applied;
      stopped += stop_at_look ? 1 : 0;
      stop_at(0);
      if (applied) {
        other.train_step(work, {1e-3}, never);
        other.read(Slot::parameters, parameters.data());
      }
      backend.read(Slot::parameters, found.data());
      wrong += found == parameters ? 0 : 1;
    }
    check(wrong == 0 && stopped > 50, "-", "stopped at every kind of look", wrong, 0);
  }
}

// Ranks as threads of this process.
class ThreadRanks final : public Communicator {
 public:
  struct Shared {
    explicit Shared(int ranks) : size(ranks), parts(ranks) {}
    const int size;
    std::vector<std::vector<char>> parts;
    std::mutex mutex;
    std::condition_variable met;
    int arrived = 0, phase = 0;
  };
  ThreadRanks(Shared& shared, int rank) : shared_(shared), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return shared_.size; }
  int local_rank() const override { return rank_; }
  int local_size() const override { return shared_.size; }
  void sum(float* values, std::size_t count) override {
    std::vector<float> all(count * shared_.size);
    gather(values, count * sizeof(float), all.data());
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = 0;
      for (int rank = 0; rank < shared_.size; ++rank) values[i] += all[rank * count + i];
    }
  }
  void gather(const void* mine, std::size_t bytes, void* all) override {
    const char* const begin = static_cast<const char*>(mine);
    shared_.parts[rank_].assign(begin, begin + bytes);
    barrier();
    for (int rank = 0; rank < shared_.size; ++rank) {
      std::memcpy(static_cast<char*>(all) + rank * bytes, shared_.parts[rank].data(), bytes);
    }
    barrier();
  }
  void broadcast(void*, std::size_t) override { std::abort(); }
  void barrier() override {
    std::unique_lock<std::mutex> lock(shared_.mutex);
    const int phase = shared_.phase;
    if (++shared_.arrived == shared_.size) {
      shared_.arrived = 0;
      ++shared_.phase;
      shared_.met.notify_all();
    }
    shared_.met.wait(lock, [&] { return shared_.phase != phase; });
  }
  bool finish() override { return true; }
  [[noreturn]] void abort(int) override { std::abort(); }

 private:
  Shared& shared_;
  const int rank_;
};

// One of two ranks is asked to stop, at the k-th look of either, whatever k: both do the same number of steps and have
// the same model, which a step that was given up leaves as it was.
void check_shared_stops() {
  const ModelSpec spec{50, 2, 70, InputCoding::embedding, 9, 0.2f, 5};
  constexpr int kSteps = 2, kCount = 2;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(kCount) * (kSteps + 1) * 32);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 50);
  const std::atomic<bool> never{false};
  for (const int threads : {1, 3}) {
    for (const int all : {20, 16}) {  // of 16, the other rank has none
      std::vector<std::unique_ptr<CpuBackend>> backends;
      std::vector<float> parameters[2];
      for (int rank = 0; rank < 2; ++rank) {
        backends.push_back(std::make_unique<CpuBackend>(spec, threads, TeamTuner::Mode::random));
        parameters[rank].resize(backends[rank]->layout().size());
        initialize(spec, backends[rank]->layout(), parameters[rank].data());
        backends[rank]->write(Slot::parameters, parameters[rank].data(), parameters[rank].size());
      }
      int wrong = 0, given_up = 0, whole = 0;
      for (int look = 1; look < 3000; look += 1 + look / 8) {
        for (const int stopping : {0, 1}) {
          const std::vector<float> before = parameters[0];
          ThreadRanks::Shared shared(2);
          int done[2] = {0, 0};
          StepResult results[2][kCount] = {};
          stop_at_look = false;
          looks_until_stop = look;
          const auto train = [&](int rank) {
            ThreadRanks ranks(shared, rank);
            const int first = 16 * rank, batch = rank == 0 ? 16 : all - 16;
            const Batch work{ids.data(), kSteps, batch, Target::every, true, &ranks, first, all};
            const std::vector<OptimizerStep> optimizers(kCount, OptimizerStep{1e-3});
            resumed();
            done[rank] = backends[rank]->train_steps(work, optimizers.data(), kCount, results[rank],
                                                     rank == stopping ? stop_at_look : never);
          };
          std::thread other(train, 1);
          train(0);
          other.join();
          looks_until_stop = 0;
          for (int rank = 0; rank < 2; ++rank) backends[rank]->read(Slot::parameters, parameters[rank].data());
          wrong += done[0] != done[1] || parameters[0] != parameters[1] ? 1 : 0;
          wrong += backends[0]->step_count() != backends[1]->step_count() ? 1 : 0;
          wrong += (done[0] == 0) != (parameters[0] == before) ? 1 : 0;
          for (int rank = 0; rank < 2; ++rank) {
            wrong += done[rank] < kCount && !results[rank][done[rank]].stopped ? 1 : 0;
          }
          given_up += done[0] < kCount ? 1 : 0;
          whole += done[0] == kCount ? 1 : 0;
        }
      }
      check(wrong == 0 && given_up > 20 && whole > 0, "-", "a rank stopped at every look", wrong, 0);
    }
  }
}

// ---- Weights in 8 and 16 bits.

// The kernels against the plain sums that they stand for, in double; and what is packed reads back unchanged.
void check_narrow(const KernelTable& table) {
  double worst = 0;
  bool same = true, at_bounds = true;
  for (const int rows : {1, 3, 63, 64, 65, 128, 200}) {
    for (const int depth : {1, 2, 7, 16, 65, 256, 300}) {
      std::vector<float> weights(static_cast<std::size_t>(rows) * depth), x(depth);
      for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i * i % 997)) * 3;
      for (int k = 0; k < depth; ++k) x[k] = std::cos(static_cast<float>(k));
      if (rows > 3) std::fill_n(weights.begin() + 2 * static_cast<std::ptrdiff_t>(depth), depth, 0.0f);
      for (const WeightForm form : {WeightForm::bf16, WeightForm::int8}) {
        std::vector<float> rounded(weights);
        for (int r = 0; r < rows; ++r) {
          float largest = 0;
          for (int k = 0; k < depth; ++k)
            largest = std::max(largest, std::fabs(weights[static_cast<std::size_t>(r) * depth + k]));
          const float scale = byte_scale(largest);
          for (int k = 0; k < depth; ++k) {
            float& value = rounded[static_cast<std::size_t>(r) * depth + k];
            value = form == WeightForm::bf16 ? from_bf16(to_bf16(value))
                                             : static_cast<float>(to_byte(value, scale)) * scale;
            // Half a step, and what rounding the scale up adds to it.
            const float most = form == WeightForm::bf16 ? std::fabs(value) / 256 : scale * 0.502f;
            at_bounds = at_bounds && std::fabs(value - weights[static_cast<std::size_t>(r) * depth + k]) <= most;
          }
        }
        PanelMatrix matrix;
        matrix.shape(rows, depth, form);
        for (int part = 0; part < 3; ++part) matrix.pack(rounded.data(), 0, part, 3);
        std::vector<float> back(depth);
        PanelVectors vectors(rows);
        vectors.ensure(2);
        float* const initial = vectors.vector(0);
        for (int r = 0; r < rows; ++r) initial[r] = static_cast<float>(r) / 100;
        matrix.multiply(table, 0, (rows + kPanelRows - 1) / kPanelRows, x.data(), vectors.rows(0), vectors.rows(1));
        const float* const out = vectors.vector(1);
        for (int r = 0; r < rows; ++r) {
          matrix.read(r, 0, depth, back.data());
          double sum = initial[r], size = std::fabs(initial[r]);
          for (int k = 0; k < depth; ++k) {
            const float value = rounded[static_cast<std::size_t>(r) * depth + k];
            same = same && back[k] == value;
            sum += static_cast<double>(value) * x[k];
            size += std::fabs(static_cast<double>(value) * x[k]);
          }
          worst = std::fmax(worst, std::fabs(out[r] - sum) / std::fmax(size, 1e-3));
        }
      }
    }
  }
  check(worst < 1e-5, table.name, "narrow products", worst, 1e-5);
  check(same, table.name, "narrow weights come back", same ? 0 : 1, 0);
  check(at_bounds, table.name, "narrow weights are near", at_bounds ? 0 : 1, 0);
}

// Models with rounded weights against the same weights in floats: one stream, two, and many.
void check_narrow_model(InputCoding coding, const char* name) {
  const ModelSpec spec{37, 2, 45, coding, coding == InputCoding::embedding ? 9 : 0, 0, 5};
  CpuBackend plain(spec, 2);
  std::vector<float> parameters(plain.layout().size());
  initialize(spec, plain.layout(), parameters.data());
  for (const WeightForm form : {WeightForm::bf16, WeightForm::int8}) {
    for (const Parameter& parameter : plain.layout().parameters()) {
      if (parameter.shape.size() != 2) continue;
      const int depth = parameter.shape[1];
      for (int r = 0; r < parameter.shape[0]; ++r) {
        float* row = parameters.data() + parameter.offset + static_cast<std::size_t>(r) * depth;
        float largest = 0;
        for (int k = 0; k < depth; ++k) largest = std::max(largest, std::fabs(row[k]));
        const float scale = byte_scale(largest);
        for (int k = 0; k < depth; ++k)
          row[k] = form == WeightForm::bf16 ? from_bf16(to_bf16(row[k]))
                                            : static_cast<float>(to_byte(row[k], scale)) * scale;
      }
    }
    CpuBackend narrow(spec, 2, TeamTuner::Mode::adapt, choose_kernels(), form);
    plain.write(Slot::parameters, parameters.data(), parameters.size());
    narrow.write(Slot::parameters, parameters.data(), parameters.size());
    std::vector<std::int32_t> ids(5 * 20);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * i % 37);
    double worst = 0;
    for (const int streams : {1, 2, 5}) {
      std::vector<float> wanted(streams * 37), found(streams * 37);
      plain.reset_stream_state(streams);
      narrow.reset_stream_state(streams);
      plain.next_logits(ids.data(), 20, streams, wanted.data());
      narrow.next_logits(ids.data(), 20, streams, found.data());
      for (std::size_t i = 0; i < wanted.size(); ++i) worst = std::fmax(worst, std::fabs(wanted[i] - found[i]));
    }
    check(worst < 2e-5, name, form == WeightForm::bf16 ? "bf16 model" : "int8 model", worst, 2e-5);
  }
}

// ---- The sweep: sizes around every tile, block and panel; training, scoring a batch and 1 to 70 sequences, and
// sampling with as many streams. With CUDNN_LSTM_GUARD_PAGES (scripts/selftest.sh), a read past the end of any buffer,
// or before its beginning, is a fault, whatever the buffer's size; the losses must match those of the first table.

constexpr int kHiddenSizes[] = {1, 2, 3, 4, 5, 7, 8, 11, 12, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97};
constexpr int kBatchSizes[] = {1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 47, 49, 65};
constexpr int kLengths[] = {1, 2, 3, 5, 7, 16, 17, 21};
constexpr int kThreadCounts[] = {1, 2, 3, 5};

struct SweptShape {
  ModelSpec spec;
  int steps, batch, threads, streams;
  Target target;
};

char at_work[160] = "nothing";  // for the fault message

void report_fault(int) {
  const char* const parts[] = {"FAIL a fault at ", at_work, "\n"};
  for (const char* part : parts) std::fputs(part, stdout);
  std::fflush(stdout);
  std::_Exit(1);
}

SweptShape swept_shape(int vocabulary, std::uint32_t round) {
  const auto words = philox4x32({static_cast<std::uint32_t>(vocabulary), round, 77, 0}, philox_key(3));
  const auto more = philox4x32({static_cast<std::uint32_t>(vocabulary), round, 78, 0}, philox_key(3));
  const auto pick = [](std::uint32_t word, const auto& values) { return values[word % std::size(values)]; };
  const InputCoding codings[] = {InputCoding::scalar, InputCoding::onehot, InputCoding::embedding};
  SweptShape shape{};
  const InputCoding coding = pick(words[0], codings);
  const int embedding = coding == InputCoding::embedding ? 1 + static_cast<int>(words[1] % 40) : 0;
  const int layers = 1 + static_cast<int>(words[2] % 3);
  shape.spec =
      ModelSpec{vocabulary, layers, pick(words[3], kHiddenSizes), coding, embedding, words[2] & 8 ? 0.3f : 0, 5};
  if (more[3] & 2) shape.spec.reset_symbol = 1;
  shape.steps = pick(more[0], kLengths);
  shape.batch = pick(more[1], kBatchSizes);
  shape.threads = pick(more[2], kThreadCounts);
  shape.streams = 1 + static_cast<int>((vocabulary + round * 7) % 70);
  shape.target = more[3] & 1 ? Target::every : Target::last;
  return shape;
}

struct SweptValues {
  std::vector<double> floats;   // within rounding of one another on all tables
  double bf16_loss, bf16_norm;  // of a step in bfloat16: distance from the same in floats, relative for the norm
};

// What fresh weights give: the losses of an evaluation, the logits of streams, the loss and norm of a training step. A
// second step, whose weights depend on the signs of gradients that may be rounding errors, tests only memory accesses.
SweptValues run_shape(const SweptShape& shape) {
  const auto& [spec, steps, batch, threads, streams, target] = shape;
  CpuBackend backend(spec, threads, TeamTuner::Mode::fixed);
  std::vector<float> parameters(backend.layout().size());
  initialize(spec, backend.layout(), parameters.data());
  backend.write(Slot::parameters, parameters.data(), parameters.size());
  std::vector<std::int32_t> ids(static_cast<std::size_t>(steps + 1) * std::max(batch, streams));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto words = philox4x32({static_cast<std::uint32_t>(i), 6, 0, 0}, philox_key(1));
    ids[i] = static_cast<std::int32_t>(words[0] % static_cast<std::uint32_t>(spec.vocabulary));
  }
  const std::atomic<bool> stop{false};
  const Batch work{ids.data(), steps, batch, target, true};
  std::vector<float> losses(static_cast<std::size_t>(target == Target::every ? steps : 1) * batch);
  backend.evaluate(work, spec.dropout > 0, 1, losses.data(), stop);
  std::vector<float> logits(static_cast<std::size_t>(streams) * spec.vocabulary);
  backend.reset_stream_state(streams);
  backend.next_logits(ids.data(), steps, streams, logits.data());
  std::vector<float> stream_losses(static_cast<std::size_t>(steps) * streams);
  backend.evaluate({ids.data(), steps, streams, Target::every, false}, false, 0, stream_losses.data(), stop);
  // What is drawn depends on the last bit of a logit: only memory accesses are tested.
  std::vector<SampleStream> rules(streams);
  for (int s = 0; s < streams; ++s) {
    SamplingOptions& options = rules[s].options;
    if (s % 4 == 1) options.top_k = 3;
    if (s % 4 == 2) options.top_p = 0.9;
    if (s % 4 == 3) options.typical_p = 0.9;
    if (s % 3 == 1) options.repetition_penalty = 1.2;
  }
  std::vector<std::int32_t> drawn(static_cast<std::size_t>(streams) * 2);
  backend.reset_stream_state(streams);
  sample(backend, {ids.data(), steps, streams, 2, 0, rules.data()}, drawn.data(), stop);
  const StepResult step = backend.train_step(work, {1e-3}, stop);
  backend.train_step(work, {1e-3}, stop);
  std::vector<double> values(losses.begin(), losses.end());
  values.insert(values.end(), logits.begin(), logits.end());
  values.insert(values.end(), stream_losses.begin(), stream_losses.end());
  values.insert(values.end(), {step.loss, step.gradient_norm});
  CpuBackend rounding(spec, threads, TeamTuner::Mode::fixed, choose_kernels(), WeightForm::fp32, Arithmetic::bf16);
  rounding.write(Slot::parameters, parameters.data(), parameters.size());
  const StepResult rounded_step = rounding.train_step(work, {1e-3}, stop);
  rounding.train_step(work, {1e-3}, stop);
  rounding.evaluate(work, spec.dropout > 0, 1, losses.data(), stop);
  return {values, std::fabs(rounded_step.loss - step.loss),
          std::fabs(rounded_step.gradient_norm / step.gradient_norm - 1)};
}

// The largest distance of `values` from the first table's, relative where they are large; infinite if one is NaN.
double largest_distance(const std::vector<double>& values, const std::vector<double>& first) {
  double apart = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double each = std::fabs(values[i] - first[i]) / std::fmax(1, std::fabs(first[i]));
    apart = std::isnan(each) ? INFINITY : std::fmax(apart, each);
  }
  return apart;
}

// Where tiles, panels, blocks and bytes end: swept whatever the stride.
constexpr int kBoundaries[] = {15,  16,  17,  31,  32,  33,  61,  62,  63,  64, 65,
                               127, 128, 129, 253, 254, 255, 256, 257, 512, 513};

void sweep(int rounds, int stride, int first_round) {
  std::signal(SIGSEGV, report_fault);
#if defined(SIGBUS)
  std::signal(SIGBUS, report_fault);
#endif
  const auto start = std::chrono::steady_clock::now();
  const std::vector<const KernelTable*> tables = supported_kernels();
  int shapes = 0;
  double worst = 0, worst_loss = 0, worst_norm = 0;
  for (int vocabulary = 2; vocabulary <= 600; ++vocabulary) {
    const bool at_boundary =
        std::find(std::begin(kBoundaries), std::end(kBoundaries), vocabulary) != std::end(kBoundaries);
    if (!at_boundary && (vocabulary - 2) % stride != 0) continue;
    for (int round = first_round; round < first_round + rounds; ++round) {
      const SweptShape shape = swept_shape(vocabulary, static_cast<std::uint32_t>(round));
      std::vector<double> first;
      for (const KernelTable* table : tables) {
        std::snprintf(at_work, sizeof at_work, "%s: V %d, hidden %d, layers %d, batch %d, T %d, threads %d, streams %d",
                      table->name, vocabulary, shape.spec.hidden, shape.spec.layers, shape.batch, shape.steps,
                      shape.threads, shape.streams);
        setenv("CUDNN_LSTM_CPU_ISA", table->name, 1);
        const SweptValues values = run_shape(shape);
        if (table == tables.front()) first = values.floats;
        const double apart = largest_distance(values.floats, first);
        worst_loss = std::isnan(values.bf16_loss) ? INFINITY : std::fmax(worst_loss, values.bf16_loss);
        worst_norm = std::isnan(values.bf16_norm) ? INFINITY : std::fmax(worst_norm, values.bf16_norm);
        if (apart > 1e-4) std::printf("FAIL %s: %.3g from %s\n", at_work, apart, tables.front()->name);
        worst = std::fmax(worst, apart);
      }
      ++shapes;
    }
  }
  unsetenv("CUDNN_LSTM_CPU_ISA");
  std::string names;
  for (const KernelTable* table : tables) names += std::string(names.empty() ? "" : ", ") + table->name;
  check(worst <= 1e-4, "sweep", "tables agree", worst, 1e-4);
  check(worst_loss <= 1e-2, "sweep", "bfloat16: nats from floats", worst_loss, 1e-2);
  check(worst_norm <= 6e-2, "sweep", "bfloat16: norm from floats'", worst_norm, 6e-2);
  std::printf("swept %d shapes on each of: %s; 0 faults; %.0f s\n", shapes, names.c_str(),
              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

// ---- The parts.

void check_kernels() {
  check_philox();
  check_guard();
  for (const KernelTable* table : supported_kernels()) {
    check_gates(*table);
    check_products(*table);
    check_rounding(*table);
    check_bf16_products(*table);
    check_masks(*table);
    check_narrow(*table);
  }
}

void check_models() {
  check_narrow_model(InputCoding::scalar, "scalar");
  check_narrow_model(InputCoding::onehot, "onehot");
  check_narrow_model(InputCoding::embedding, "embedding");
  // The gate rows of 160 units end where their padding does: with guard pages, a read past them is a fault.
  for (const int hidden : {37, 149, 160}) {
    const bool split_units = hidden > 100;
    const int batch = split_units ? 21 : 45;
    check_step(InputCoding::scalar, "scalar", hidden, batch, split_units);
    check_step(InputCoding::onehot, "onehot", hidden, batch, split_units);
    check_step(InputCoding::embedding, "embedding", hidden, batch, split_units);
    for (const auto& [coding, title] :
         {std::pair{InputCoding::scalar, "scalar"}, std::pair{InputCoding::onehot, "onehot"},
          std::pair{InputCoding::embedding, "embedding"}}) {
      check_step(coding, title, hidden, batch, split_units, Arithmetic::bf16);
    }
  }
  check_streams(InputCoding::scalar, "scalar");
  check_streams(InputCoding::onehot, "onehot");
  check_streams(InputCoding::embedding, "embedding");
}

void check_all_stops() {
  check_cut_update(*supported_kernels().front());
  check_stops();
  check_shared_stops();
}

void check_all_looks() { check_looks(*supported_kernels().front()); }

}  // namespace

void looked() {
  const double milliseconds = processor_milliseconds() - processor_at_look;
  {
    std::lock_guard<std::mutex> lock(most_mutex);
    most_work = std::fmax(most_work, work_since_look);
    most_milliseconds = std::fmax(most_milliseconds, milliseconds);
    if (looks_until_stop > 0 && --looks_until_stop == 0) stop_at_look = true;
  }
  resumed();
}

void resumed() {
  work_since_look = 0;
  processor_at_look = processor_milliseconds();
}

}  // namespace cudnn_lstm::cpu

int main(int count, char** arguments) {  // NOLINT(bugprone-exception-escape): a test that throws has failed
  using namespace cudnn_lstm;
  using namespace cudnn_lstm::cpu;
  const std::vector<std::string> given(arguments + 1, arguments + count);
  if (!given.empty() && given[0] == "sweep") {
    const auto number = [&](std::size_t at, int otherwise) {
      return given.size() > at ? std::atoi(given[at].c_str()) : otherwise;
    };
    sweep(number(1, 1), std::max(1, number(2, 1)), number(3, 0));
  } else {
    const std::pair<const char*, void (*)()> parts[] = {{"kernels", check_kernels}, {"models", check_models},
                                                        {"teams", check_teams},     {"tuner", check_tuner},
                                                        {"stops", check_all_stops}, {"looks", check_all_looks}};
    for (const std::string& name : given) {
      if (std::none_of(std::begin(parts), std::end(parts), [&](const auto& part) { return name == part.first; })) {
        std::fprintf(stderr, "no part is called '%s'\n", name.c_str());
        return 2;
      }
    }
    for (const auto& [name, run] : parts) {
      if (given.empty() || std::find(given.begin(), given.end(), name) != given.end()) run();
    }
  }
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
