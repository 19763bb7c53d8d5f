"""The gateway measured over HTTP before a scripted host: what it adds, and how much it bears.

In one run and in turns: the host itself, the least gateway that Python allows (asgi_floor.py), ours
with keys, limits, budgets and the ledger on, and LiteLLM's proxy where it is installed. One worker
each; the client, the host and the gateway share the machine. Figures are medians of rounds with the
smallest and the largest; what is added is the difference to the host inside a round.

Usage: gateway.py [--rounds N] [--litellm PROGRAM] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import gateway_report
from gateway_load import Target, concurrent, sequential, streamed
from gateway_servers import Gateways, Started
from load import Figures, combine
from scripted_upstream import NUM_CHUNKS
from start import resident_bytes
from versions import describe_versions

import outrider
from outrider.machine import describe_cpu

WARM_UP = 50
# Before memory is compared: pools, caches and the journal have their size after some thousands.
SLOPE_WARM_UP = 20_000
SETTLED_S = 1.0  # after which the ledger has what has ended
PER_100_000 = 100_000
# The peer is so slow that it gets fewer requests, so that a run stays short.
SLOW = frozenset({"litellm"})


def main() -> None:
    arguments = parse()
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Gateways(Path(folder)) as gateways:
        direct = gateways.upstream()
        started = start(gateways, arguments)
        targets = [direct, *(each.target for each in started)]
        for target in targets:
            sequential(target, WARM_UP)
        rounds = {target.name: [] for target in targets}
        for number in range(arguments.rounds):
            measure(targets if number % 2 == 0 else targets[::-1], rounds, arguments)
        servers = {name: combine(figures) for name, figures in rounds.items()}
        for each in started:
            servers[each.target.name] |= combine(
                [{"start_s": each.start_s, "idle_rss_mb": each.rss_mb}]
            )
            if each.target.name == "outrider" and arguments.slope_requests:
                slope = {"rss_slope_mb": rss_slope(each.target, arguments.slope_requests)}
                servers["outrider"] |= combine([slope])
    report: gateway_report.Report = {
        "machine": describe_cpu(),
        "outrider": outrider.__version__,
        "versions": describe_versions(),
        "rounds": arguments.rounds,
        "clients": arguments.clients,
        "chunks": NUM_CHUNKS,
        "slope_requests": arguments.slope_requests,
        "took_s": time.perf_counter() - began_s,
        "servers": servers,
        "all_rounds": rounds,
    }
    gateway_report.write(report, arguments.out)
    gateway_report.show(report)
    print(f"written to {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sequential", type=int, default=200, help="requests per round")
    parser.add_argument("--concurrent", type=int, default=1920, help="requests per round")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--streams", type=int, default=2, help="per round")
    parser.add_argument("--slope-requests", type=int, default=50_000, help="0 leaves it out")
    parser.add_argument("--litellm", type=Path, help="its program; left out if there is none")
    parser.add_argument("--out", type=Path, default=Path("build/bench-gateway.json"))
    return parser.parse_args()


def start(gateways: Gateways, arguments: argparse.Namespace) -> list[Started]:
    """Start all gateways."""
    started = [gateways.floor(), gateways.outrider()]
    if arguments.litellm is not None and arguments.litellm.exists():
        started.append(gateways.litellm(arguments.litellm))
    else:
        print("LiteLLM isn't installed, so there is no peer: make .venv/litellm/.installed")
    return started


def measure(
    targets: list[Target], rounds: dict[str, list[Figures]], arguments: argparse.Namespace
) -> None:
    """Measure a round of every target, one kind of load after the other."""
    figures: dict[str, Figures] = {target.name: {} for target in targets}
    for target in targets:
        one = sequential(target, fewer(arguments.sequential, target))
        figures[target.name] |= {f"alone_{name}": value for name, value in one.items()}
    for target in targets:
        many = concurrent(target, arguments.clients, fewer(arguments.concurrent, target))
        figures[target.name] |= {f"busy_{name}": value for name, value in many.items()}
    for target in targets:
        figures[target.name] |= streamed(target, NUM_CHUNKS, fewer(arguments.streams, target))
    for target in targets:
        mine = figures[target.name]
        for name in ("alone_p50_ms", "alone_p99_ms"):
            mine[name.replace("alone", "added")] = mine[name] - figures["direct"][name]
    for name in ("floor", "litellm"):
        if name in figures:
            ratio = figures["outrider"]["added_p50_ms"] / figures[name]["added_p50_ms"]
            figures["outrider"][f"added_over_{name}"] = ratio
    for target in targets:
        rounds[target.name].append(figures[target.name])


def fewer(count: int, target: Target) -> int:
    """Give how many requests a target gets."""
    return max(1, count // 5) if target.name in SLOW else count


def rss_slope(target: Target, num_requests: int) -> float:
    """Give how much resident memory grows in 100,000 requests, from as many after a warm-up."""
    concurrent(target, 64, SLOPE_WARM_UP)
    time.sleep(SETTLED_S)
    before = resident_bytes(target.pid)
    concurrent(target, 64, num_requests)
    time.sleep(SETTLED_S)
    return (resident_bytes(target.pid) - before) / 1e6 / num_requests * PER_100_000


if __name__ == "__main__":
    main()
