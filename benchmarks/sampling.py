"""What choosing the next tokens costs, per step, for the vocabularies of SmolLM2 and Llama 4.

Rows are made like those of a trained model: most tokens are far below the best one. "flat" rows are
the worst case of a cut by cumulated probability: nearly every token stays. Best of many runs, with
the Python around the kernels; compare before and after a change on one machine.
Usage: sampling.py [--threads N] [--isa NAME]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.engine.sampler import Sampler, SamplerState
from outrider.machine import num_cores
from outrider.types import SamplingParams

RUNS = 100
SIZES = ((1, 202_048), (32, 202_048), (1, 49_152), (32, 49_152))
RULES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "plain": {},
    "top_k 40": {"temperature": 0.7, "top_k": 40},
    "top_p 0.95": {"temperature": 0.7, "top_p": 0.95},
    "top_k 40, top_p 0.9": {"temperature": 0.7, "top_k": 40, "top_p": 0.9},
    "min_p 0.05": {"min_p": 0.05},
    "top_p 0.95, flat": {"temperature": 5.0, "top_p": 0.95},
    "penalties": {"frequency_penalty": 0.5, "repetition_penalty": 1.1},
    "logprobs 20": {"logprobs": 20},
}


class NoTokenizer:
    """Stands for a tokenizer, whose bytes nobody reads here."""

    def token_bytes(self, token_id: int) -> bytes:
        """Give the bytes of one token."""
        return b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--isa", default="auto")
    arguments = parser.parse_args()
    context = kernels.Context(arguments.threads, arguments.isa)
    print(f"{context.num_threads} threads, {context.isa}; us per step")
    sampler = Sampler(NoTokenizer(), context)
    print(f"{'rule':24}" + "".join(f"{f'{rows} x {size:,}':>14}" for rows, size in SIZES))
    for name, options in RULES.items():
        params = SamplingParams(seed=1, **options)
        times = [measure(sampler, make_logits(*shape), params) for shape in SIZES]
        print(f"{name:24}" + "".join(f"{seconds * 1e6:14.0f}" for seconds in times))


def make_logits(rows: int, vocab_size: int) -> NDArray[np.float32]:
    """Make rows whose best tokens fall off like 1 / rank, over a normal distribution."""
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((rows, vocab_size), np.float32) * 1.5
    for row in logits:
        best = generator.choice(vocab_size, 2000, replace=False)
        row[best] = 16 - 1.3 * np.log(np.arange(1, 2001))
    return logits


def measure(sampler: Sampler, logits: NDArray[np.float32], params: SamplingParams) -> float:
    """Give the seconds of the fastest of many steps."""
    states = [SamplerState(params, choice, range(100)) for choice in range(len(logits))]
    seconds = []
    for position in range(RUNS):
        fresh = logits.copy()  # what a forward pass leaves is in the cache as well
        begin = time.perf_counter()
        sampler.sample(fresh, states, [position] * len(states))
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


if __name__ == "__main__":
    main()
