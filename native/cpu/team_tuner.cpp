#include "cpu/team_tuner.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace cudnn_lstm::cpu {
namespace {

// How many kinds are remembered; the least recently used makes room.
constexpr std::size_t kMostKinds = 32;

// The current option's cost is a mean over about this many seconds of calls, a few hundred slices of a scheduler;
// another option's, over the trials of kTrialMemory seconds.
constexpr double kMemory = 0.7;
constexpr double kTrialMemory = 5;

// The first slices of a trial with more threads do not count: threads that slept may be woken on the CPU of the thread
// that woke them, until the scheduler spreads them. Then kSlicesOfTrial slices count, unless the trial takes twice as
// long as the current option: one that is only a little slower may be unlucky. An option has to be faster by kGain.
constexpr double kSlicesToSettle = 3;
constexpr double kSlicesOfTrial = 10;
constexpr double kHopeless = 2;
constexpr double kGain = 0.97;

// A call of this many slices counts even if it is the first of a trial.
constexpr double kLongCall = 10;

// After a trial, the next waits for this many times what it cost, and for at least this many slices or trials of the
// same length.
constexpr double kRest = 50;
constexpr double kSlicesBetween = 8;
// Less rest if the current option's cost has changed by this factor: the machine is not what it was.
constexpr double kChanged = 1.3;
constexpr double kRestWhenChanged = 5;

// A trial counts as no more than this many times what the current option would have taken: the process may have been
// stopped during it.
constexpr double kMostExcess = 4;

// Fewer threads, or another split, may be faster if less than this share of the threads' time goes to work.
constexpr double kWorkedWell = 0.85;

}  // namespace

TeamTuner::Kind& TeamTuner::find(std::uint64_t key, int cpus, const std::function<std::vector<Partition>()>& options) {
  auto kind = std::find_if(kinds_.begin(), kinds_.end(), [key](const Kind& each) { return each.key == key; });
  if (kind == kinds_.end()) {
    if (kinds_.size() < kMostKinds) {
      kinds_.emplace_back();
      kind = kinds_.end() - 1;
    } else {
      kind =
          std::min_element(kinds_.begin(), kinds_.end(), [](const Kind& a, const Kind& b) { return a.used < b.used; });
    }
  } else if (kind->cpus == cpus) {
    return *kind;
  }
  *kind = Kind{};
  kind->key = key;
  kind->cpus = cpus;
  for (Partition& partition : options()) kind->options.push_back({std::move(partition)});
  kind->current = kind->options.size() - 1;
  return *kind;
}

const Partition& TeamTuner::choose(std::uint64_t key, int cpus, double slice,
                                   const std::function<std::vector<Partition>()>& options) {
  Kind& kind = find(key, cpus, options);
  kind.used = ++calls_;
  slice_ = slice;
  chosen_ = static_cast<std::size_t>(&kind - kinds_.data());
  if (mode_ == Mode::random) {
    kind.current = philox4x32({static_cast<std::uint32_t>(calls_), 0, 0, 0}, philox_key(11))[0] % kind.options.size();
  }
  return kind.options[kind.trying ? kind.tried : kind.current].partition;
}

void TeamTuner::report(double units, double seconds, double worked) {
  if (mode_ != Mode::adapt) return;
  Kind& kind = kinds_[chosen_];
  if (kind.options.size() == 1 || !(units > 0) || !(seconds > 0)) return;
  kind.clock += seconds;
  if (kind.trying) {
    kind.trial_units += units;
    kind.trial_seconds += seconds;
    kind.trial_working += seconds * worked;
    const bool more = kind.options[kind.tried].partition.threads > kind.options[kind.current].partition.threads;
    const double settled = more ? kSlicesToSettle * slice_ : 0;
    if (kind.trial_seconds - seconds >= settled || seconds >= kLongCall * slice_) {
      kind.counted_units += units;
      kind.counted_seconds += seconds;
    }
    judge(kind);
  } else {
    learn(kind, units, seconds, worked);
    begin_trial(kind);
  }
}

