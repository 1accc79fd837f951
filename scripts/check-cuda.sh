#!/usr/bin/env bash
# Builds the addon with the CUDA backend against NVIDIA's own headers, in a separate folder, and runs the tests that need no GPU:
# on the stand-in, and with NVIDIA's own libraries. A missing part is a failure, not a skip. Fetches NVIDIA's wheels first
# unless CUDNN_LSTM_CUDA_ROOT names them, or .nvidia or build-nvidia holds them.
#
#   SANITIZE=address,undefined scripts/check-cuda.sh   only the native tests, under these sanitizers
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${CUDNN_LSTM_CUDA_ROOT:-}" ]; then
  if [ -d .nvidia/nvidia/nccl ]; then
    export CUDNN_LSTM_CUDA_ROOT=$PWD/.nvidia
  else
    # NCCL was added to the wheels last: an earlier fetch lacks it.
    [ -d build-nvidia/nvidia/nccl ] || scripts/fetch-nvidia --into build-nvidia
    export CUDNN_LSTM_CUDA_ROOT=$PWD/build-nvidia
  fi
fi
export REQUIRE_CUDA=1 CUDNN_LSTM_BUILD=$PWD/build-cuda
if [ -n "${SANITIZE:-}" ]; then
  export UBSAN_OPTIONS=halt_on_error=1
  modules=$PWD/node_modules
  cmake -S . -B build-cuda-sanitized -DCMAKE_BUILD_TYPE=Release "-DCUDNN_LSTM_SANITIZE=$SANITIZE" \
    "-DCMAKE_JS_INC=$modules/node-api-headers/include;$modules/node-addon-api"
  cmake --build build-cuda-sanitized --parallel "$(nproc)" --target cuda_host_test cuda_standin_test
  build-cuda-sanitized/gpu-tests/cuda_host_test
  build-cuda-sanitized/gpu-tests/cuda_standin_test "$PWD/build-cuda-sanitized/gpu-tests/nvidia"
  exit 0
fi
npx cmake-js compile --out build-cuda --log-level warn --CDREQUIRE_CUDA=ON
# Built here, on all cores, and not within a test's time.
cmake --build build-cuda --parallel "$(nproc)" --target gpu_native_tests
# npm test runs what needs no build with CUDA.
MPI=1 npx jest --ci test/gpu "$@" --testPathIgnorePatterns='test/gpu/(gpu-check|collect)\.test'
