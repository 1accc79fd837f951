#!/usr/bin/env bash
# The kernels' own test, without Node: `npm run test:native`. With SANITIZE=address,undefined or SANITIZE=thread it runs under those
# sanitizers, and any finding is a failure; with TARGET=arm64 it is cross-compiled and run under emulation (Debian:
# g++-aarch64-linux-gnu and qemu-user or qemu-user-static).
#
# First come its parts (native/cpu/selftest.cpp lists them): PARTS='models teams'; default: all of them, under emulation only the kernels.
# Then the sweep over sizes: SWEEP='N S'; default: 1 size for every 7th vocabulary, under emulation for those about a power of two;
# SWEEP='4 1' is the long form. It runs twice, with different sizes: first every buffer ends at an inaccessible page, then each begins at
# one. Under a sanitizer it runs once: AddressSanitizer watches both borders itself, and threads behave the same whatever lies there.
# The sizes are random, and some lists of them are ten times as large as others: SWEEP='N S F…' says with which list each sweep begins.
set -euo pipefail
cd "$(dirname "$0")/.."
build="build-selftest${TARGET:+-$TARGET}${SANITIZE:+-sanitize-${SANITIZE//,/-}}"
options=(-DCUDNN_LSTM_SELFTEST=ON -DCUDNN_LSTM_SANITIZE="${SANITIZE:-}")
runner=() parts=${PARTS:-}
read -ra sweep <<<"${SWEEP:-1 7}"
if [[ "${TARGET:-}" == arm64 ]]; then
  qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || { echo "TARGET=arm64 needs qemu-user" >&2; exit 1; }
  options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
  runner=("$qemu" -L /usr/aarch64-linux-gnu)
  # Under emulation, threads that wait for one another take minutes, and so do the larger lists of sizes.
  parts=${PARTS:-kernels}
  read -ra sweep <<<"${SWEEP:-1 600 7 3}"
elif [[ -n "${TARGET:-}" ]]; then
  echo "TARGET may be arm64 only, not $TARGET" >&2
  exit 2
fi
if [[ -n "${SANITIZE:-}" ]]; then options+=(-DCUDNN_LSTM_THIS_CPU=ON); fi
cmake -S . -B "$build" "${options[@]}" >/dev/null
cmake --build "$build" --parallel 2 >/dev/null
guards=(end begin)
if [[ -n "${SANITIZE:-}" ]]; then guards=(none); fi
# shellcheck disable=SC2086
CUDNN_LSTM_GUARD_PAGES=${guards[0]} "${runner[@]}" "$build/native_selftest" $parts
for index in "${!guards[@]}"; do
  first=${sweep[2 + index]:-$((index * sweep[0]))}
  CUDNN_LSTM_GUARD_PAGES=${guards[index]} "${runner[@]}" "$build/native_selftest" sweep "${sweep[0]}" "${sweep[1]}" "$first"
done