// Sums of seconds and of units rather than a mean of costs: in a mean, a call in which the process was stopped, a
// hundred times as long as the others, would count for a hundred.
void TeamTuner::Option::add(double more_seconds, double more_units, double clock, double memory) {
  const double fade = std::exp((faded_at - clock) / memory);
  seconds = fade * seconds + more_seconds;
  units = fade * units + more_units;
  faded_at = clock;
}

void TeamTuner::learn(Kind& kind, double units, double seconds, double worked) const {
  Option& current = kind.options[kind.current];
  const double weight = current.units > 0 ? 1 - std::exp(-seconds / kMemory) : 1;
  current.add(seconds, units, kind.clock, kMemory);
  kind.worked += weight * (worked - kind.worked);
  if (!(kind.baseline > 0)) kind.baseline = current.cost();
  const double change = current.cost() / kind.baseline;
  if (change < kChanged && change > 1 / kChanged) return;
  kind.baseline = current.cost();
  const double soon = kind.clock + kRestWhenChanged * kind.excess;
  kind.next_trial = std::min(kind.next_trial, soon);
  for (Option& option : kind.options) {
    option.due = std::min(option.due, soon);
    if (&option != &current) option.seconds = option.units = 0;  // it was measured on another machine, so to speak
  }
}

bool TeamTuner::promising(const Kind& kind, std::size_t option) {
  const int threads = kind.options[option].partition.threads;
  return threads > kind.options[kind.current].partition.threads || kind.worked < kWorkedWell;
}

// If it is time for a trial, begins one of the option that has waited longest; of several, the nearest.
void TeamTuner::begin_trial(Kind& kind) const {
  if (kind.clock < kind.next_trial || kind.clock < slice_) return;
  const auto distance = [&](std::size_t i) { return i > kind.current ? i - kind.current : kind.current - i; };
  std::size_t best = kind.current;
  for (std::size_t i = 0; i < kind.options.size(); ++i) {
    if (i == kind.current || kind.clock < kind.options[i].due || !promising(kind, i)) continue;
    const bool sooner = best == kind.current || kind.options[i].due < kind.options[best].due;
    const bool nearer =
        best != kind.current && kind.options[i].due == kind.options[best].due && distance(i) < distance(best);
    if (sooner || nearer) best = i;
  }
  if (best == kind.current) return;
  kind.trying = true;
  kind.tried = best;
  kind.trial_units = kind.trial_seconds = kind.trial_working = 0;
  kind.counted_units = kind.counted_seconds = 0;
}

void TeamTuner::judge(Kind& kind) const {
  if (kind.counted_seconds < slice_) return;
  Option& current = kind.options[kind.current];
  Option& tried = kind.options[kind.tried];
  const bool hopeless = kind.counted_seconds > kHopeless * kind.counted_units * current.cost();
  if (!hopeless && kind.counted_seconds < kSlicesOfTrial * slice_) return;
  kind.trying = false;
  tried.add(kind.counted_seconds, kind.counted_units, kind.clock, kTrialMemory);
  const double expected = kind.trial_units * current.cost();
  kind.excess = std::clamp(kind.trial_seconds - expected, 0.0, kMostExcess * expected);
  if (tried.cost() < kGain * current.cost()) {
    // The loser is tried again soon: it may have been unlucky for a moment.
    current.due = kind.next_trial = kind.clock + kSlicesBetween * slice_;
    kind.worked = kind.trial_working / kind.trial_seconds;
    kind.current = kind.tried;
  } else {
    const double rest = std::max(kRest * kind.excess, kSlicesBetween * std::max(slice_, kind.trial_seconds));
    kind.next_trial = kind.clock + rest;
    tried.due = kind.clock + rest * static_cast<double>(kind.options.size() - 1);
  }
  kind.baseline = kind.options[kind.current].cost();
}

}  // namespace cudnn_lstm::cpu
