"""What single kernels reach: weights read per second and multiplications per second.

Matmul in each format with 1, 16 and 512 rows, the same with experts, and attention over a paged
cache for a prompt, a long context, a batch and a tile of a vision tower. Best of several runs;
compare before and after a change on one machine.
Usage: kernels.py [--threads N] [--isa NAME] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels.formats import Format, packed_nbytes
from outrider.machine import num_cores
from outrider.model.kv_cache import block_shapes

RUNS = 12
# SmolLM2's gate projection, Scout's query projection, the first matrix of its vision tower's MLP
SHAPES = ((1536, 576), (5120, 5120), (5632, 1408))
ROWS = (1, 16, 512)
NUM_EXPERTS, EXPERT_SHAPE = 16, (1024, 2560)


class Scene(NamedTuple):
    """Queries at the end of sequences of one length."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    length: int
    queries: int
    num_seqs: int
    dtype: str = "bf16"
    is_causal: bool = True


SCENES = (
    Scene(9, 3, 64, 512, 512, 1),
    Scene(9, 3, 64, 4096, 1, 1),
    Scene(9, 3, 64, 128, 1, 16),
    Scene(9, 3, 64, 1604, 100, 1),
    Scene(40, 8, 128, 512, 512, 1),
    Scene(40, 8, 128, 512, 512, 1, "int8"),
    Scene(40, 8, 128, 8192, 1, 1),
    Scene(40, 8, 128, 8192, 1, 1, "int8"),
    Scene(16, 16, 88, 577, 577, 1, is_causal=False),
    Scene(40, 8, 128, 512, 512, 1, "f32"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--out", type=Path, default=Path("build/bench-kernels.json"))
    arguments = parser.parse_args()
    context = kernels.Context(arguments.threads, arguments.isa)
    print(f"{context.num_threads} threads, {context.isa}")
    print(f"{'kernel':44}{'us':>10}{'GB/s':>8}{'GMAC/s':>9}")
    rows = [
        matmul(context, fmt, shape, num_rows)
        for fmt in Format
        for shape in SHAPES
        for num_rows in ROWS
    ]
    rows += [experts(context, fmt, num_rows) for fmt in Format for num_rows in ROWS]
    rows += [attention(context, scene) for scene in SCENES]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def weight_bytes(num_bytes: int) -> NDArray[np.uint8]:
    """Give bytes that are small finite numbers in all formats, aligned as in a packed file."""
    data = np.full(num_bytes + 63, 0x3C, np.uint8)
    begin = -data.ctypes.data % 64
    return data[begin : begin + num_bytes]


def matmul(
    context: kernels.Context, fmt: Format, shape: tuple[int, int], num_rows: int
) -> dict[str, object]:
    """Measure x [T, K] times a packed weight [N, K]."""
    n, k = shape
    num_bytes = packed_nbytes(fmt, n, k)
    weight = kernels.Weight(int(fmt), n, k, weight_bytes(num_bytes))
    x = np.random.default_rng(0).standard_normal((num_rows, k), np.float32)
    out = np.empty((num_rows, n), np.float32)
    seconds = best(lambda: kernels.linear(context, x, [weight], [out]))
    name = f"linear {fmt.name.lower()} [{n}, {k}], {num_rows} rows"
    return report(name, seconds, num_bytes, num_rows * n * k)


def experts(context: kernels.Context, fmt: Format, num_rows: int) -> dict[str, object]:
    """Measure rows spread evenly over experts; only the bytes of those that have rows count."""
    n, k = EXPERT_SHAPE
    num_bytes = packed_nbytes(fmt, n, k)
    data = weight_bytes(NUM_EXPERTS * num_bytes)
    weight = kernels.Experts(int(fmt), NUM_EXPERTS, n, k, data)
    x = np.random.default_rng(0).standard_normal((num_rows, k), np.float32)
    out = np.empty((num_rows, n), np.float32)
    cu_rows = (np.arange(NUM_EXPERTS + 1) * num_rows // NUM_EXPERTS).astype(np.int32)
    seconds = best(lambda: kernels.grouped_linear(context, x, cu_rows, [weight], [out]))
    name = f"{NUM_EXPERTS} experts {fmt.name.lower()} [{n}, {k}], {num_rows} rows"
    active = min(num_rows, NUM_EXPERTS)
    return report(name, seconds, active * num_bytes, num_rows * n * k)


def make_cache(scene: Scene) -> tuple[NDArray[np.generic], ...]:
    """Make an empty cache with the blocks of every sequence."""
    blocks = -(-scene.length // 16) * scene.num_seqs
    kind = {"f32": np.float32, "bf16": np.uint16, "int8": np.int8}[scene.dtype]
    shape = (blocks, scene.num_kv_heads)
    k_shape, v_shape = block_shapes(shape, scene.head_dim, scene.dtype)
    cache = np.zeros(k_shape, kind), np.zeros(v_shape, kind)
    if scene.dtype != "int8":
        return cache
    return *cache, np.zeros((*shape, 16), np.float16), np.zeros((*shape, 16), np.float16)


def attention(context: kernels.Context, scene: Scene) -> dict[str, object]:
    """Measure attention; a prompt's rows see half of it on average."""
    cache = make_cache(scene)
    shape = (scene.queries * scene.num_seqs, scene.num_heads, scene.head_dim)
    q = np.random.default_rng(0).standard_normal(shape, np.float32)
    out = np.empty_like(q)
    sequences = (
        np.arange(len(cache[0]), dtype=np.int32).reshape(scene.num_seqs, -1),
        np.arange(scene.num_seqs + 1, dtype=np.int32) * scene.queries,
        np.full(scene.num_seqs, scene.length, np.int32),
    )
    seconds = best(
        lambda: kernels.attend(context, q, cache, sequences, 0, 0.1, out, scene.is_causal)
    )
    pairs = scene.num_seqs * scene.length * scene.queries
    if scene.is_causal:
        pairs -= scene.num_seqs * scene.queries * (scene.queries - 1) // 2
    heads = f"{scene.num_heads}/{scene.num_kv_heads}x{scene.head_dim} {scene.dtype}"
    name = f"attend {heads}, {scene.num_seqs}x{scene.queries} over {scene.length}"
    num_bytes = sum(array.nbytes for array in cache)
    return report(name, seconds, num_bytes, 2 * pairs * scene.num_heads * scene.head_dim)


def best(run: Callable[[], None]) -> float:
    """Give the seconds of the fastest run."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def report(name: str, seconds: float, num_bytes: int, macs: int) -> dict[str, object]:
    gb_per_s, gmac_per_s = num_bytes / seconds / 1e9, macs / seconds / 1e9
    print(f"{name:44}{seconds * 1e6:10.1f}{gb_per_s:8.1f}{gmac_per_s:9.1f}")
    return {"kernel": name, "us": seconds * 1e6, "gb_per_s": gb_per_s, "gmac_per_s": gmac_per_s}


if __name__ == "__main__":
    main()
