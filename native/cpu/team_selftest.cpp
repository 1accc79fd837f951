// The thread team and the choice of its size, without timing anything: counts, processor time, a simulated machine.
#if defined(__linux__)
#include <dirent.h>
#include <sched.h>
#endif

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

#include "core/initialize.h"
#include "core/random.h"
#include "cpu/cpu_backend.h"
#include "cpu/selftest.h"

namespace cudnn_lstm::cpu {
namespace {

std::uint32_t draw(std::uint32_t index, std::uint32_t stream) {
  return philox4x32({index, stream, 21, 0}, philox_key(4))[0];
}

// Every thread of a run works once, and none passes a barrier before all have reached it, while the team's size and its
// number of CPUs change.
void check_barriers() {
  ThreadTeam team(7);
  int wrong = 0;
  for (std::uint32_t round = 0; round < 400; ++round) {
    team.set_cpus(1 + static_cast<int>(draw(round, 1) % 4));
    const int size = team.resize(1 + static_cast<int>(draw(round, 2) % 7));
    const int threads = 1 + static_cast<int>(draw(round, 3) % static_cast<std::uint32_t>(size));
    std::vector<int> at(threads, 0);
    std::vector<int> early(threads, 0);
    team.run(threads, [&](int thread) {
      for (int phase = 1; phase <= 5; ++phase) {
        at[thread] = phase;
        team.barrier();
        for (int other = 0; other < threads; ++other) early[thread] += at[other] != phase;
        team.barrier();
      }
    });
    for (int thread = 0; thread < threads; ++thread) wrong += early[thread] + (at[thread] != 5);
  }
  check(wrong == 0, "team", "runs and barriers", wrong, 0);
}

double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Waiting threads sleep: between runs, at a barrier, and for the last to finish. A thread that spun would use all of
// the time that is slept here.
void check_waits() {
  constexpr auto kPause = std::chrono::milliseconds(300);
  ThreadTeam team(4);
  team.resize(4);
  team.run(4, [&](int thread) { team.barrier(); });
  double before = processor_seconds();
  std::this_thread::sleep_for(kPause);
  const double idle = processor_seconds() - before;
  check(idle < 0.1, "team", "processor time between runs", idle, 0.1);
  before = processor_seconds();
  team.run(4, [&](int thread) {
    if (thread == 1) std::this_thread::sleep_for(kPause);
    team.barrier();
    if (thread == 2) std::this_thread::sleep_for(kPause);
  });
  const double waiting = processor_seconds() - before;
  check(waiting < 0.2, "team", "processor time at barriers", waiting, 0.2);
  const double worked = team.take_worked_share();
  check(worked > 0 && worked <= 1, "team", "share of the time worked", worked, 1);
}

// A model that takes another number of threads and another split at every call computes the same bits as on one thread.
void check_random_teams(InputCoding coding, const char* title) {
  const ModelSpec spec{11, 2, 104, coding, coding == InputCoding::embedding ? 6 : 0, 0.25f, 5};
  CpuBackend one(spec, 1), any(spec, 5, TeamTuner::Mode::random);
  std::vector<float> parameters(one.layout().size());
  initialize(spec, one.layout(), parameters.data());
  one.write(Slot::parameters, parameters.data(), parameters.size());
  any.write(Slot::parameters, parameters.data(), parameters.size());
  const std::atomic<bool> stop{false};
  std::vector<std::int32_t> ids(71 * 70);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>(draw(static_cast<std::uint32_t>(i), 4) % 11);
  int wrong = 0, calls = 0;
  for (std::uint32_t round = 0; round < 40; ++round) {
    const int batches[] = {1, 2, 3, 16, 33, 70}, lengths[] = {1, 2, 5, 9, 70};
    const int batch = batches[draw(round, 5) % 6], steps = lengths[draw(round, 6) % 5];
    const Batch work{ids.data(), steps, batch, draw(round, 7) % 2 == 0 ? Target::every : Target::last, true};
    std::vector<float> expected(static_cast<std::size_t>(steps) * batch * 11), found(expected.size());
    switch (draw(round, 8) % 3) {
      case 0: {
        const StepResult a = one.train_step(work, {1e-3}, stop), b = any.train_step(work, {1e-3}, stop);
        wrong += a.loss != b.loss || a.gradient_norm != b.gradient_norm;
        break;
      }
      case 1:
        one.evaluate(work, false, 0, expected.data(), stop);
        any.evaluate(work, false, 0, found.data(), stop);
        break;
      default:
        one.next_logits(ids.data(), steps, batch, expected.data(), stop);
        any.next_logits(ids.data(), steps, batch, found.data(), stop);
    }
    wrong += std::memcmp(expected.data(), found.data(), expected.size() * sizeof(float)) != 0;
    ++calls;
  }
  one.read(Slot::parameters, parameters.data());
  std::vector<float> other(parameters.size());
  any.read(Slot::parameters, other.data());
  wrong += std::memcmp(parameters.data(), other.data(), other.size() * sizeof(float)) != 0;
  check(wrong == 0 && calls == 40, title, "another team at each call", wrong, 0);
}

#if defined(__linux__)

int threads_there_are() {
  int count = 0;
  DIR* const tasks = opendir("/proc/self/task");
  while (tasks != nullptr) {
    const dirent* entry = readdir(tasks);
    if (entry == nullptr) break;
    count += entry->d_name[0] != '.';
  }
  if (tasks != nullptr) closedir(tasks);
  return count;
}

// A model that may have four threads creates none while the process has one CPU, and the others once it has more.
void check_affinity() {
  cpu_set_t before, one;
  if (sched_getaffinity(0, sizeof before, &before) != 0 || CPU_COUNT(&before) < 2) return;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
  const ModelSpec spec{11, 1, 128, InputCoding::onehot, 0, 0, 5};
  CpuBackend backend(spec, 4);
  const std::vector<std::int32_t> ids(6 * 16, 1);
  const Batch work{ids.data(), 5, 16, Target::every, true};
  const std::atomic<bool> stop{false};
  const int at_first = threads_there_are();
  backend.train_step(work, {1e-3}, stop);
  const int narrow = threads_there_are() - at_first;
  sched_setaffinity(0, sizeof before, &before);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // the allowance is looked up every second
  backend.train_step(work, {1e-3}, stop);
  const int wide = threads_there_are() - at_first;
  const int expected = std::min({4, CPU_COUNT(&before), read_cpu_allowance().threads()}) - 1;
  check(narrow == 0, "team", "threads made for one CPU", narrow, 0);
  check(wide == expected, "team", "threads made for more", wide, expected);
}

#endif

// ---- A simulated machine: the cost of a unit of work with one and with two threads, and the share of their time that
// two threads work, for a while.

struct Weather {
  double one, two;       // seconds per call
  double worked;         // share, with two threads
  double noise;          // costs vary by this factor up or down
  double lasts;          // seconds
  double hindered = 0;   // share of the time, 0.15 s at a stretch, in which one thread takes twice as long
  double spreading = 0;  // seconds after a change to two threads in which they take twice as long
  double stalls = 0;     // times per second that the process is stopped
  double stall = 0;      // seconds that it is stopped for, varied by up to half either way
};

struct Outcome {
  double share;  // work done, as a share of the best fixed choice's in the same time
  int changes;   // of the choice
  int ones;      // calls on one thread
};

Outcome simulate(const std::vector<Weather>& forecast, std::uint32_t seed) {
  TeamTuner tuner(TeamTuner::Mode::adapt);
  const auto options = [] { return std::vector<Partition>{{1, 1, false, {1}}, {2, 1, true, {1, 2}}}; };
  Outcome outcome{0, 0, 0};
  double best = 0, done = 0, now = 0, changed = 0;
  std::uint32_t call = 0;
  int before = 2;
  for (const Weather& weather : forecast) {
    const double fastest = std::min(weather.one / (1 - weather.hindered / 2), weather.two);
    best += weather.lasts / (fastest * (1 + weather.stalls * weather.stall));
    for (double clock = 0; clock < weather.lasts; ++call) {
      const int threads = tuner.choose(1, 2, 0.01, options).threads;
      const double chance = 2 * uniform01(draw(call, 100 + seed)) - 1;
      const std::uint32_t stretch = static_cast<std::uint32_t>(clock / 0.15);
      const bool hindered = uniform01(draw(stretch, 200 + seed)) < weather.hindered;
      const double one = hindered ? 2 * weather.one : weather.one;
      double seconds = (threads == 1 ? one : weather.two) * std::pow(weather.noise, chance);
      if (threads != before) changed = now;
      if (threads == 2) seconds += std::min(seconds, std::max(0.0, weather.spreading - (now - changed)));
      const double stopped = weather.stalls * seconds + uniform01(draw(call, 300 + seed));  // times, at least
      for (std::uint32_t i = 1; i <= static_cast<std::uint32_t>(stopped); ++i) {
        seconds += weather.stall * (0.5 + uniform01(draw(call, 400 + 100 * i + seed)));
      }
      tuner.report(1, seconds, threads == 1 ? 1 : weather.worked);
      outcome.changes += threads != before;
      outcome.ones += threads == 1;
      before = threads;
      now += seconds;
      clock += seconds;
      done += 1;
    }
  }
  outcome.share = done / best;
  return outcome;
}

}  // namespace

void check_tuner() {
  const Weather idle{0.020, 0.012, 0.93, 1.05, 20}, one_busy{0.021, 0.027, 0.7, 1.3, 20};
  const Weather busy{0.045, 0.150, 0.5, 1.6, 20}, crowded{0.045, 0.030, 0.8, 1.6, 20};
  const Weather moving{0.021, 0.040, 0.6, 1.2, 20, 0.2};
  const Outcome quiet = simulate({idle}, 0);
  check(quiet.changes == 0, "tuner", "changes on an idle machine", quiet.changes, 0);
  double worst = 1;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    for (const std::vector<Weather>& forecast : std::vector<std::vector<Weather>>{{one_busy},
                                                                                  {busy},
                                                                                  {crowded},
                                                                                  {busy, idle},
                                                                                  {idle, busy, one_busy, idle},
                                                                                  {moving},
                                                                                  {moving, idle},
                                                                                  {crowded, busy, crowded, one_busy}}) {
      worst = std::min(worst, simulate(forecast, seed).share);
    }
  }
  check(worst > 0.9, "tuner", "share of the best choice's work", worst, 0.9);
  // Calls so short that many of them fit in one stretch.
  Weather short_calls = moving;
  short_calls.one *= 0.002;
  short_calls.two *= 0.002;
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    worst = std::min(worst, simulate({short_calls}, seed).share);
  }
  check(worst > 0.9, "tuner", "the same, where neighbours move about", worst, 0.9);
  // Calls of microseconds on an idle machine, of which one in thousands is stopped for milliseconds, as a timer or a
  // neighbour may do. A mean of costs weighted by the calls' lengths shows the current choice three times as slow as it
  // is: with it, the share was 0.8.
  const auto mean_share = [](const Weather& weather) {
    double sum = 0;
    for (std::uint32_t seed = 0; seed < 8; ++seed) sum += simulate({weather}, seed).share / 8;
    return sum;
  };
  const double stopped = mean_share({51e-6, 32e-6, 0.8, 1.1, 8, 0, 0.01, 4, 0.004});
  check(stopped > 0.93, "tuner", "the same, few calls stopped", stopped, 0.93);
  // Next to busy processes, two threads do more than one, but only once the scheduler has given each a CPU, and the
  // time of a call depends on whose turn it is. Trials that are given up whenever they fall behind for a moment seldom
  // find this out: with them, the share was 0.8.
  for (const Weather& weather :
       {Weather{0.030, 0.0244, 0.7, 1.5, 20, 0, 0.02}, Weather{0.030, 0.0244, 0.7, 1.5, 20, 0, 0.05},
        Weather{0.055, 0.040, 0.7, 1.6, 20, 0, 0.03}, Weather{0.020, 0.0125, 0.7, 1.1, 20, 0, 0.03, 60, 0.008}}) {
    const double share = mean_share(weather);
    check(share > 0.9, "tuner", "the same, threads spread late", share, 0.9);
  }
  // Calls of microseconds, and of seconds.
  for (const double scale : {0.002, 50.0}) {
    std::vector<Weather> forecast{busy, idle, one_busy};
    for (Weather& weather : forecast) {
      weather.one *= scale;
      weather.two *= scale;
      weather.lasts = scale > 1 ? 400 : 8;
    }
    const double share = simulate(forecast, 77).share;
    check(share > 0.9, "tuner", "the same, calls longer or shorter", share, 0.9);
  }
  // Two threads again once the machine is idle: its last ten seconds have next to no call on one.
  const Outcome before = simulate({busy, idle}, 5);
  Weather longer = idle;
  longer.lasts += 10;
  const Outcome after = simulate({busy, longer}, 5);
  const double late = after.ones - before.ones;
  check(late <= 20, "tuner", "calls on one thread long after", late, 20);
}

void check_teams() {
  check_barriers();
  check_waits();
#if defined(__linux__)
  check_affinity();
#endif
  check_random_teams(InputCoding::scalar, "scalar");
  check_random_teams(InputCoding::onehot, "onehot");
  check_random_teams(InputCoding::embedding, "embedding");
}

}  // namespace cudnn_lstm::cpu
