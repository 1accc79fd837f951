#!/usr/bin/env bash
# Runs the tests on each Node release that the package supports; npm's node-* packages carry the binaries. One addon serves them all.
#
#   scripts/test-node-versions.sh                  every test on each
#   scripts/test-node-versions.sh test/unit/cli …  these tests on each, as jest takes them
#   VERSIONS='22 26' scripts/test-node-versions.sh these releases
set -euo pipefail
cd "$(dirname "$0")/.."
package=node-$(node -p '`${process.platform}-${process.arch}`')
for version in ${VERSIONS:-20.17 22 24 26}; do
  place=build-node/$version
  binary=$place/node_modules/$package/bin/node
  [[ -x $binary ]] || npm install --silent --no-save --no-audit --no-fund --prefix "$place" "$package@$version"
  echo "-- Node $("$binary" --version)"
  # Tests start other programs by process.execPath, which is this binary.
  "$binary" node_modules/jest/bin/jest.js --ci "$@"
done
