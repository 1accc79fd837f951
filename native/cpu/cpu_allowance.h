// How much processor the system lets this process have, which may change while it runs: the CPUs that its affinity
// leaves, and the quota of its control groups, which may be a fraction.
#pragma once

#include <cstdint>
#include <string>

namespace cudnn_lstm::cpu {

struct CpuAllowance {
  int cpus;      // that the calling thread may run on, at least 1
  double quota;  // CPUs' worth of time that the control groups allow; 0: no limit

  // Threads that can be at work: a quota of 1.5 CPUs lets two run for three quarters of the time.
  int threads() const;
};

// root: where /proc and /sys are found; for tests.
CpuAllowance read_cpu_allowance(const std::string& root = "/");

// The same, looked up anew at most once a second.
class WatchedAllowance {
 public:
  const CpuAllowance& now();

 private:
  CpuAllowance allowance_{0, 0};
  std::int64_t read_at_ = 0;
};

}  // namespace cudnn_lstm::cpu
