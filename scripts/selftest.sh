#!/usr/bin/env bash
# The kernels' own test, without Node. `npm run test:native`; with SANITIZE=address,undefined or SANITIZE=thread under those
# sanitizers, any finding a failure; with TARGET=arm64 cross-compiled and run under emulation (Debian: g++-aarch64-linux-gnu and
# qemu-user or qemu-user-static).
#
# Then the sweep over sizes (native/cpu/selftest.cpp): SWEEP='N S', by default 1 size for every 7th vocabulary, every 97th under emulation; SWEEP='4 1' is
# the long form. It is made twice: every buffer ends at a page that may not be touched, and then begins at one; but once under a
# sanitizer: that of addresses watches both borders itself, and threads are the same whatever lies at them.
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
guards=(end begin)
if [[ -n "${SANITIZE:-}" ]]; then guards=(none); fi
# Under emulation, threads that wait for one another take minutes: the kernels alone, and fewer sizes.
if [[ -n "${TARGET:-}" ]]; then
  CUDNN_LSTM_GUARD_PAGES=${guards[0]} "${runner[@]}" "$build/native_selftest" kernels
else
  CUDNN_LSTM_GUARD_PAGES=${guards[0]} "$build/native_selftest"
  CUDNN_LSTM_GUARD_PAGES=${guards[0]} "$build/native_selftest" looks
fi
for guard in "${guards[@]}"; do
  # shellcheck disable=SC2086
  CUDNN_LSTM_GUARD_PAGES=$guard "${runner[@]}" "$build/native_selftest" sweep ${SWEEP:-$([[ -n "${TARGET:-}" ]] && echo 1 97 || echo 1 7)}
done
