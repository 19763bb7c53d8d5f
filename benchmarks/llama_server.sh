#!/bin/sh
# Builds llama.cpp's llama-server, the peer of serve.py, from the source that the package
# llama-cpp-python of a version carries: native code, no web page, no TLS. Takes some ten minutes on
# two cores. Usage: llama_server.sh PYTHON VERSION BINARY
set -eu
python=$1 version=$2 binary=$3
for tool in cmake c++ tar; do
  command -v "$tool" > /dev/null || {
    echo "llama-server needs $tool: install it, on Debian: apt-get install cmake g++ tar" >&2
    exit 1
  }
done
mkdir -p "$(dirname "$binary")"
folder=$(mktemp -d "$(dirname "$binary")/llama-server.XXXXXX")
trap 'rm -rf "$folder"' EXIT INT TERM
"$python" -m pip download --no-deps --no-binary :all: \
  --dest "$folder" "llama-cpp-python==$version"
tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder"
cmake -S "$folder"/llama_cpp_python-*/vendor/llama.cpp -B "$folder/build" \
  -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
  -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
cmake --build "$folder/build" --target llama-server --parallel "${JOBS:-2}"
mv "$folder/build/bin/llama-server" "$binary"
