#!/usr/bin/env bash
# Builds the addon and the kernels' own test with each compiler that users have, without a warning, and runs the test; then builds
# as `npm install` and `cudnn-lstm build` do on a PATH with only a compiler. Debian: apt-get install g++-11 g++ clang.
#
#   scripts/test-compilers.sh [compiler…]   these compilers instead of g++-11, g++ and clang++
#   TESTED=g++ scripts/test-compilers.sh    skips the test for this compiler, with which `npm run test:native` has run it
set -euo pipefail
cd "$(dirname "$0")/.."
compilers=("$@")
[[ $# -gt 0 ]] || compilers=(g++-11 g++ clang++)
node scripts/prepare.js >/dev/null
place=$(mktemp -d) root=$PWD
trap 'rm -rf "$place" "$root"/build-compiler-*' EXIT
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi

# Make and Ninja take turns.
generators=('Unix Makefiles' Ninja)
for index in "${!compilers[@]}"; do
  compiler=${compilers[index]} generator=${generators[index % 2]}
  command -v ninja >/dev/null || generator='Unix Makefiles'
  echo "-- $("$compiler" --version | head -1) ($generator)"
  for selftest in OFF ON; do
    # As far from the sources as every other build folder, so that ccache recognises the same file.
    build=build-compiler-$index-$selftest
    cmake -S . -B "$build" --no-warn-unused-cli -G "$generator" "-DCMAKE_CXX_COMPILER=$compiler" "-DCMAKE_JS_INC=$PWD/dist/include" \
      "-DCUDNN_LSTM_SELFTEST=$selftest" >/dev/null
    cmake --build "$build" --parallel 2 >"$place/log" 2>&1 || { cat "$place/log"; exit 1; }
    if grep -i 'warning:' "$place/log"; then exit 1; fi
  done
  [[ $compiler == "${TESTED:-}" ]] || "build-compiler-$index-ON/native_selftest" kernels models teams | tail -1
  mkdir -p "$place/prebuild-$index/build/Release"
  mv "build-compiler-$index-OFF/cudnn_lstm.node" "$place/prebuild-$index/build/Release/"
  CUDNN_LSTM_PREBUILD=$place/prebuild-$index node dist/cli/main.js info | grep '^kernels'
done

echo "-- a PATH with ${compilers[0]} and no cmake, make or ninja"
mkdir "$place/bin"
for tool in node sh as ld ar "${compilers[0]}" ccache; do
  if found=$(command -v "$tool"); then ln -s "$found" "$place/bin/"; fi
done
git clone --quiet . "$place/clone"
ln -s "$PWD/node_modules" "$place/clone/node_modules"
cp -R dist "$place/clone/" # Made by Node alone, whatever else is installed.
cd "$place/clone"
bare() {
  env PATH="$place/bin" XDG_CACHE_HOME="$place/cache" CXX="${compilers[0]}" \
    node "$@" >"$place/log" 2>&1 || { cat "$place/log"; exit 1; }
}
# cmake-js looks for the names g++ and clang++; without them the addon is built without cmake-js.
bare scripts/prepare.js
grep '^cudnn-lstm:' "$place/log"
bare dist/cli/main.js info
bare dist/cli/main.js build
bare dist/cli/main.js info
rm -rf build
ln -sf "$(command -v "${compilers[0]}")" "$place/bin/g++"
bare scripts/prepare.js
bare dist/cli/main.js info
