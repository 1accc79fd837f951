// The kernels' arithmetic on the host: the row bodies shared by 32 lanes in lockstep, as a
// warp shares them, against plain loops.
#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "check.h"
#include "core/random.h"
#include "core/sampler.h"
#include "cuda/draw.h"

using namespace cudnn_lstm;
using namespace cudnn_lstm::cuda;

namespace {

constexpr int kLanes = 32;

// A warp of threads: every collective is a rendezvous, as __shfl_sync and __ballot_sync are.
class Warp {
 public:
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int turn = turn_;
    if (++arrived_ == kLanes) {
      arrived_ = 0;
      ++turn_;
      all_.notify_all();
    } else {
      all_.wait(lock, [&] { return turn_ != turn; });
    }
  }
  std::array<double, kLanes> slots{};

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  int arrived_ = 0, turn_ = 0;
};

struct ThreadLanes {
  Warp* warp;
  int lane;
  int index() const { return lane; }
  int count() const { return kLanes; }
  template <class Combine>
  double combine(double value, Combine combine_two) const {
    warp->slots[lane] = value;
    warp->wait();
    double result = warp->slots[0];
    for (int i = 1; i < kLanes; ++i) result = combine_two(result, warp->slots[i]);
    warp->wait();
    return result;
  }
  float sum(float value) const {
    return static_cast<float>(combine(value, [](double a, double b) { return a + b; }));
  }
  double sum(double value) const {
    return combine(value, [](double a, double b) { return a + b; });
  }
  float max(float value) const {
    return static_cast<float>(combine(value, [](double a, double b) { return a > b ? a : b; }));
  }
  std::uint64_t sum(std::uint64_t value) const {  // 32 bits at a time: a double holds 53
    const auto low = static_cast<std::uint64_t>(sum(static_cast<double>(value & 0xffffffffu)));
    return low + (static_cast<std::uint64_t>(sum(static_cast<double>(value >> 32))) << 32);
  }
  std::uint32_t ballot(bool flag) const {
    return static_cast<std::uint32_t>(
        combine(flag ? std::ldexp(1.0, lane) : 0.0, [](double a, double b) { return a + b; }));
  }
  void barrier() const { warp->wait(); }
};

template <class Body>
void run_rows(std::size_t rows, const Body& body) {
  Warp warp;
  std::vector<std::thread> lanes;
  for (int lane = 0; lane < kLanes; ++lane) {
    lanes.emplace_back([&, lane] {
      for (std::size_t row = 0; row < rows; ++row) body(row, ThreadLanes{&warp, lane});
    });
  }
  for (std::thread& lane : lanes) lane.join();
}

std::vector<float> noise(std::size_t count, std::uint32_t stream) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = 2 * uniform01(philox4x32({static_cast<std::uint32_t>(i), stream, 0, 0}, philox_key(7))[0]) - 1;
  }
  return values;
}

void types_round_to_nearest() {
  begin_case("16-bit types");
  for (const float value : {0.0f, 1.0f, -2.5f, 65504.0f, 1e-7f, 3.14159265f}) {
    expect(to_float(from_float<Half>(value)) == __half2float(__float2half_rn(value)), "half");
    expect(std::fabs(to_float(from_float<BFloat16>(value)) - value) <= std::fabs(value) / 256, "bfloat16");
  }
  expect(std::isinf(to_float(from_float<Half>(70000.0f))), "half overflows to infinity");
}

// On both sides of 32 bits.
void places_of_indices() {
  begin_case("rows and columns of an index");
  const std::size_t edge = std::size_t{1} << 32;
  for (const int width : {1, 2, 47, 256, 65'535, 0x7fffffff}) {
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{46}, std::size_t{47}, edge - 1, edge, edge + 1,
                                7 * edge + 12'345, (std::size_t{1} << 45) + 3}) {
      const Place place = place_of(i, width);
      expect(place.row == i / static_cast<std::size_t>(width) &&
                 static_cast<std::size_t>(place.column) == i % static_cast<std::size_t>(width),
             std::to_string(i) + " by " + std::to_string(width));
    }
  }
}

