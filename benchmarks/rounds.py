"""Interleaved rounds of rows, with the machine's limits measured around every measurement of ours.

A row's figures are medians over rounds with their extremes; ratio and share are computed inside a
round, because the machine drifts from minute to minute and the limits drift with it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from machine_limits import KINDS, MachineLimits
from rows import Row
from sides import Side

from outrider.engine.cost import ModelCost

Experts = dict[str, float]


@dataclass(frozen=True)
class Round:
    """One round of one row."""

    ours: float  # tokens per second
    peer: float
    share: float  # of the limit
    bound: str  # what the limit is: "reading" or "products"
    limits: dict[str, float]
    experts: Experts | None = None

    @property
    def ratio(self) -> float:
        """Ours over the peer's."""
        return self.ours / self.peer


@dataclass
class RowResult:
    """The rounds of a row."""

    row: Row
    rounds: list[Round] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Give the median of a figure of the rounds."""
        return statistics.median(self.values(name))

    def values(self, name: str) -> list[float]:
        """Give a figure of every round; limits by their own names."""
        return [
            r.limits[name] if name in r.limits else float(getattr(r, name)) for r in self.rounds
        ]

    @property
    def bound(self) -> str:
        """What the limit was in most rounds."""
        return statistics.mode(r.bound for r in self.rounds)

    def missed(self) -> list[str]:
        """Say which targets were missed, by their medians."""
        missed = []
        target = self.row.ratio_target(self.median("read_gb_per_s"))
        if self.median("ratio") < target:
            missed.append(f"ratio below {target:g}")
        if self.row.share is not None and self.median("share") < self.row.share:
            missed.append(f"share below {self.row.share:.0%}")
        return missed


@dataclass(frozen=True)
class Bench:
    """The two sides of one model, its costs and the limits."""

    ours: Side
    peer: Side
    cost: ModelCost
    limits: MachineLimits

    def run(self, rows: Iterable[Row], num_rounds: int) -> Iterator[dict[Row, RowResult]]:
        """Measure rounds of all rows, after one that doesn't count; gives the state after each."""
        results = {row: RowResult(row) for row in rows}
        for number in range(num_rounds + 1):
            for row, result in results.items():
                measured = self._round(row, number)
                if number:
                    result.rounds.append(measured)
            yield results

    def _round(self, row: Row, number: int) -> Round:
        # Prompts differ in every round; a decode's don't, so that the peer can keep their keys.
        work = row.work.message(number if row.work.kind == "prompt" else 0)
        peer = self.peer.ask(work) if number % 2 else {}
        before = self.limits.measure()
        ours = self.ours.ask(work)
        after = self.limits.measure()
        peer = peer or self.peer.ask(work)
        limits = {name: (before[name] + after[name]) / 2 for name in before}
        return assess(row, ours, peer["tokens_per_s"], limits, self.cost)


def assess(
    row: Row, ours: dict[str, float], peer: float, limits: dict[str, float], cost: ModelCost
) -> Round:
    """Turn what was measured into a round."""
    work, experts = row.work, ours.get("experts")
    hit = experts["hit"] if isinstance(experts, dict) else None
    if work.kind == "prompt":
        step, step_tokens = cost.prompt(work.prompt_tokens, hit), work.prompt_tokens
    else:
        # The mean over the steps: the first sees the prompt and its own token.
        context = work.prompt_tokens + (work.output_tokens + 1) / 2
        step, step_tokens = cost.decode(work.num_seqs, context, hit), work.num_seqs
    products = {kind: limits[f"{kind}_gmac_per_s"] for kind in KINDS}
    read_s = step.read_seconds(limits["read_gb_per_s"])
    limit_s = step.limit_seconds(limits["read_gb_per_s"], products)
    return Round(
        ours=ours["tokens_per_s"],
        peer=peer,
        share=ours["tokens_per_s"] * limit_s / step_tokens,
        bound="reading" if read_s >= limit_s else "products",
        limits=limits,
        experts=experts if isinstance(experts, dict) else None,
    )
