// The native tests' own few lines: named cases, a line for each failed check, exit status 1 if any failed.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

inline int& failures() {
  static int count = 0;
  return count;
}
inline std::string& current_case() {
  static std::string name;
  return name;
}
inline void begin_case(const std::string& name) {
  current_case() = name;
  std::printf("case %s\n", name.c_str());
  std::fflush(stdout);
}
inline void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures();
  std::printf("FAIL %s: %s\n", current_case().c_str(), what.c_str());
}

// max |a - b| / max |a|
inline double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0, largest = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(double{a[i]} - double{b[i]});
    if (!(difference <= worst)) worst = difference;
    largest = std::fmax(largest, std::fabs(double{a[i]}));
  }
  return worst / largest;
}
inline void expect_close(const std::vector<float>& a, const std::vector<float>& b, double bound,
                         const std::string& what) {
  const double difference = relative_difference(a, b);
  expect(difference <= bound, what + " differ by " + std::to_string(difference));
}