// Any vocabulary around the width of a warp, in place, against double.
void softmax_in_lanes() {
  for (const int vocabulary : {1, 2, 31, 32, 33, 47, 100}) {
    begin_case("softmax and cross-entropy, V = " + std::to_string(vocabulary));
    const std::size_t rows = 5;
    auto logits = noise(rows * vocabulary, 1);
    for (float& value : logits) value *= 30;
    const auto original = logits;
    const auto bias = noise(vocabulary, 2);
    std::vector<std::int32_t> ids(2 * rows);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % vocabulary);
    Cursor cursor{};
    StepInput input{};
    input.loss_scale = 4;
    std::vector<float> losses(rows);
    const StepView view{&cursor, &input, ids.data(), ids.size()};
    run_rows(rows, SoftmaxLoss<float>{view, logits.data(), bias.data(), vocabulary, rows, static_cast<float>(rows),
                                      losses.data(), logits.data()});
    for (std::size_t row = 0; row < rows; ++row) {
      double highest = -INFINITY, total = 0;
      auto z = [&](int v) { return double{original[row * vocabulary + v]} + bias[v]; };
      for (int v = 0; v < vocabulary; ++v) highest = std::fmax(highest, z(v));
      for (int v = 0; v < vocabulary; ++v) total += std::exp(z(v) - highest);
      const int target = ids[rows + row];
      expect(std::fabs(losses[row] - (highest + std::log(total) - z(target))) < 1e-4, "loss");
      for (int v = 0; v < vocabulary; ++v) {
        const double expected = (std::exp(z(v) - highest) / total - (v == target)) * 4 / rows;
        expect(std::fabs(logits[row * vocabulary + v] - expected) < 1e-5, "gradient");
      }
    }
  }
}

void scatter_in_lanes() {
  for (const int embedding : {1, 6, 32, 40}) {
    begin_case("scatter-add of the embedding, E = " + std::to_string(embedding));
    const int vocabulary = 5;
    const std::size_t positions = 150, chunk = 64, chunks = 3;
    std::vector<std::int32_t> ids(positions);
    for (std::size_t i = 0; i < positions; ++i) ids[i] = static_cast<std::int32_t>(i * i % vocabulary);
    const auto dx = noise(positions * embedding, 3);
    Cursor cursor{};
    const StepView view{&cursor, nullptr, ids.data(), positions};
    std::vector<float> partials(chunks * vocabulary * embedding, NAN), table(vocabulary * embedding),
        expected(table.size());
    run_rows(chunks * vocabulary,
             ScatterEmbedding<float>{view, dx.data(), positions, chunk, vocabulary, embedding, partials.data()});
    const SumPartials sum{partials.data(), table.size(), chunks, table.data()};
    for (std::size_t i = 0; i < table.size(); ++i) sum(i);
    for (std::size_t i = 0; i < positions; ++i)
      for (int e = 0; e < embedding; ++e) expected[ids[i] * embedding + e] += dx[i * embedding + e];
    expect_close(expected, table, 1e-6, "table gradient");
  }
}

