"""What this machine can do at best, measured now: bytes read and products per second.

`outrider.kernels.limits` with threads of its own, for benchmarks whose engine runs in another
process. Usage: machine_limits.py [--threads N] [--isa NAME] [--rounds N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from outrider import kernels
from outrider.kernels import limits
from outrider.kernels.limits import BUFFER_BYTES as BUFFER_BYTES
from outrider.kernels.limits import KINDS as KINDS
from outrider.machine import describe_cpu as describe_cpu
from outrider.machine import num_cores

METHOD = "sum of 64-byte words beyond the caches, products in registers; best of 4"
Limits = dict[str, float]


class MachineLimits(limits.MachineLimits):
    """Measures with a number of threads and an instruction set."""

    def __init__(
        self,
        num_threads: int | None = None,
        isa: str = "auto",
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        super().__init__(kernels.Context(num_threads or num_cores(), isa), buffer_bytes)


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
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench-limits.json"))
    arguments = parser.parse_args()
    measured = medians(MachineLimits(arguments.threads, arguments.isa).measure, arguments.rounds)
    print(f"{describe_cpu()}, {arguments.threads} threads; {METHOD}")
    for name, row in measured.items():
        print(f"{name:18}{row['median']:10,.1f}{row['min']:10,.1f} -{row['max']:10,.1f}")
    report = {"machine": describe_cpu(), "threads": arguments.threads, "method": METHOD}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**report, **measured}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
