#!/usr/bin/env bash
# Runs the test suite again and again alongside busy loops, one per core: a test that fails only then is a faulty test.
#
#   scripts/stress.sh [times, 20] [jest's arguments]   for instance: scripts/stress.sh 5 test/lifecycle; failures are in stress-N.log
#   LOOPS=0 scripts/stress.sh                          another number of busy loops: none on a machine that is already busy
set -euo pipefail
cd "$(dirname "$0")/.."
times=20
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then
  times=$1
  shift
fi
loops=()
trap '[[ ${#loops[@]} -eq 0 ]] || kill "${loops[@]}"' EXIT
for ((i = 0; i < ${LOOPS:-$(nproc)}; i++)); do
  (while :; do :; done) &
  loops+=($!)
done
failed=0
echo "$times times beside ${#loops[@]} busy loops, load $(cut -d' ' -f1-3 /proc/loadavg)"
for ((i = 1; i <= times; i++)); do
  began=$SECONDS
  if npx jest --ci "$@" >"stress-$i.log" 2>&1; then
    longest=$(sed -nE 's/^PASS (.*) \(([0-9.]+) s\)$/\2 s \1/p' "stress-$i.log" | sort -rn | head -n 1)
    echo "run $i of $times: passed in $((SECONDS - began)) s, longest: ${longest:-(no file took long)}"
    rm "stress-$i.log"
  else
    failed=$((failed + 1))
    echo "run $i of $times: FAILED in $((SECONDS - began)) s, see stress-$i.log"
    grep '●' "stress-$i.log" | sort -u || true
  fi
done
echo "$((times - failed)) of $times runs passed"
[[ $failed -eq 0 ]]
