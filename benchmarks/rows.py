"""The rows of `make bench`: which work on which model, and what it has to reach.

The targets are those of issue 4. Ratios are against llama.cpp in the same run; shares are of the
limit that was measured in the same round (see rounds.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Work:
    """What both sides are asked to do; tokens per sequence."""

    kind: str  # "prompt" or "decode"
    num_seqs: int
    prompt_tokens: int
    output_tokens: int

    def message(self, seed: int) -> dict[str, Any]:
        """Give it as the sides read it; the seed chooses the tokens."""
        return {**asdict(self), "seed": seed}


@dataclass(frozen=True)
class Model:
    """A model of the rows; the seconds are those of two Zen 5 cores, for the announcement."""

    title: str
    open_s: float  # opening on both sides, the round that warms up included
    round_s: float


MODELS = {
    "smollm2": Model("SmolLM2-135M, Q4_1", 25, 5),
    "slice": Model("Llama 4 Scout, 4 layers, Q4_0", 70, 12),
}


@dataclass(frozen=True)
class Row:
    """One kind of work and what it has to reach; None: nothing is asked."""

    model: str  # of MODELS
    name: str
    work: Work
    ratio: float
    share: float | None = None
    # The ratio counts only while the machine reads so fast; below it must be at least 1.
    ratio_from_gb_per_s: float = 0.0

    def ratio_target(self, read_gb_per_s: float) -> float:
        """Give the ratio that is asked for at a read bandwidth."""
        return self.ratio if read_gb_per_s >= self.ratio_from_gb_per_s else min(self.ratio, 1.0)


ROWS = (
    Row("smollm2", "prompt of 512 tokens", Work("prompt", 1, 512, 0), 9.0),
    Row("smollm2", "decode, 1 sequence", Work("decode", 1, 64, 64), 2.5, 0.7),
    Row("smollm2", "decode, 16 sequences", Work("decode", 16, 64, 32), 7.5),
    Row("smollm2", "decode after 4,096 tokens", Work("decode", 1, 4096, 32), 2.0),
    Row("slice", "prompt of 512 tokens", Work("prompt", 1, 512, 0), 4.0),
    Row("slice", "decode, 1 sequence", Work("decode", 1, 64, 24), 1.4, 0.9, 65.0),
    Row("slice", "decode, 16 sequences", Work("decode", 16, 64, 8), 2.2, 0.8),
)
AVX2_RATIO = 0.9


def rows_of(model: str, isa: str) -> list[Row]:
    """Give the rows of a model; with AVX2 only the peer, held to it as well, has to be reached."""
    rows = [row for row in ROWS if row.model == model]
    if isa == "avx2":
        rows = [replace(row, ratio=AVX2_RATIO, share=None, ratio_from_gb_per_s=0) for row in rows]
    return rows
