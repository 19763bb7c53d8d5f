"""Pieces of work for single kernels: what is called, what it must read and multiply at least.

Weights come from one buffer larger than any cache and each call takes the next matrix of it, as in
a model, where a matrix is met once per step. Nothing is timed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels.formats import Format, packed_nbytes, padded
from outrider.model.config import BLOCK_SIZE
from outrider.model.kv_cache import block_shapes

BUFFER_BYTES = 256 << 20
MAX_COPIES = 512  # of a matrix
NUM_EXPERTS = 16
CACHES_BYTES = 64 << 20  # of keys and values that take turns
ALIGNMENT = 64  # as in a packed file


@dataclass(frozen=True)
class Work:
    """One call of a kernel and the least that it takes."""

    name: str
    run: Callable[[], None]
    num_bytes: int
    macs: int = 0
    kind: str = "f32"  # of the products
    is_cached: bool = False  # what it reads was just written: memory bounds nothing

    def limit_seconds(self, limits: dict[str, float]) -> tuple[float, str]:
        """Give the least time and what bounds it; products whose limit is unknown don't count."""
        if self.is_cached:
            return 0.0, "caches"
        read_s = self.num_bytes / limits["read_gb_per_s"] / 1e9
        rate = limits[f"{self.kind}_gmac_per_s"]
        if not rate and self.kind == "bf16":  # without such products, f32 is the best
            rate = limits["f32_gmac_per_s"]
        product_s = self.macs / rate / 1e9 if rate else 0.0
        return max((read_s, "reading"), (product_s, "products"))