void sums_and_decision_in_lanes() {
  begin_case("norm, loss and the decision");
  const std::size_t count = 1000, chunk = 300, chunks = 4;
  const auto scaled = noise(count, 4);
  Cursor cursor{};
  StepInput input{};
  input.loss_scale = 8;
  input.clip = 0.5f;
  const StepView view{&cursor, &input, nullptr, 0};
  std::vector<float> gradients(count);
  std::vector<double> squares(chunks), losses(chunks);
  run_rows(chunks, UnscaleAndSquare<float>{view, scaled.data(), gradients.data(), count, count, chunk, squares.data()});
  run_rows(chunks, SumChunks{scaled.data(), count, chunk, losses.data()});
  StepOutput output{};
  run_rows(1, DecideStep{view, losses.data(), chunks, static_cast<double>(count), squares.data(), chunks, &output});
  // Where cuDNN's part is 16 bits apart, the rest is unscaled in place.
  {
    const std::size_t lstm = 611;  // amid a chunk
    std::vector<Half> half(lstm);
    std::vector<float> mixed(scaled);
    std::vector<double> partials(chunks);
    for (std::size_t i = 0; i < lstm; ++i) {
      half[i] = from_float<Half>(scaled[i]);
      mixed[i] = NAN;  // not to be read
    }
    run_rows(chunks, UnscaleAndSquare<Half>{view, half.data(), mixed.data(), lstm, count, chunk, partials.data()});
    for (std::size_t i = 0; i < count; ++i)
      expect(mixed[i] == (i < lstm ? to_float(half[i]) : scaled[i]) / 8, "value " + std::to_string(i));
    double mixed_sum = 0;
    for (const double partial : partials) mixed_sum += partial;
    double expected_sum = 0;
    for (const float value : mixed) expected_sum += double{value} * value;
    expect(std::fabs(mixed_sum - expected_sum) < 1e-9, "sum of squares");
  }
  // Rows of partial sums, around the width of a warp.
  for (const std::size_t many : {1, 31, 32, 33, 100}) {
    const std::size_t columns = 5;
    const auto values = noise(many * columns, 8);
    std::vector<float> sums(columns, NAN);
    run_rows(columns, SumPartialsOfRow{values.data(), columns, many, sums.data()});
    for (std::size_t v = 0; v < columns; ++v) {
      double expected_sum = 0;
      for (std::size_t row = 0; row < many; ++row) expected_sum += values[row * columns + v];
      expect(std::fabs(sums[v] - expected_sum) < 1e-5, "column sum");
    }
  }
  double square = 0, loss = 0;
  for (const float value : scaled) {
    square += double{value} / 8 * (double{value} / 8);
    loss += value;
  }
  expect(std::fabs(output.norm - std::sqrt(square)) < 1e-9, "norm");
  expect(std::fabs(output.loss - loss / count) < 1e-12, "loss");
  expect(output.applied == 1 && cursor.apply == 1 && cursor.halted == 0, "applied");
  expect(std::fabs(cursor.gradient_scale - 0.5 / std::sqrt(square)) < 1e-6, "clipping");
  for (const double poison : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    Cursor fresh{};
    const StepView other{&fresh, &input, nullptr, 0};
    squares[1] = poison;
    run_rows(1, DecideStep{other, losses.data(), chunks, static_cast<double>(count), squares.data(), chunks, &output});
    expect(output.applied == 0 && fresh.apply == 0 && fresh.halted == 1, "not applied");
  }
}

