"""What this machine can do at best, measured now: bytes read and products made per second.

No kernel can be faster, so a speed is judged by its share of these. They drift from minute to
minute, on virtual machines by a third and more: measure them again beside whatever they judge.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from outrider import kernels

KINDS = ("int8", "bf16", "f32")  # in the order of kernels.h
BUFFER_BYTES = 512 << 20  # more than any cache holds
_NUM_PASSES = 4  # the best counts
_NUM_STEPS = 1_000_000  # about 5 ms


class MachineLimits:
    """Measures with the threads and the instruction set of a context; holds what it reads."""

    def __init__(self, context: kernels.Context, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._context = context
        self.num_threads = context.num_threads
        self._words = np.ones(buffer_bytes // 8, np.uint64)

    def read_gb_per_s(self) -> float:
        """Give GB/s read from memory by all threads together; takes about 40 ms."""
        return _best(self._read)

    def gmac_per_s(self, kind: str) -> float:
        """Give billions of products per second of a kind; 0: no instruction for it is known."""
        index = KINDS.index(kind)
        kernels.count_products(self._context, index, _NUM_STEPS // 10)  # until the clock is up
        return _best(lambda: kernels.count_products(self._context, index, _NUM_STEPS))

    def measure(self) -> dict[str, float]:
        """Measure everything once; takes about 150 ms."""
        products = {f"{kind}_gmac_per_s": self.gmac_per_s(kind) for kind in KINDS}
        return {"read_gb_per_s": self.read_gb_per_s(), **products}

    def _read(self) -> int:
        kernels.sum_words(self._context, self._words)
        return self._words.nbytes


def _best(work: Callable[[], int]) -> float:
    """Give billions per second of the fastest of some runs; a run gives how many it did."""
    best = 0.0
    for _ in range(_NUM_PASSES):
        begin = time.perf_counter()
        count = work()
        best = max(best, count / (time.perf_counter() - begin) / 1e9)
    return best
