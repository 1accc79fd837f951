#!/usr/bin/env bash
# Runs both programs in examples/ against this checkout as a user's project would, importing it by the package's name.
set -euo pipefail
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir -p "$place/node_modules"
ln -s "$PWD" "$place/node_modules/cudnn-lstm"
cp examples/* "$place/"
cd "$place"
for program in *.cjs *.mjs; do
  echo "-- $program"
  node "$program"
done
