// The CUDA backend on the stand-in device: the same numbers as the CPU backend, calls in the right order, and every
// error path. argv[1]: the folder of the stand-in's libraries; then the suites to run, all without.
#include <algorithm>
#include <cstring>

#include "standin_case.h"
#include "standin_suites.h"

int main(int count, char** arguments) {
  library_folder = arguments[1];
  const auto asked = [&](const char* suite) {
    return count == 2 ||
           std::any_of(arguments + 2, arguments + count, [=](const char* name) { return std::strcmp(name, suite) == 0; });
  };
  if (asked("numbers")) check_numbers();
  if (asked("order")) check_order();
  if (asked("strict")) check_strictness();
  if (asked("ranks")) check_ranks();
  if (asked("failures")) check_failures();
  if (asked("every-failure")) check_every_failure();
  std::printf("%s\n", failures() == 0 ? "all passed" : "FAILED");
  return failures() == 0 ? 0 : 1;
}
