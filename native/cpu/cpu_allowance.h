// How much CPU time the system allows this process, which may change as it runs: the CPUs in its affinity mask, and the
// quota of its control groups, which may be a fraction.
#pragma once

#include <cstdint>
#include <string>

namespace cudnn_lstm::cpu {

struct CpuAllowance {
  int cpus;      // that the calling thread may run on, at least 1
  double quota;  // CPUs' worth of time that the control groups allow; 0: no limit

  // How many threads can be at work: with a quota of 1.5 CPUs, two can run three quarters of the time.
  int threads() const;
};

// root: where /proc and /sys are found; for tests.
CpuAllowance read_cpu_allowance(const std::string& root = "/");

// The same, looked up again at most once a second.
class WatchedAllowance {
 public:
  const CpuAllowance& now();

 private:
  CpuAllowance allowance_{0, 0};
  std::int64_t read_at_ = 0;
};

}  // namespace cudnn_lstm::cpu
