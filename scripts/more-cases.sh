#!/usr/bin/env bash
# Runs the property tests with many times as many random cases: what fails once in a thousand runs of npm test fails here.
#
#   scripts/more-cases.sh [times, 40] [files or folders of tests, test]
set -euo pipefail
cd "$(dirname "$0")/.."
export MORE_CASES=40
if [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  MORE_CASES=$1
  shift
fi
files=$(grep -rl --include='*.test.ts' "from 'fast-check'" "${@:-test}")
# shellcheck disable=SC2086 # one word a file
npx jest --ci $files
