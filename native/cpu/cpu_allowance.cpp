#include "cpu/cpu_allowance.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "cpu/parking.h"

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif

namespace cudnn_lstm::cpu {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kMostCpus = 1 << 16;

int online_cpus() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

int affinity_cpus() {
#if defined(__linux__)
  // The kernel refuses a mask shorter than its own.
  for (int bits = 1024; bits <= kMostCpus; bits *= 4) {
    cpu_set_t* const set = CPU_ALLOC(bits);
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(bits);
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#elif defined(_WIN32)
  DWORD_PTR process = 0, system = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system) && process != 0) {
    int count = 0;
    for (; process != 0; process &= process - 1) ++count;
    return count;
  }
#endif
  return online_cpus();
}

#if defined(__linux__)

// The beginning of a file; empty if it cannot be read. A line or a few are expected, but the file's owner is unknown.
std::string read_beginning(const std::string& path) {
  constexpr std::size_t kMost = 16 << 10;
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return {};
  std::string text(kMost, '\0');
  std::size_t size = 0;
  while (size < kMost) {
    const ssize_t got = read(file, &text[size], kMost - size);
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  close(file);
  text.resize(size);
  return text;
}

// A number of microseconds; 0 (no limit) for "max", -1 or anything that is not a number.
double microseconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end != text.c_str() && std::isfinite(value) && value > 0 ? value : 0;
}

// Converts a quota per period, both in microseconds, to CPUs; 0: no limit.
double cpus_of(const std::string& quota, const std::string& period) {
  const double whole = microseconds(period);
  return whole > 0 ? microseconds(quota) / whole : 0;
}

// Lowers `least` to `cpus` if that is the stricter limit; 0 is no limit.
void limit(double& least, double cpus) {
  if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
}

// Calls visit(group) for a control group and all its ancestors, up to "". In a container, the mount may show the group
// as its root while /proc names the host's path: a group that is not there imposes no limit.
template <typename Visit>
void for_each_ancestor(std::string group, const Visit& visit) {
  if (group.find("/..") != std::string::npos) group.clear();  // outside what this process can see
  while (!group.empty()) {
    if (group.back() != '/') visit(group);
    group.resize(group.find_last_of('/') == std::string::npos ? 0 : group.find_last_of('/'));
  }
  visit(group);
}

bool names_cpu(const std::string& controllers) { return ("," + controllers + ",").find(",cpu,") != std::string::npos; }

double cgroup_quota(const std::string& root) {
  double least = 0;
  const std::string groups = read_beginning(root + "/proc/self/cgroup");
  const std::string mounts = root + "/sys/fs/cgroup";
  for (std::size_t at = 0; at < groups.size();) {
    const std::size_t end = std::min(groups.find('\n', at), groups.size());
    const std::string line = groups.substr(at, end - at);  // number:controllers:/group
    at = end + 1;
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {  // version 2: one file, "quota period"
      for_each_ancestor(group, [&](const std::string& each) {
        const std::string text = read_beginning((mounts + each).append("/cpu.max"));
        const std::size_t space = text.find(' ');
        if (space != std::string::npos) limit(least, cpus_of(text.substr(0, space), text.substr(space + 1)));
      });
    } else if (names_cpu(controllers)) {
      for_each_ancestor(group, [&](const std::string& each) {
        for (const char* mount : {"/cpu", "/cpu,cpuacct"}) {
          const std::string folder = std::string(mounts).append(mount).append(each);
          limit(least,
                cpus_of(read_beginning(folder + "/cpu.cfs_quota_us"), read_beginning(folder + "/cpu.cfs_period_us")));
        }
      });
    }
  }
  return least;
}

#else

double cgroup_quota(const std::string&) { return 0; }

#endif

}  // namespace

int CpuAllowance::threads() const {
  if (quota <= 0 || quota >= cpus) return cpus;
  return std::clamp(static_cast<int>(std::ceil(quota)), 1, cpus);
}

CpuAllowance read_cpu_allowance(const std::string& root) { return {affinity_cpus(), cgroup_quota(root)}; }

const CpuAllowance& WatchedAllowance::now() {
  const std::int64_t time = nanoseconds();
  if (allowance_.cpus == 0 || time - read_at_ > kSecond) {
    allowance_ = read_cpu_allowance();
    read_at_ = time;
  }
  return allowance_;
}

}  // namespace cudnn_lstm::cpu
