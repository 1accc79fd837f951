#!/usr/bin/env bash
# Builds the addon and its native tests with CUDA 12.4, the oldest toolkit that the sources must compile with, in a separate folder,
# and runs the tests which show that nothing of CUDA 13 is needed: the machine code in the binary, and the backend on the stand-in.
# Fetches the toolkit (scripts/fetch-cuda12) and NVIDIA's wheels, for cuDNN's headers, unless they are there.
set -euo pipefail
cd "$(dirname "$0")/.."
toolkit=${CUDNN_LSTM_CUDA12_ROOT:-build-cuda12-toolkit}
if [ ! -x "$toolkit/bin/nvcc" ] && ! scripts/fetch-cuda12 "$toolkit"; then
  if [ "${REQUIRE_CUDA12:-}" = 1 ]; then exit 1; fi
  echo 'skipped: CUDA 12.4 cannot be fetched here (REQUIRE_CUDA12=1 makes that a failure)'
  exit 0
fi
for wheels in .nvidia build-nvidia; do
  if [ -d "$wheels/nvidia/cudnn/include" ]; then break; fi
done
[ -d "$wheels/nvidia/cudnn/include" ] || scripts/fetch-nvidia --headers --into build-nvidia
CUDNN_LSTM_CUDA_ROOT=$(cd "$toolkit" && pwd)
export CUDNN_LSTM_CUDA_ROOT CUDNN_ROOT=$PWD/$wheels REQUIRE_CUDA=1 CUDNN_LSTM_BUILD=$PWD/build-cuda12
npx cmake-js compile --out build-cuda12 --log-level warn --CDREQUIRE_CUDA=ON
cmake --build build-cuda12 --parallel "$(nproc)" --target gpu_native_tests
build-cuda12/gpu-tests/cuda_host_test
build-cuda12/gpu-tests/cuda_standin_test "$PWD/build-cuda12/gpu-tests/nvidia" numbers
npx jest --ci test/gpu/binary