// In lanes, against the host's sampler, over its rules and odd logits: the same ids, every one.
void draws_in_lanes() {
  std::vector<SamplingOptions> rules(12);
  rules[0].greedy = true;
  rules[2].temperature = 0.3;
  rules[3].temperature = 2.5;
  rules[3].top_k = 7;
  rules[4].top_k = 1;
  rules[5].top_p = 0.6;
  rules[6].top_p = 1e-9;
  rules[7].min_p = 0.2;
  rules[8].temperature = 0.9;
  rules[8].top_k = 20;
  rules[8].top_p = 0.9;
  rules[8].min_p = 0.05;
  rules[9].top_k = 1'000'000;
  rules[9].min_p = 1;
  rules[10].typical_p = 0.7;
  rules[11].top_k = 30;
  rules[11].typical_p = 0.4;
  for (const int vocabulary : {1, 2, 31, 32, 33, 47, 200, 255, kMostDrawn}) {
    begin_case("draws, V = " + std::to_string(vocabulary));
    const std::size_t streams = 6;
    for (std::size_t rule = 0; rule < rules.size(); ++rule) {
      auto logits = noise(streams * vocabulary, static_cast<std::uint32_t>(rule));
      for (float& value : logits) value *= 6;
      for (int v = 0; v < vocabulary; ++v) logits[v] = static_cast<float>(v % 3);      // ties
      if (vocabulary > 2) logits[vocabulary + 1] = -INFINITY;                          // impossible ids
      if (vocabulary > 2) logits[2 * static_cast<std::size_t>(vocabulary) + 2] = 500;  // a certain one
      const std::vector<float> bias(vocabulary, 0.25f);
      Cursor cursor{};
      cursor.step = 9;
      std::vector<SamplingOptions> options(streams, rules[rule]);
      for (std::size_t s = 0; s < streams; ++s) {
        options[s].seed = rule;
        options[s].stream = static_cast<std::uint32_t>(s / 2);
        options[s].position = (std::uint64_t{3} << 32) + s;
      }
      std::vector<std::int32_t> ids(streams, -1), drawn(4 * streams, -1);
      std::vector<Weight> weights(logits.size(), 77);
      auto scratch = logits;
      run_rows(streams, Draw<float>{&cursor, options.data(), scratch.data(), bias.data(), vocabulary, streams, 4,
                                    weights.data(), ids.data(), drawn.data()});
      Sampler sampler(vocabulary);
      for (std::size_t s = 0; s < streams; ++s) {
        std::vector<float> row(vocabulary);
        for (int v = 0; v < vocabulary; ++v) row[v] = logits[s * vocabulary + v] + bias[v];
        const std::int32_t expected = sampler.draw(row.data(), options[s], nullptr, 0, draw_coin(options[s], 9));
        expect(ids[s] == expected, "rule " + std::to_string(rule) + ", stream " + std::to_string(s) + ": " +
                                       std::to_string(ids[s]) + ", not " + std::to_string(expected));
        expect(drawn[1 * streams + s] == expected, "the ring's row");  // 9 % 4
      }
      expect(drawn[0] == -1 && drawn[2 * streams] == -1, "other rows of the ring");
    }
    // Nothing but NaN still gives ids of the vocabulary.
    std::vector<float> nothing(streams * vocabulary, NAN), bias(vocabulary, 0.0f);
    std::vector<std::int32_t> ids(streams, -1), drawn(streams);
    std::vector<Weight> weights(nothing.size());
    Cursor cursor{};
    const std::vector<SamplingOptions> options(streams, rules[8]);
    run_rows(streams, Draw<float>{&cursor, options.data(), nothing.data(), bias.data(), vocabulary, streams, 1,
                                  weights.data(), ids.data(), drawn.data()});
    for (const std::int32_t id : ids) expect(id >= 0 && id < vocabulary, "an id out of range");
  }
}

void dropout_keeps_its_share() {
  begin_case("dropout's expectation, and the same mask back");
  const int batch = 37, hidden = 50, ticks = 6;
  Cursor cursor{};
  StepInput input{};
  input.mask_step = (std::uint64_t{5} << 32) | 17;
  const StepView view{&cursor, &input, nullptr, 0};
  std::vector<float> ones(static_cast<std::size_t>(ticks) * batch * hidden, 1.0f), dropped(ones.size(), NAN);
  const Dropout<float> forward{view, ones.data(), dropped.data(), batch, hidden, 3, 1, dropout_threshold(0.2f), 99};
  for (std::size_t i = 0; i < static_cast<std::size_t>(ticks) * 5 * hidden; ++i) forward(i);
  double sum = 0;
  for (const float value : dropped) {
    expect(value == 0 || std::fabs(value - 1.25f) < 1e-4, "a kept value is scaled");
    sum += value;
  }
  expect(std::fabs(sum / static_cast<double>(dropped.size()) - 1) < 0.03,
         "mean " + std::to_string(sum / dropped.size()));
  auto again = ones;
  const Dropout<float> backward{view, again.data(), again.data(), batch, hidden, 3, 1, dropout_threshold(0.2f), 99};
  for (std::size_t i = 0; i < static_cast<std::size_t>(ticks) * 5 * hidden; ++i) backward(i);
  expect(again == dropped, "in place, the same mask");
}

}  // namespace

int main() {
  types_round_to_nearest();
  places_of_indices();
  softmax_in_lanes();
  scatter_in_lanes();
  sums_and_decision_in_lanes();
  draws_in_lanes();
  dropout_keeps_its_share();
  std::printf("%s\n", failures() == 0 ? "all passed" : "FAILED");
  return failures() == 0 ? 0 : 1;
}
