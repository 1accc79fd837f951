// The CUDA backend on the stand-in device: the same numbers as the CPU backend, calls in the right order, and every
// error path. argv[1]: the folder of the stand-in's libraries.
#include "standin_case.h"
#include "standin_suites.h"

int main(int, char** arguments) {
  library_folder = arguments[1];
  check_numbers();
  check_order();
  check_failures();
  std::printf("%s\n", failures() == 0 ? "all passed" : "FAILED");
  return failures() == 0 ? 0 : 1;
}
