#!/usr/bin/env bash
# Builds the addon with the CUDA backend against NVIDIA's own headers, in a folder of its own, and runs the tests that need no GPU:
# on the stand-in, and with NVIDIA's own libraries. A part that is missing is a failure, not a skip. Fetches NVIDIA's wheels first
# unless CUDNN_LSTM_CUDA_ROOT names them, or .nvidia or build-nvidia holds them.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${CUDNN_LSTM_CUDA_ROOT:-}" ]; then
  if [ -d .nvidia/nvidia ]; then
    export CUDNN_LSTM_CUDA_ROOT=$PWD/.nvidia
  else
    [ -d build-nvidia/nvidia ] || scripts/fetch-nvidia --into build-nvidia
    export CUDNN_LSTM_CUDA_ROOT=$PWD/build-nvidia
  fi
fi
export REQUIRE_CUDA=1 CUDNN_LSTM_BUILD=$PWD/build-cuda
npx cmake-js compile --out build-cuda --log-level warn --CDREQUIRE_CUDA=ON
npx jest --ci "$@" test/gpu
