#!/usr/bin/env bash
# The kernels' own test, without Node. `npm run test:native`; with SANITIZE=address,undefined or SANITIZE=thread under those
# sanitizers, any finding a failure; with TARGET=arm64 cross-compiled and run under emulation (Debian: g++-aarch64-linux-gnu and
# qemu-user or qemu-user-static).
set -euo pipefail
cd "$(dirname "$0")/.."
build="build-selftest${TARGET:+-$TARGET}${SANITIZE:+-sanitize-${SANITIZE//,/-}}"
options=(-DCUDNN_LSTM_SELFTEST=ON -DCUDNN_LSTM_SANITIZE="${SANITIZE:-}")
runner=()
if [[ "${TARGET:-}" == arm64 ]]; then
  qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || { echo "TARGET=arm64 needs qemu-user" >&2; exit 1; }
  options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
  runner=("$qemu" -L /usr/aarch64-linux-gnu)
elif [[ -n "${TARGET:-}" ]]; then
  echo "TARGET may be arm64 only, not $TARGET" >&2
  exit 2
fi
cmake -S . -B "$build" "${options[@]}" >/dev/null
cmake --build "$build" --parallel 2 >/dev/null
"${runner[@]}" "$build/native_selftest"
