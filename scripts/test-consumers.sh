#!/usr/bin/env bash
# Packs the package and tests the tarball under its users' tools: npm, pnpm, Yarn with Plug'n'Play, Deno, Bun, TypeScript 5.4 to 7,
# jest, vitest and esbuild. Each trains or loads a small model (test/consumers) and must print exactly what it prints under npm.
# A tool that npm does not have for this machine is skipped, and a line says so.
#
#   scripts/test-consumers.sh [tool…]                  for instance: scripts/test-consumers.sh yarn typescript
#   TARBALL=cudnn-lstm.tgz scripts/test-consumers.sh   uses a tarball packed earlier
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD tools=$PWD/build-consumers
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
wanted=("$@") passed=0 skipped=0
[[ $# -gt 0 ]] || wanted=(npm pnpm yarn deno bun typescript jest vitest esbuild)

fail() {
  echo "FAILED $*" >&2
  [[ ! -s $place/log ]] || tail -30 "$place/log" >&2
  exit 1
}

# Runs a command silently; shows its output if it fails.
quiet() { "$@" >"$place/log" 2>&1 || fail "$*"; }

pass() {
  echo "ok      $*"
  passed=$((passed + 1))
}

# take NAME PACKAGE…: installs packages into the tools' own folder, and sets $skip to the reason if there are none.
take() {
  local name=$1
  shift
  skip=
  [[ -d $tools/$name/node_modules ]] && return
  mkdir -p "$tools/$name"
  echo '{ "private": true }' >"$tools/$name/package.json"
  npm install --silent --no-audit --no-fund --prefer-offline --prefix "$tools/$name" "$@" >"$place/log" 2>&1 && return
  grep -qE 'E404|ETARGET|EBADPLATFORM' "$place/log" || fail "npm install $*"
  skip="npm has no $* for $(node -p 'process.platform + " " + process.arch')"
  rm -r "${tools:?}/$name"
  echo "skipped $name: $skip"
  skipped=$((skipped + 1))
}

version() { node -p "require('$tools/$1/node_modules/$2/package.json').version"; }

# project NAME: makes an empty project with the test programs, and changes into it.
project() {
  mkdir "$place/$1"
  cd "$place/$1"
  echo '{ "name": "user", "version": "1.0.0", "private": true }' >package.json
  cp "$root"/test/consumers/*.{cjs,mjs,mts,js} .
}

# same NAME: checks that a program's output, on standard input, has the same text and score as under npm.
same() { diff "$place/expected.json" - >"$place/log" || fail "$1: what the model writes is not what it writes under npm"; }

if [[ -n "${TARBALL:-}" ]]; then
  tarball=$(realpath "$TARBALL")
else
  quiet npm run --silent prebuilds
  tarball=$place/$(ALLOW_CPU_ONLY=1 npm pack --silent --pack-destination "$place" | tail -1)
  # prebuildify has moved the binary; the checkout needs one.
  quiet node scripts/prepare.js
fi

# The others' output is compared with that of npm's project.
project npm
quiet npm install --no-audit --no-fund --prefer-offline "$tarball"
quiet node train.cjs
node use.mjs >"$place/expected.json"
cp "$place/expected.json" .

try_npm() { pass "npm $(npm --version), Node $(node --version): trains, loads, writes, scores"; }

try_pnpm() {
  take pnpm pnpm
  [[ -z "$skip" ]] || return 0
  project pnpm
  quiet node "$tools/pnpm/node_modules/pnpm/bin/pnpm.mjs" add --store-dir "$place/pnpm-store" "$tarball"
  quiet node train.cjs
  node use.mjs | same pnpm
  pass "pnpm $(version pnpm pnpm): trains, loads, writes, scores"
}

try_yarn() {
  take yarn @yarnpkg/cli-dist
  [[ -z "$skip" ]] || return 0
  project yarn
  touch yarn.lock
  local yarn=(env YARN_NPM_REGISTRY_SERVER="$(npm config get registry)" YARN_GLOBAL_FOLDER="$place/yarn-cache"
    YARN_ENABLE_TELEMETRY=0 YARN_ENABLE_IMMUTABLE_INSTALLS=0 node "$tools/yarn/node_modules/@yarnpkg/cli-dist/bin/yarn.js")
  quiet "${yarn[@]}" add "cudnn-lstm@file:$tarball"
  [[ -f .pnp.cjs && ! -d node_modules ]] || fail 'yarn: it did not install with Plug'\''n'\''Play'
  quiet "${yarn[@]}" node train.cjs
  "${yarn[@]}" node use.mjs | same yarn
  quiet "${yarn[@]}" cudnn-lstm train --hidden 8 --layers 1 --epochs 1 --max-time 5s --out by-command
  pass "Yarn $(version yarn @yarnpkg/cli-dist), Plug'n'Play: trains (library and command), loads, writes, scores"
}

try_deno() {
  take deno "@deno/$(node -p 'process.platform + "-" + process.arch')-glibc"
  [[ -z "$skip" ]] || return 0
  local deno
  deno=$(echo "$tools"/deno/node_modules/@deno/*/deno)
  export DENO_DIR=$place/deno-cache DENO_NO_UPDATE_CHECK=1
  cd "$place/npm"
  rm -r run
  quiet "$deno" run --allow-all train.cjs
  "$deno" run --allow-all use.mjs | same Deno
  pass "$("$deno" --version | head -1): trains, loads, writes, scores"
}

try_bun() {
  take bun "@oven/bun-$(node -p 'process.platform + "-" + process.arch')"
  [[ -z "$skip" ]] || return 0
  local bun
  bun=$(echo "$tools"/bun/node_modules/@oven/*/bin/bun)
  cd "$place/npm"
  rm -r run
  quiet "$bun" train.cjs
  "$bun" use.mjs | same Bun
  pass "Bun $("$bun" --version): trains, loads, writes, scores"
}

# Each release runs with an @types/node of its time, and with the options that find the most: the package's own types are
# checked, and `types` is left at its default.
try_typescript() {
  take typescript {ts5.4@npm:typescript@5.4,ts5.9@npm:typescript@5.9,ts6@npm:typescript@6,ts7@npm:typescript@7} \
    {node5.4@npm:@types/node@20,node5.9@npm:@types/node@22,node6@npm:@types/node@24,node7@npm:@types/node@latest}
  [[ -z "$skip" ]] || return 0
  cd "$place/npm"
  mkdir -p node_modules/@types
  local release resolution
  for release in 5.4 5.9 6 7; do
    ln -sfn "$tools/typescript/node_modules/node$release" node_modules/@types/node
    # Resolution by `bundler` is tried with the newest release.
    local resolutions=(nodenext)
    [[ $release != 7 ]] || resolutions+=(bundler)
    for resolution in "${resolutions[@]}"; do
      cat >tsconfig.json <<END
{
  "compilerOptions": {
    "strict": true, "exactOptionalPropertyTypes": true, "skipLibCheck": false, "noEmit": true, "target": "es2022",
    "module": "${resolution/bundler/esnext}", "moduleResolution": "$resolution"
  },
  "files": ["typed.mts"]
}
END
      quiet node "$tools/typescript/node_modules/ts$release/bin/tsc" -p .
    done
    pass "TypeScript $(version typescript "ts$release"), @types/node $(version typescript "node$release"):" \
      "skipLibCheck false, default types, ${resolutions[*]}"
  done
}

try_jest() {
  take jest jest
  [[ -z "$skip" ]] || return 0
  cd "$place/npm"
  cp model.jest.test.js again.jest.test.js
  quiet node "$tools/jest/node_modules/jest/bin/jest.js" --rootDir . --testMatch '**/*.jest.test.js' --runInBand --ci
  pass "jest $(version jest jest): two files in one process load and write"
}

try_vitest() {
  take vitest vitest
  [[ -z "$skip" ]] || return 0
  cd "$place/npm"
  ln -s "$tools/vitest/node_modules/vitest" node_modules/vitest
  cp model.vitest.test.mjs again.vitest.test.mjs
  for pool in forks threads; do quiet node node_modules/vitest/vitest.mjs run --pool "$pool" vitest; done
  pass "vitest $(version vitest vitest): two files load and write, in processes and in threads"
}

try_esbuild() {
  take esbuild esbuild
  [[ -z "$skip" ]] || return 0
  cd "$place/npm"
  local esbuild=("$tools/esbuild/node_modules/esbuild/bin/esbuild" use.mjs --bundle --platform=node --format=esm --log-level=error)
  quiet "${esbuild[@]}" --external:cudnn-lstm --outfile=external.mjs
  node external.mjs | same 'esbuild, external'
  cd "$place/npm" && mkdir -p "$place/bundled"
  quiet "${esbuild[@]}" --format=cjs --outfile="$place/bundled/use.cjs"
  cp model.safetensors "$place/bundled"
  cd "$place/bundled"
  if node use.cjs >"$place/log" 2>&1; then fail 'esbuild: a bundle found a binary that it does not hold'; fi
  grep -q CUDNN_LSTM_NATIVE_BINDING "$place/log" || fail 'esbuild: the message does not say what a bundle needs'
  CUDNN_LSTM_NATIVE_BINDING=$(echo "$place"/npm/node_modules/cudnn-lstm/prebuilds/*/*.node) node use.cjs | same 'esbuild, bundled'
  pass "esbuild $(version esbuild esbuild): external, and in one file with CUDNN_LSTM_NATIVE_BINDING"
}

for tool in "${wanted[@]}"; do
  declare -F "try_$tool" >/dev/null || fail "$tool: none of npm, pnpm, yarn, deno, bun, typescript, jest, vitest, esbuild"
  "try_$tool"
done
echo "$passed tried, $skipped skipped, $SECONDS s"
