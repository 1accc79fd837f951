#!/usr/bin/env bash
# Runs the ranks' tests under Debian's MPI libraries, Open MPI and MPICH, and a stand-in for the standard ABI, on one machine and on two
# network namespaces. Installs missing packages (as root). Arguments name the tests to run, as jest takes them.
set -euo pipefail
cd "$(dirname "$0")/.."
need() { # command, Debian package
  command -v "$1" >/dev/null && return
  apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2" >/dev/null; }
}
need mpirun.openmpi openmpi-bin
need mpirun.mpich mpich
need ip iproute2 || true # Without it that part is skipped.
mpirun.openmpi --version | head -1
mpirun.mpich --version | grep -i version | head -1
MPI=1 npx jest --ci "${@:-test/lifecycle/ranks}"
