#!/usr/bin/env bash
# Packs the package, checks what is in the tarball, installs it into an empty folder, and trains there on a PATH with node alone: the
# prebuilt binary must load, and nothing may be built or fetched. Also installs it from this repository as from any git address, which
# compiles it. With REQUIRE_CUDA=1 the binary has the CUDA backend, as a release's must; without it, npm pack must refuse the binary.
#
#   scripts/test-package.sh [FOLDER]   leaves the tarball in FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() { echo "$*" >&2; exit 1; }

npm run --silent prebuilds >/dev/null # prebuildify moves the binary that it built.
if [[ "${REQUIRE_CUDA:-}" != 1 && "$(node -p 'process.platform + process.arch')" == linuxx64 ]]; then
  if npm pack --silent --pack-destination "$place" 2>"$place/refusal"; then fail 'a binary without the CUDA backend was packed'; fi
  grep -q 'the binary has no CUDA backend' "$place/refusal" || fail "$(cat "$place/refusal")"
  export ALLOW_CPU_ONLY=1
fi
before=$(sha256sum package.json)
tarball=$(npm pack --silent --pack-destination "$place" | tail -1)
[[ "$(sha256sum package.json)" == "$before" ]] || fail 'packing changed package.json'

[[ $# == 0 ]] || cp "$place/$tarball" "$1"
tar -xzf "$place/$tarball" -C "$place"
(
  cd "$place/package"
  for wanted in dist/cli/main.js dist/types/index.d.ts corpora/the-lamplighters-road.txt prebuilds scripts/fetch-nvidia; do
    [[ -e $wanted ]] || fail "the tarball lacks $wanted"
  done
  unwanted=$(find . -name binding.gyp -o -name '*.test.*' -o -path './build*' -o -path './test' -o -path ./node_modules -o \
    -name '*.d.ts' -not -path './dist/types/*')
  [[ -z "$unwanted" ]] || fail "the tarball holds $unwanted"
  node -e 'if (require("./package.json").scripts) process.exit(1)' || fail 'the package has scripts'
)
node scripts/check-links.js "$place/package"

mkdir "$place/bin" "$place/user"
ln -s "$(command -v node)" "$place/bin/node"
cd "$place/user"
echo '{"name":"user","version":"1.0.0"}' >package.json
npm install --no-audit --no-fund --prefer-offline "$place/$tarball" >"$place/install" 2>&1 || fail "$(cat "$place/install")"
if grep -i warn "$place/install"; then fail 'npm warns of the package'; fi
packages=$(npm ls --all --parseable | tail -n +2 | wc -l)
echo "$packages packages installed, $(du -sm node_modules | cut -f1) MB"
((packages <= 12)) || fail 'more than a dozen packages, this one counted'
(
  export PATH="$place/bin" PREBUILDS_ONLY=1
  if command -v c++ || command -v cmake; then fail 'the PATH still has a compiler'; fi
  node node_modules/cudnn-lstm/dist/cli/main.js train --epochs 1 --hidden 32 --layers 1 --max-time 20s --out run
  node node_modules/cudnn-lstm/dist/cli/main.js sample run --length 40 --seed 1
  node node_modules/cudnn-lstm/dist/cli/main.js info
  # If a package that only some files need is missing, one line asks for it.
  node node_modules/cudnn-lstm/dist/cli/main.js export run --to pytorch --out model.pt
  if node node_modules/cudnn-lstm/dist/cli/main.js import model.pt --out imported 2>"$place/refusal"; then
    fail 'a zip archive was read without yauzl'
  fi
)
if [[ $(wc -l <"$place/refusal") != 1 ]] || ! grep -q 'npm install yauzl' "$place/refusal"; then fail "$(cat "$place/refusal")"; fi

mkdir "$place/from-git"
cd "$place/from-git"
echo '{"name":"user","version":"1.0.0"}' >package.json
npm install --no-audit --no-fund --prefer-offline "git+file://$root" >"$place/install" 2>&1 || fail "$(cat "$place/install")"
(
  export PATH="$place/bin"
  node node_modules/cudnn-lstm/dist/cli/main.js train --epochs 1 --hidden 32 --layers 1 --max-time 20s --out run
  node node_modules/cudnn-lstm/dist/cli/main.js sample run --length 40 --seed 1
)
echo 'installed from git: it loads the binary that was compiled'
