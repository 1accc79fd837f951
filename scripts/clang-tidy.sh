#!/usr/bin/env bash
# Runs clang-tidy with the checks in .clang-tidy over native/core, native/cpu, native/mpi and native/binding (the CUDA sources need NVIDIA's
# headers). Takes a minute or two; any finding is a failure. Debian: apt-get install clang-tidy.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build-tidy
modules=$PWD/node_modules
for test in OFF ON; do # The addon, and the kernels' own test.
  cmake -S . -B "$build/$test" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCUDNN_LSTM_SELFTEST=$test \
    "-DCMAKE_JS_INC=$modules/node-api-headers/include;$modules/node-addon-api" >/dev/null
done
tidy() { # folder of the compile commands, files on stdin
  xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet -p "$build/$1"
}
find native/core native/cpu native/mpi native/binding -name '*.cpp' ! -name selftest.cpp ! -name cuda_info.cpp -print0 | tidy OFF
printf '%s\0' native/cpu/selftest.cpp | tidy ON
echo 'no findings'
