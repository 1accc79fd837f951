// Decides how many threads a call gets and how they share its work, by measuring rather than assuming. What is fastest
// depends on what else the machine runs, which changes; results do not depend on it, so every call is free to choose
// differently.
//
// Calls of one kind (the same work per unit) run with the *current* option. Now and then, another one is tried for a
// few calls. An option's cost is all its seconds over all its units of work, in all its trials, the older ones fading:
// a single trial may measure nothing but a neighbour's time slice. If the other option is faster, it becomes the
// current one; if not, the time the trial cost is made up for before the next: trials take at most a fiftieth of the
// time, or a fifth while costs are changing. Fewer threads are tried only while the threads spend a good part of their
// time waiting for each other, so on an idle machine next to nothing is tried, and nothing is lost.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cpu/partition.h"

namespace cudnn_lstm::cpu {

class TeamTuner {
 public:
  // adapt: as above. fixed: always the most threads. random: another option at every call, for tests.
  enum class Mode { adapt, fixed, random };

  explicit TeamTuner(Mode mode) : mode_(mode) {}

  Mode mode() const { return mode_; }

  // The option for the next call of this kind, valid until the next choose. options: makes the options, fewest threads
  // first, except that the one to begin with is last; called when a kind is new or `cpus` has changed. slice: the least
  // number of seconds that a trial lasts.
  const Partition& choose(std::uint64_t kind, int cpus, double slice,
                          const std::function<std::vector<Partition>()>& options);

  // Reports the call that choose was for: units of work, seconds, and the share of its threads' time spent working.
  void report(double units, double seconds, double worked);

 private:
  struct Option {
    Partition partition;
    double seconds = 0, units = 0;  // over its calls, older ones faded
    double faded_at = 0;            // on the kind's clock
    double due = 0;                 // not tried before this time on that clock

    double cost() const { return units > 0 ? seconds / units : 0; }  // seconds per unit; 0: not known
    void add(double more_seconds, double more_units, double clock, double memory);
  };
  struct Kind {
    std::uint64_t key = 0;
    int cpus = 0;
    std::uint64_t used = 0;  // when last chosen, in calls
    double clock = 0;        // seconds that calls of this kind have taken so far
    double next_trial = 0;   // on that clock
    std::vector<Option> options;
    std::size_t current = 0;
    double worked = 1;    // the current option's share
    double baseline = 0;  // the current option's cost when the others were last judged
    double excess = 0;    // what the last trial cost
    bool trying = false;
    std::size_t tried = 0;
    double trial_units = 0, trial_seconds = 0, trial_working = 0;
    double counted_units = 0, counted_seconds = 0;  // of the trial, excluding its beginning
  };

  Kind& find(std::uint64_t key, int cpus, const std::function<std::vector<Partition>()>& options);
  void learn(Kind& kind, double units, double seconds, double worked) const;
  void judge(Kind& kind) const;
  void begin_trial(Kind& kind) const;
  static bool promising(const Kind& kind, std::size_t option);

  const Mode mode_;
  double slice_ = 0;
  std::vector<Kind> kinds_;
  std::size_t chosen_ = 0;  // index of the kind
  std::uint64_t calls_ = 0;
};

}  // namespace cudnn_lstm::cpu
