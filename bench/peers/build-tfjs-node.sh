#!/usr/bin/env bash
# Installs the TensorFlow.js peers on a machine where npm cannot fetch tfjs-node's native library: its binding is compiled against the
# library that TensorFlow's Python wheel brings.
#
#   bench/peers/build-tfjs-node.sh [PYTHON]     PYTHON has tensorflow or tensorflow-cpu; default python3
set -euo pipefail
cd "$(dirname "$0")"
python=${1:-python3}
headers=../../node_modules/node-api-headers/include
[ -f "$headers/node_api.h" ] || { echo "no node_api.h: run npm install in the root first" >&2; exit 1; }
tensorflow=$("$python" -c 'import importlib.util; print(importlib.util.find_spec("tensorflow").submodule_search_locations[0])')

npm install --ignore-scripts --no-package-lock --no-audit --no-fund
module=node_modules/@tensorflow/tfjs-node
mkdir -p "$module/deps/lib" "$module/lib/napi-v8"
ln -sfn "$tensorflow/include" "$module/deps/include"
ln -sf "$tensorflow"/libtensorflow_cc.so.2 "$tensorflow"/libtensorflow_framework.so.2 "$module/deps/lib/"
${CXX:-c++} -O2 -std=c++17 -fPIC -shared -DNAPI_VERSION=8 -DBUILDING_NODE_EXTENSION -w \
  -I "$headers" -I "$module" -I "$module/deps/include" "$module"/binding/tfjs_b*.cc -o "$module/lib/napi-v8/tfjs_binding.node" \
  -L "$module/deps/lib" -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,"\$ORIGIN/../../deps/lib"
node -e 'console.log(`tfjs-node with TensorFlow ${require("@tensorflow/tfjs-node").backend().binding.TF_Version}`)' 2>/dev/null