class Scene(NamedTuple):
    """Queries at the end of sequences of one length, for attention."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    length: int
    queries: int
    num_seqs: int
    dtype: str = "bf16"
    is_causal: bool = True


class Bench:
    """Makes work for a context of threads."""

    def __init__(self, context: kernels.Context, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.context = context
        self._data = _filled(buffer_bytes)
        self._rng = np.random.default_rng(0)

    def linear(self, fmt: Format, shape: tuple[int, int], num_rows: int) -> Work:
        """Multiply x [T, K] by a weight [N, K]."""
        n, k = shape
        num_bytes = packed_nbytes(fmt, n, k)
        weights = cycle([kernels.Weight(int(fmt), n, k, part) for part in self._parts(num_bytes)])
        x, out = self._rows(num_rows, k), np.empty((num_rows, n), np.float32)

        def run() -> None:
            kernels.linear(self.context, x, [next(weights)], [out])

        name = f"linear {fmt.name.lower()} [{n}, {k}], {_rows(num_rows)}"
        return Work(name, run, num_bytes, num_rows * n * k, _kind(fmt))

    def experts(self, fmt: Format, shape: tuple[int, int], num_rows: int) -> Work:
        """Multiply rows, spread evenly, by one weight per expert; idle experts aren't read."""
        n, k = shape
        num_bytes = packed_nbytes(fmt, n, k)
        stacks = [
            kernels.Experts(int(fmt), NUM_EXPERTS, n, k, part)
            for part in self._parts(NUM_EXPERTS * num_bytes)
        ]
        # Other experts in each round over the stacks: with few rows most of a stack is idle.
        spread = np.diff(np.arange(NUM_EXPERTS + 1) * num_rows // NUM_EXPERTS)
        calls = cycle(
            [
                (stack, _bounds(np.roll(spread, 5 * i)))
                for i in range(NUM_EXPERTS)
                for stack in stacks
            ]
        )
        x, out = self._rows(num_rows, k), np.empty((num_rows, n), np.float32)

        def run() -> None:
            stack, cu_rows = next(calls)
            kernels.grouped_linear(self.context, x, cu_rows, [stack], [out])

        name = f"{NUM_EXPERTS} experts {fmt.name.lower()} [{n}, {k}], {_rows(num_rows)}"
        hit = min(num_rows, NUM_EXPERTS)
        return Work(name, run, hit * num_bytes, num_rows * n * k, _kind(fmt))

    def attention(self, scene: Scene) -> Work:
        """Attend over a paged cache; a causal prompt's rows see half of it on average."""
        caches = [make_cache(scene)]
        num_bytes = sum(array.nbytes for array in caches[0])
        caches += [make_cache(scene) for _ in range(CACHES_BYTES // num_bytes)]
        layers = cycle(caches)
        q = self._rows(scene.queries * scene.num_seqs * scene.num_heads, scene.head_dim)
        q = q.reshape(-1, scene.num_heads, scene.head_dim)
        out = np.empty_like(q)
        sequences = (
            np.arange(len(caches[0][0]), dtype=np.int32).reshape(scene.num_seqs, -1),
            np.arange(scene.num_seqs + 1, dtype=np.int32) * scene.queries,
            np.full(scene.num_seqs, scene.length, np.int32),
        )

        def run() -> None:
            kernels.attend(self.context, q, next(layers), sequences, 0, 0.1, out, scene.is_causal)

        heads = f"{scene.num_heads}/{scene.num_kv_heads}x{scene.head_dim} {scene.dtype}"
        name = f"attend {heads}, {scene.num_seqs}x{scene.queries} over {scene.length}"
        macs = 2 * num_pairs(scene) * scene.num_heads * scene.head_dim
        # int8 keys and values are widened to bf16 before they are multiplied.
        return Work(name, run, num_bytes, macs, "f32" if scene.dtype == "f32" else "bf16")

    def rowwise(self, num_rows: int, cols: int) -> Iterator[Work]:
        """Give the kernels that work on rows; what they write counts as read."""
        x, y = self._rows(num_rows, cols), self._rows(num_rows, cols)
        gain, out = np.ones(cols, np.float32), np.empty((num_rows, cols), np.float32)
        context = self.context
        for name, arrays, run in (
            ("rmsnorm", 2, lambda: kernels.rmsnorm(context, x, gain, 1e-5, out)),
            ("swiglu", 3, lambda: kernels.swiglu(context, x, y, out)),
            ("gelu", 2, lambda: kernels.gelu(context, x, out)),
        ):
            yield Work(f"{name} [{num_rows}, {cols}]", run, arrays * x.nbytes, is_cached=True)

    def _rows(self, num_rows: int, cols: int) -> NDArray[np.float32]:
        return self._rng.standard_normal((num_rows, cols), np.float32)

    def _parts(self, num_bytes: int) -> Iterator[NDArray[np.uint8]]:
        """Cut the buffer; what is larger than it gets memory of its own."""
        if num_bytes > self._data.nbytes:
            yield _filled(num_bytes)
        step = padded(num_bytes, ALIGNMENT)
        for part in range(min(self._data.nbytes // step, MAX_COPIES)):
            yield self._data[part * step : part * step + num_bytes]


def _filled(num_bytes: int) -> NDArray[np.uint8]:
    """Give aligned bytes of which every pattern is a small finite number in all formats."""
    data = np.full(num_bytes + ALIGNMENT, 0x3C, np.uint8)
    begin = -data.ctypes.data % ALIGNMENT
    return data[begin : begin + num_bytes]


def _bounds(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32)


def num_pairs(scene: Scene) -> int:
    """Count the pairs of a query and a key that it sees."""
    pairs = scene.num_seqs * scene.length * scene.queries
    if scene.is_causal:
        pairs -= scene.num_seqs * scene.queries * (scene.queries - 1) // 2
    return pairs


def make_cache(scene: Scene) -> tuple[NDArray[np.generic], ...]:
    """Make a cache with the blocks of every sequence, written: untouched pages are all the same."""
    blocks = -(-scene.length // BLOCK_SIZE) * scene.num_seqs
    heads = (blocks, scene.num_kv_heads)
    kind = {"f32": np.float32, "bf16": np.uint16, "int8": np.int8}[scene.dtype]
    cache = tuple(
        np.full(shape, 0x3C, kind) for shape in block_shapes(heads, scene.head_dim, scene.dtype)
    )
    if scene.dtype != "int8":
        return cache
    return *cache, *(np.ones((*heads, BLOCK_SIZE), np.float16) for _ in range(2))


def _kind(fmt: Format) -> str:
    if fmt.is_quantised:
        return "int8"
    return "bf16" if fmt is Format.BF16 else "f32"


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
