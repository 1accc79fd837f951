#!/usr/bin/env bash
# Tests the addon under AddressSanitizer and UndefinedBehaviorSanitizer, in a separate build with GCC (Linux): the parity tests on every
# instruction set and the lifecycle tests, then a program that must leave nothing allocated by the addon. Any finding is a failure.
# Takes about ten minutes on two cores. The kernels alone, also under ThreadSanitizer: SANITIZE=… npm run test:native.
#
#   scripts/sanitize.sh [tests]   these test files instead, as jest takes them, and the leak check
set -euo pipefail
cd "$(dirname "$0")/.."
npx cmake-js compile --out build-sanitize --log-level warn --CDCUDNN_LSTM_SANITIZE=address,undefined \
  --CDCUDNN_LSTM_THIS_CPU=ON
# Links the build to where node-gyp-build looks; it is as far from the sources as other builds, so that ccache recognises the same file.
mkdir -p build-sanitize/package
ln -sfn .. build-sanitize/package/build
npm run --silent build
logs=$PWD/build-sanitize/reports
rm -rf "$logs" && mkdir "$logs"

# Runs a stock Node: the sanitizer's runtime is preloaded, with libstdc++, or exceptions would not be found.
sanitized() {
  LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
    CUDNN_LSTM_PREBUILD=$PWD/build-sanitize/package UBSAN_OPTIONS=print_stacktrace=1 "$@"
}
# Node itself leaks, and the tests would count memory in quarantine. Reports go to files, including those of child processes.
tested() {
  ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1:log_path=$logs/asan \
    sanitized node node_modules/jest/bin/jest.js --ci "$@"
}

if [[ $# -gt 0 ]]; then
  tested "$@"
else
  for isa in avx512bf16 avx512 avx2 neon baseline; do
    if node dist/cli/main.js info --json | grep -q "\"$isa\""; then
      echo "== $isa"
      CUDNN_LSTM_CPU_ISA=$isa tested test/parity
    fi
  done
  echo '== lifecycle'
  tested --runInBand test/lifecycle
fi

echo '== leaks'
ASAN_OPTIONS=detect_leaks=1:exitcode=0:fast_unwind_on_malloc=0 sanitized node --expose-gc test/lifecycle/programs/leaks.js \
  >"$logs/leaks.out" 2>"$logs/leaks.err"
grep -qx done "$logs/leaks.out"
# There must be a report, and none of its paragraphs, one per allocation, may name the addon, except for what V8 allocates for its own
# heap, whoever called it, and the promise of the call that the end of the process cuts off.
grep -q 'LeakSanitizer: detected memory leaks' "$logs/leaks.err"
if awk -v RS= '/cudnn_lstm\.node|native\// && !/#1 [^\n]* in (v8::internal::|napi_create_promise)/ { found = 1; print $0 "\n" }
  END { exit !found }' "$logs/leaks.err"; then exit 1; fi
if compgen -G "$logs/asan.*" >/dev/null; then
  cat "$logs"/asan.*
  exit 1
fi
echo 'no findings'
