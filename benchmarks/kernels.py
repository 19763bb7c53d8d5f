"""What single kernels reach: weights read per second and multiplications per second.

Matmul in each format with 1, 16 and 512 rows, and attention over a paged cache for a prompt, a
long context and a batch. Best of several runs; compare before and after a change on one machine.
Usage: kernels.py [--threads N] [--isa NAME] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from outrider import kernels
from outrider.kernels.formats import Format, packed_nbytes
from outrider.machine import num_cores

RUNS = 12
SHAPES = ((1536, 576), (5120, 5120))  # SmolLM2's gate projection, Scout's query projection
ROWS = (1, 16, 512)
# heads, KV heads, head size, context, query tokens, sequences
SCENES = (
    (9, 3, 64, 512, 512, 1),
    (9, 3, 64, 4096, 1, 1),
    (9, 3, 64, 128, 1, 16),
    (40, 8, 128, 512, 512, 1),
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
    rows += [attention(context, scene) for scene in SCENES]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def matmul(
    context: kernels.Context, fmt: Format, shape: tuple[int, int], num_rows: int
) -> dict[str, object]:
    """Measure x [T, K] times a packed weight [N, K]."""
    n, k = shape
    num_bytes = packed_nbytes(fmt, n, k)
    # 0x3c: every byte pattern is a small finite number in all formats.
    data = np.full(num_bytes, 0x3C, np.uint8)
    weight = kernels.Weight(int(fmt), n, k, data)
    x = np.random.default_rng(0).standard_normal((num_rows, k), np.float32)
    out = np.empty((num_rows, n), np.float32)
    seconds = best(lambda: kernels.linear(context, x, [weight], [out]))
    name = f"linear {fmt.name.lower()} [{n}, {k}], {num_rows} rows"
    return report(name, seconds, num_bytes, num_rows * n * k)


def attention(
    context: kernels.Context, scene: tuple[int, int, int, int, int, int]
) -> dict[str, object]:
    """Measure attention over a bf16 cache; a prompt's rows see half of it on average."""
    num_heads, num_kv_heads, head_dim, length, queries, num_seqs = scene
    blocks = -(-length // 16)
    cache = (
        np.zeros((blocks * num_seqs, num_kv_heads, head_dim, 16), np.uint16),
        np.zeros((blocks * num_seqs, num_kv_heads, 16, head_dim), np.uint16),
    )
    q = np.random.default_rng(0).standard_normal(
        (queries * num_seqs, num_heads, head_dim), np.float32
    )
    out = np.empty_like(q)
    sequences = (
        np.arange(blocks * num_seqs, dtype=np.int32).reshape(num_seqs, blocks),
        np.arange(num_seqs + 1, dtype=np.int32) * queries,
        np.full(num_seqs, length, np.int32),
    )
    seconds = best(lambda: kernels.attend(context, q, cache, sequences, 0, 0.1, out))
    pairs = num_seqs * (length * queries - queries * (queries - 1) // 2)
    name = f"attend {num_heads}/{num_kv_heads}x{head_dim}, {num_seqs}x{queries} over {length}"
    return report(name, seconds, cache[0].nbytes * 2, 2 * pairs * num_heads * head_dim)


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
