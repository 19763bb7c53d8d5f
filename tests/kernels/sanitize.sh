#!/usr/bin/env bash
# Builds the kernels with address and undefined-behaviour sanitizers into build/sanitize and runs
# their tests against that build. Usage: sanitize.sh PYTHON
set -euo pipefail
trap '[ $? = 0 ] || tail -n 20 build/sanitize.log' EXIT
mkdir -p build
# Absolute, but not resolved: the link is what makes it the environment's Python.
case $1 in /*) python=$1 ;; *) python=$PWD/$1 ;; esac
package=build/sanitize/python/outrider
"$python" -m pip install --quiet --disable-pip-version-check cmake nanobind 2> build/sanitize.log
cmake="$(dirname "$python")/cmake"
"$cmake" -S . -B build/sanitize/cmake -DCMAKE_BUILD_TYPE=None -DOUTRIDER_SANITIZE=ON \
  -DOUTRIDER_WERROR=ON -DPython_EXECUTABLE="$python" > build/sanitize.log 2>&1
"$cmake" --build build/sanitize/cmake --parallel "$(nproc)" >> build/sanitize.log 2>&1
rm -rf "$package"
mkdir -p "$(dirname "$package")"
cp -r src/outrider "$package"
rm -f "$package"/kernels/*.so
cp build/sanitize/cmake/_kernels*.so "$package/kernels/"
# Python itself isn't built with the sanitizer: its runtime has to come first, and what Python
# leaves unfreed at exit isn't ours. -S keeps out the import hook of an editable install, which would
# find the ordinary kernels before the path is looked at.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
export PYTHONPATH="$PWD/build/sanitize/python:$packages" ASAN_OPTIONS=detect_leaks=0
export UBSAN_OPTIONS=halt_on_error=1
export LD_PRELOAD="$(${CXX:-c++} -print-file-name=libasan.so) $(${CXX:-c++} -print-file-name=libubsan.so)"
"$python" -S -c 'from outrider.kernels import _kernels
assert "sanitize" in _kernels.__file__, _kernels.__file__'
"$python" -S -m pytest -q -p no:cacheprovider tests/kernels tests/model
