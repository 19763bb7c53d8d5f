#!/bin/sh
# Builds llama.cpp as a peer from the source that the package llama-cpp-python of a version carries:
#   server  the program llama-server for this processor, for serve.py; no web page, no TLS
#   avx2    a folder of libraries that use AVX2 and nothing newer, for engine.py --peer-library
# Takes some ten minutes on two cores. Usage: llama_cpp_build.sh PYTHON VERSION server|avx2 RESULT
set -eu
python=$1 version=$2 kind=$3 result=$4
for tool in cmake c++ tar; do
  command -v "$tool" > /dev/null || {
    echo "llama.cpp needs $tool: install it, on Debian: apt-get install cmake g++ tar" >&2
    exit 1
  }
done
case $kind in
  server)
    target=llama-server
    options="-DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_SERVER=ON"
    ;;
  avx2)
    target=llama
    options="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON
      -DGGML_BMI2=ON -DGGML_AVX512=OFF -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_SERVER=OFF
      -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TOOLS=OFF"
    ;;
  *)
    echo "there is no kind $kind; choose server or avx2" >&2
    exit 1
    ;;
esac
mkdir -p "$(dirname "$result")"
folder=$(mktemp -d "$(dirname "$result")/llama-cpp.XXXXXX")
trap 'rm -rf "$folder"' EXIT INT TERM
"$python" -m pip download --no-deps --no-binary :all: \
  --dest "$folder" "llama-cpp-python==$version"
tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder"
# shellcheck disable=SC2086 # one option per word
cmake -S "$folder"/llama_cpp_python-*/vendor/llama.cpp -B "$folder/build" \
  -DCMAKE_BUILD_TYPE=Release $options -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
cmake --build "$folder/build" --target "$target" --parallel "${JOBS:-2}"
if [ "$kind" = server ]; then
  mv "$folder/build/bin/llama-server" "$result"
else
  rm -rf "$result"
  mv "$folder/build/bin" "$result"
fi
