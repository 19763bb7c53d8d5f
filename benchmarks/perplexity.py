"""What rounding activations to int8 costs: perplexity beside that with bf16 activations.

Both read the same packed weights and the same windows of text, by default this repository's own
pages, which no model has seen. A window starts without context and counts all of its tokens but
the first. The difference is taken window by window, so its standard error is small.
Exits with 1 if int8 is more than LIMIT above bf16.
Usage: perplexity.py [--model NAME] [--windows N] [--tokens N] [FILE …]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from versions import describe_machine

from outrider import LLM
from outrider.settings import DEFAULT_MODEL

LIMIT = 0.005  # how much higher int8 may be
ROOT = Path(__file__).parent.parent
Windows = list[list[int]]


def default_files() -> list[Path]:
    """Give the pages in a fixed order."""
    return [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted(ROOT.glob("docs/**/*.md"))]


def cut_windows(llm: LLM, files: list[Path], size: int, count: int) -> Windows:
    """Cut each file into whole windows of tokens, and take `count` of them spread over all."""
    windows = []
    for path in files:
        token_ids = llm.tokenize(path.read_text(encoding="utf-8"))
        windows += [token_ids[i : i + size] for i in range(0, len(token_ids) - size + 1, size)]
    if not windows:
        raise SystemExit(f"the files have no window of {size} tokens; choose a lower --tokens")
    count = min(count, len(windows))
    return [windows[i * len(windows) // count] for i in range(count)]


def mean_nll(llm: LLM, token_ids: list[int]) -> float:
    """Give the mean negative log likelihood of a window's tokens but the first."""
    total = 0.0
    for row, token_id in zip(llm.logits(token_ids), token_ids[1:], strict=False):
        logits = row.astype(np.float64)
        top = logits.max()
        total += top + math.log(np.exp(logits - top).sum()) - logits[token_id]
    return total / (len(token_ids) - 1)


def measure(llm: LLM, windows: Windows) -> tuple[list[float], float]:
    """Give the mean of each window, and tokens per second."""
    begin = time.perf_counter()
    means = [mean_nll(llm, window) for window in windows]
    return means, sum(map(len, windows)) / (time.perf_counter() - begin)


def compare(reference: list[float], other: list[float]) -> tuple[float, float]:
    """Give how much higher the other's perplexity is, and the standard error of that."""
    differences = [b - a for a, b in zip(reference, other, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if differences[1:] else 0.0
    return math.expm1(statistics.fmean(differences)), error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    print(f"{arguments.model} on {describe_machine()['cpu']}")
    windows: Windows = []
    reference: list[float] = []
    is_within = True
    for activations in ("bf16", "int8"):
        with LLM(arguments.model, activations=activations) as llm:
            files = arguments.files or default_files()
            windows = windows or cut_windows(llm, files, arguments.tokens, arguments.windows)
            means, speed = measure(llm, windows)
        reference = reference or means
        higher, error = compare(reference, means)
        is_within &= higher <= LIMIT
        print(
            f"{activations:5} activations: perplexity {math.exp(statistics.fmean(means)):.4f}, "
            f"{higher:+.3%} ± {error:.3%}, {len(windows)} windows of {arguments.tokens} tokens, "
            f"{speed:,.0f} tok/s"
        )
    print(f"int8 within {LIMIT:.1%} of bf16: {'yes' if is_within else 'no'}")
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
