#!/usr/bin/env bash
# The ranks' tests under the MPI libraries of Debian, Open MPI and MPICH, and a stand-in of the standard ABI, on one machine and on two
# network namespaces. Installs the packages where they are missing (as root). With an argument: which tests, as jest takes them.
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
