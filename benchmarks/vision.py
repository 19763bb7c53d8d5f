"""One tile through the image tower of Llama 4 beside transformers, both in bf16, in turns.

The tower has Scout's real size (34 layers, 872 million weights) and random weights; each side draws
them in a process of its own, 1.8 GB of memory each. A tile is cut, encoded, joined and projected on
both sides. Limits are measured around each of our measurements; the share is the time that they
allow over ours. Usage: vision.py [--threads N] [--isa NAME] [--rounds N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine_limits import METHOD, MachineLimits
from sides import Side
from versions import describe_machine, describe_versions
from vision_tower import model_config, tile_cost

from outrider.machine import num_cores

HERE = Path(__file__).parent
TARGET = 2.0  # issue 4
SEED = 7


@dataclass(frozen=True)
class Round:
    """Seconds per tile on both sides, and what the machine could do meanwhile."""

    ours_s: float
    peer_s: float
    limits: dict[str, float]

    @property
    def ratio(self) -> float:
        """How much faster we are."""
        return self.peer_s / self.ours_s

    @property
    def share(self) -> float:
        """The least time that the limits allow, over ours."""
        cost = tile_cost(model_config())
        products = {name.removesuffix("_gmac_per_s"): rate for name, rate in self.limits.items()}
        return cost.limit_seconds(self.limits["read_gb_per_s"], products) / self.ours_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--isa", default="auto", help="instruction set of our side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "bench-vision.json")
    arguments = parser.parse_args()
    print("both sides draw their weights, which takes half a minute …", flush=True)
    opening = {"threads": arguments.threads, "isa": arguments.isa}
    limits = MachineLimits(arguments.threads, arguments.isa, 256 << 20)
    with (
        Side(HERE / "side_vision_outrider.py", opening) as ours,
        Side(HERE / "side_vision_transformers.py", opening) as peer,
    ):
        difference = compare(ours, peer)  # warms both up as well
        rounds = [measure(number, ours, peer, limits) for number in range(arguments.rounds)]
        sides = {"ours": ours.about, "peer": peer.about}
    print_report(rounds, sides, difference, arguments.threads)
    report = {
        "machine": {**describe_machine(), "threads": arguments.threads, "limits": METHOD},
        "versions": describe_versions(), "sides": sides, "difference": difference,
        "rounds": [asdict(r) | {"ratio": r.ratio, "share": r.share} for r in rounds],
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def compare(ours: Side, peer: Side) -> float:
    """Give the norm of the difference of both sides' features of a tile, as a part of theirs."""
    with tempfile.TemporaryDirectory() as folder:
        features = []
        for side in (ours, peer):
            path = Path(folder) / f"{side.name}.npy"
            side.ask({"seed": SEED, "features": str(path)})
            features.append(np.load(path))
    mine, theirs = features
    return float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))


def measure(number: int, ours: Side, peer: Side, limits: MachineLimits) -> Round:
    """Let both sides encode a tile; who begins alternates."""
    work = {"seed": number}
    theirs = peer.ask(work) if number % 2 else {}
    before = limits.measure()
    mine = ours.ask(work)
    after = limits.measure()
    theirs = theirs or peer.ask(work)
    means = {name: (before[name] + after[name]) / 2 for name in before}
    return Round(mine["seconds"], theirs["seconds"], means)


def print_report(
    rounds: list[Round], sides: dict[str, dict[str, str]], difference: float, threads: int
) -> None:
    def told(values: list[float], form: str) -> str:
        median = statistics.median(values)
        return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"

    cost = tile_cost(model_config())
    print(f"{sides['ours']['name']}, {sides['ours']['isa']}, {threads} threads")
    print(f"{sides['peer']['name']}, {sides['peer']['settings']}")
    print(f"one tile of 336 pixels: {cost.macs['bf16'] / 1e9:.0f} GMAC, {len(rounds)} rounds")
    print(f"ours    {told([r.ours_s for r in rounds], '.2f')} s")
    print(f"theirs  {told([r.peer_s for r in rounds], '.2f')} s")
    ratios = [r.ratio for r in rounds]
    verdict = "met" if statistics.median(ratios) >= TARGET else "missed"
    print(f"ratio   {told(ratios, '.2f')}; target {TARGET:g}: {verdict}")
    rates = [r.limits["bf16_gmac_per_s"] for r in rounds]
    print(
        f"share   {told([r.share for r in rounds], '.0%')} of {told(rates, '.0f')} GMAC/s in bf16"
    )
    print(f"features differ by {difference:.2%} of their norm")


if __name__ == "__main__":
    main()
