"""The worker threads: more of them than cores compute the same, and idle ones are no load."""

from __future__ import annotations

import threading
import time

import numpy as np

from outrider import kernels
from outrider.kernels import layout


def test_more_threads_than_cores_compute_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    weight = kernels.Weight(0, 640, 64, layout.pack_f32(rng.standard_normal((640, 64), np.float32)))
    x, out = rng.standard_normal((1, 64), np.float32), np.empty((1, 640), np.float32)
    kernels.linear(kernels.Context(1), x, [weight], [out])
    expected = out.copy()

    def compute() -> None:
        context, mine = kernels.Context(9), np.empty_like(out)
        for _ in range(200):
            mine[:] = np.nan
            kernels.linear(context, x, [weight], [mine])
            np.testing.assert_array_equal(mine, expected)

    failures: list[str] = []
    previous, threading.excepthook = threading.excepthook, lambda args: failures.append(str(args))
    try:
        threads = [threading.Thread(target=compute) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = previous
    assert not failures


def test_idle_workers_use_no_cpu() -> None:
    context = kernels.Context(4)
    weight = kernels.Weight(0, 640, 64, layout.pack_f32(np.ones((640, 64), np.float32)))
    x, out = np.ones((1, 64), np.float32), np.empty((1, 640), np.float32)
    kernels.linear(context, x, [weight], [out])
    before = time.process_time()
    time.sleep(0.2)
    # Three workers that spin would use 0.2 s each, on any number of cores.
    assert time.process_time() - before < 0.05
