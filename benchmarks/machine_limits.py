"""What this machine can do at best, measured now: bytes read and products per second.

A small C++ program (machine_limits.cpp) is compiled for this processor: plain reading of a buffer
that no cache holds, and int8, bf16 and f32 products in registers. Without a compiler reading is
measured with NumPy's sum and products not at all. `MachineLimits` measures again whenever it is
asked, because the figures drift. Usage: machine_limits.py [--threads N] [--rounds N] [--out FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outrider.machine import num_cores

SOURCE = Path(__file__).with_suffix(".cpp")
BUFFER_BYTES = 512 << 20
NUM_PASSES = 4
NUM_STEPS = 1_000_000  # about 10 ms
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
KINDS = ("int8", "bf16", "f32")
Limits = dict[str, float]


class MachineLimits:
    """Measures with a number of threads; holds the buffer that it reads."""

    def __init__(self, num_threads: int | None = None, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.num_threads = num_threads or num_cores()
        self._data = aligned_ones(buffer_bytes)
        self._library = compile_library()

    @property
    def method(self) -> str:
        """Say how reading is measured."""
        if self._library is None:
            return "NumPy sum of uint64, one part per thread (no C++ compiler was found)"
        return f"{SOURCE.name}: sum of 64-byte words, best of {NUM_PASSES} passes"

    def read_gb_per_s(self) -> float:
        """Give GB/s read from memory by all threads together; takes about 40 ms."""
        if self._library is None:
            return numpy_read_gb_per_s(self._data, self.num_threads)
        address, num_bytes = self._data.ctypes.data, self._data.nbytes
        return float(self._library.read_gb_per_s(address, num_bytes, self.num_threads, NUM_PASSES))

    def gmac_per_s(self, kind: str) -> float:
        """Give billions of products per second of a kind; 0: this processor has no such thing."""
        if self._library is None:
            return 0.0
        measure = getattr(self._library, f"{kind}_gmac_per_s")
        measure(self.num_threads, NUM_STEPS // 10)  # until the clock is where it stays
        return max(float(measure(self.num_threads, NUM_STEPS)) for _ in range(NUM_PASSES))

    def measure(self) -> Limits:
        """Measure everything once."""
        products = {f"{kind}_gmac_per_s": self.gmac_per_s(kind) for kind in KINDS}
        return {"read_gb_per_s": self.read_gb_per_s(), **products}


def aligned_ones(num_bytes: int) -> NDArray[np.uint8]:
    """Give written memory that begins at a cache line."""
    data = np.ones(num_bytes + 64, np.uint8)
    start = -data.ctypes.data % 64
    return data[start : start + num_bytes]


def compile_library() -> ctypes.CDLL | None:
    """Compile and load the C++ part, once per version of it and processor; None if that fails."""
    compiler = os.environ.get("CXX", "c++")
    key = "\n".join([SOURCE.read_text(encoding="utf-8"), compiler, *FLAGS, describe_cpu()])
    name = f"machine_limits-{hashlib.sha256(key.encode()).hexdigest()[:12]}.so"
    path = SOURCE.parents[1] / "build" / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(partial)]
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        partial.replace(path)
    library = ctypes.CDLL(str(path))
    library.read_gb_per_s.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int)
    functions = [getattr(library, f"{kind}_gmac_per_s") for kind in KINDS]
    for function in functions:
        function.argtypes = (ctypes.c_int, ctypes.c_int64)
    for function in (library.read_gb_per_s, *functions):
        function.restype = ctypes.c_double
    return library


def numpy_read_gb_per_s(data: NDArray[np.uint8], num_threads: int) -> float:
    """Give GB/s of NumPy's sum, which lets other threads run meanwhile."""
    parts = np.array_split(data[: data.nbytes // 8 * 8].view(np.uint64), num_threads)
    best = 0.0
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(NUM_PASSES):
            begin = time.perf_counter()
            list(pool.map(np.sum, parts))
            best = max(best, data.nbytes / (time.perf_counter() - begin) / 1e9)
    return best


def describe_cpu() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def medians(measure: Callable[[], Limits], rounds: int) -> dict[str, dict[str, float]]:
    """Give median, minimum and maximum of each limit over some rounds."""
    measured = [measure() for _ in range(rounds)]
    return {
        name: {
            "median": statistics.median(row[name] for row in measured),
            "min": min(row[name] for row in measured),
            "max": max(row[name] for row in measured),
        }
        for name in measured[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench-limits.json"))
    arguments = parser.parse_args()
    limits = MachineLimits(arguments.threads)
    measured = medians(limits.measure, arguments.rounds)
    print(f"{describe_cpu()}, {arguments.threads} threads; {limits.method}")
    for name, row in measured.items():
        print(f"{name:18}{row['median']:10,.1f}{row['min']:10,.1f} -{row['max']:10,.1f}")
    report = {"machine": describe_cpu(), "threads": arguments.threads, "method": limits.method}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**report, **measured}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
