"""What single kernels reach, as a share of what the machine allows in the same moments.

Matrix products in each format with 1, 16 and 512 rows, the same with experts, attention over a
paged cache, row-wise kernels; then small tables: how cost grows with rows, context and batch. The
limits are measured before and after every group. Usage: kernels.py [--threads N] [--isa NAME]
[--only WORD] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel_work import Bench, Scene, Work
from machine_limits import KINDS, MachineLimits
from versions import describe_machine, describe_versions

from outrider import kernels
from outrider.kernels.formats import Format
from outrider.machine import num_cores

RUNS, MIN_SECONDS = 8, 0.04  # of each piece of work, at least; the median counts
# SmolLM2's gate projection, Scout's query projection, the first matrix of its vision tower's MLP
SHAPES = ((1536, 576), (5120, 5120), (5632, 1408))
ROWS = (1, 16, 512)
EXPERT_SHAPE = (1024, 2560)
SCENES = (
    Scene(9, 3, 64, 512, 512, 1),
    Scene(9, 3, 64, 4096, 1, 1),
    Scene(9, 3, 64, 128, 1, 16),
    Scene(9, 3, 64, 1604, 100, 1),
    Scene(40, 8, 128, 512, 512, 1),
    Scene(40, 8, 128, 512, 512, 1, "int8"),
    Scene(40, 8, 128, 512, 512, 1, "f32"),
    Scene(40, 8, 128, 8192, 1, 1),
    Scene(40, 8, 128, 8192, 1, 1, "int8"),
    Scene(16, 16, 88, 577, 577, 1, is_causal=False),
)
GROWTH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
GROWTH_CONTEXTS = (256, 1024, 4096, 16384)
GROWTH_BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Group:
    """Pieces of work that are judged by the same limits."""

    title: str
    works: Iterable[Work]


def groups(bench: Bench) -> Iterator[Group]:
    """Give everything that is measured."""
    for fmt in Format:
        name = fmt.name.lower()
        for shape in SHAPES:
            works = (bench.linear(fmt, shape, rows) for rows in ROWS)
            yield Group(f"linear {name} {list(shape)}", works)
        works = (bench.experts(fmt, EXPERT_SHAPE, rows) for rows in ROWS)
        yield Group(f"experts {name}", works)
    yield Group("attend", (bench.attention(scene) for scene in SCENES))
    yield Group("rows", bench.rowwise(512, 5120))
    linear = (bench.linear(Format.Q4, (5120, 5120), rows) for rows in GROWTH_ROWS)
    yield Group("growth with rows: linear", linear)
    experts = (bench.experts(Format.Q4, (2048, 5120), rows) for rows in GROWTH_ROWS)
    yield Group("growth with rows: experts", experts)
    contexts = (Scene(40, 8, 128, length, 1, 1) for length in GROWTH_CONTEXTS)
    yield Group("growth with context", map(bench.attention, contexts))
    batches = (Scene(40, 8, 128, 1024, 1, num_seqs) for num_seqs in GROWTH_BATCHES)
    yield Group("growth with batch", map(bench.attention, batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--only", default="", help="groups whose title contains this")
    parser.add_argument("--out", type=Path, default=Path("build/bench-kernels.json"))
    arguments = parser.parse_args()
    context = kernels.Context(arguments.threads, arguments.isa)
    limits = MachineLimits(arguments.threads, arguments.isa)
    print(f"{describe_machine()['cpu']}, {context.num_threads} threads, {context.isa}")
    print("growth: time over that of the group's first; share of what bounds the work at best")
    rows = []
    for group in groups(Bench(context)):
        if arguments.only in group.title:
            rows += measure(group, limits)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": {**describe_machine(), "threads": context.num_threads, "isa": context.isa},
        "versions": describe_versions(),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def measure(group: Group, limits: MachineLimits) -> list[dict[str, object]]:
    """Measure a group against the mean of the limits before and after it, and show it."""
    before = limits.measure()
    timed = [(work, typical(work)) for work in group.works]
    after = limits.measure()
    beside = {name: (before[name] + after[name]) / 2 for name in before}
    products = ", ".join(f"{beside[f'{kind}_gmac_per_s']:,.0f} {kind}" for kind in KINDS)
    print(f"\n{group.title}: limits {beside['read_gb_per_s']:.0f} GB/s; GMAC/s: {products}")
    print(f"{'':44}{'us':>10}{'growth':>8}{'GB/s':>8}{'GMAC/s':>9}{'share':>7} of")
    first_s = timed[0][1]
    return [report(group, work, (seconds, first_s), beside) for work, seconds in timed]


def typical(work: Work) -> float:
    """Give the median of the seconds of its runs, after one that doesn't count."""
    work.run()
    seconds: list[float] = []
    while len(seconds) < RUNS or sum(seconds) < MIN_SECONDS:
        begin = time.perf_counter()
        work.run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def report(
    group: Group, work: Work, times_s: tuple[float, float], limits: dict[str, float]
) -> dict[str, object]:
    """Show one piece of work; `times_s` are its own and that of the first of its group."""
    seconds, first_s = times_s
    gb_per_s, gmac_per_s = work.num_bytes / seconds / 1e9, work.macs / seconds / 1e9
    limit_s, bound = work.limit_seconds(limits)
    share = limit_s / seconds
    products = f"{gmac_per_s:9.1f}" if work.macs else f"{'':9}"
    shown = f"{share:7.0%}" if share else f"{'':7}"
    growth = f"{seconds / first_s:7.2f}x"
    print(f"{work.name:44}{seconds * 1e6:10.1f}{growth}{gb_per_s:8.1f}{products}{shown} {bound}")
    return {
        "group": group.title,
        "kernel": work.name,
        "us": seconds * 1e6,
        "growth": seconds / first_s,
        "gb_per_s": gb_per_s,
        "gmac_per_s": gmac_per_s,
        "share": share or None,
        "bound": bound,
        "limits": limits,
    }


if __name__ == "__main__":
    main()
