#!/usr/bin/env bash
# Formats the C++ and CUDA sources, or with --check only checks whether they are formatted.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(-i)
if [[ "${1:-}" == --check ]]; then mode=(--dry-run -Werror); fi
find native \( -name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh' \) -print0 | xargs -0 clang-format "${mode[@]}"
