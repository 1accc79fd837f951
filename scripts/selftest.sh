#!/usr/bin/env bash
# The kernels' own test, without Node. `npm run test:native`; with SANITIZE=address,undefined under sanitizers; with
# TARGET=arm64 cross-compiled and run under qemu-user (Debian: g++-aarch64-linux-gnu, qemu-user).
set -euo pipefail
cd "$(dirname "$0")/.."
build="build-selftest${TARGET:+-$TARGET}${SANITIZE:+-sanitize}"
options=(-DCUDNN_LSTM_SELFTEST=ON -DCUDNN_LSTM_SANITIZE="${SANITIZE:-}")
runner=()
if [[ "${TARGET:-}" == arm64 ]]; then
  options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
  runner=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
fi
cmake -S . -B "$build" "${options[@]}" >/dev/null
cmake --build "$build" --parallel 2 >/dev/null
"${runner[@]}" "$build/native_selftest"
