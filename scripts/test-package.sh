#!/usr/bin/env bash
# Packs the package, installs the tarball into an empty folder, and trains there with a PATH that holds node alone: the prebuilt
# binary must load, and nothing may be built or fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
npm run --silent prebuilds >/dev/null
# prebuildify moves the binary that it built.
tarball=$(npm pack --silent --pack-destination "$place" | tail -1)
listing=$(tar -tzf "$place/$tarball")
for wanted in package/dist/cli/main.js package/corpora/the-lamplighters-road.txt package/prebuilds/; do
  grep -q "$wanted" <<<"$listing" || { echo "the tarball lacks $wanted"; exit 1; }
done
if grep -qE 'binding\.gyp|/test/|/build/' <<<"$listing"; then echo 'the tarball holds what it should not'; exit 1; fi
mkdir "$place/bin" "$place/user"
ln -s "$(command -v node)" "$place/bin/node"
cd "$place/user"
echo '{"name":"user","version":"1.0.0"}' >package.json
npm install --silent --no-audit --no-fund --prefer-offline "$place/$tarball"
(
  export PATH="$place/bin" PREBUILDS_ONLY=1
  if command -v c++ || command -v cmake; then echo 'the PATH still has a compiler'; exit 1; fi
  node node_modules/cudnn-lstm/dist/cli/main.js train --epochs 1 --hidden 32 --layers 1 --max-time 20s --out run
  node node_modules/cudnn-lstm/dist/cli/main.js sample run --length 40 --seed 1
  node node_modules/cudnn-lstm/dist/cli/main.js info
)
