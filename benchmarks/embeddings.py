"""Embeddings beside sentence-transformers: the same texts on the same cores, in turns.

Texts are words in random order: short ones as in search queries, sentences, passages near the
model's limit, and a mix of all. Each side tokenises and pools for itself; rounds alternate, and a
round's ratio compares neighbours. Also prints the worst cosine between both.
Usage: embeddings.py [--threads N] [--rounds N] [--texts N]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from machine_limits import MachineLimits
from numpy.typing import NDArray
from prompts import WORD_TEXT

from outrider import EmbeddingModel, config
from outrider.checkpoints.store import Store
from outrider.machine import num_cores
from outrider.settings import DEFAULT_EMBEDDING_MODEL

Vectors = NDArray[np.float32]
Embed = Callable[[list[str]], Vectors]
KINDS = {"queries": (3, 12), "sentences": (15, 40), "passages": (120, 230), "mixed": (3, 230)}


def make_texts(kind: str, count: int) -> list[str]:
    """Make texts of so many words; in the mix most are short."""
    rng, words = random.Random(kind), WORD_TEXT.split()
    low, high = KINDS[kind]
    sizes = [
        int(low * (high / low) ** rng.random()) if kind == "mixed" else rng.randint(low, high)
        for _ in range(count)
    ]
    return [" ".join(rng.choices(words, k=size)) for size in sizes]


def load_peer(path: str, threads: int) -> tuple[str, Embed]:
    """Load sentence-transformers as its manual shows it."""
    import sentence_transformers
    import torch

    torch.set_num_threads(threads)
    model: Any = sentence_transformers.SentenceTransformer(path, device="cpu")
    name = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
    return name, lambda texts: np.asarray(model.encode(texts, show_progress_bar=False))


def seconds_of(embed: Embed, texts: list[str]) -> float:
    begin = time.perf_counter()
    embed(texts)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=256)
    arguments = parser.parse_args()
    path = Store(config.load().home).resolve(DEFAULT_EMBEDDING_MODEL)
    ours: Embed = EmbeddingModel(str(path), threads=arguments.threads).embed
    name, theirs = load_peer(str(path), arguments.threads)
    print(f"{arguments.threads} threads; {name}; {arguments.texts} texts, median of rounds")
    print(f"{'texts':10} {'ours':>9} {'theirs':>9} {'texts/s':>17} {'ratio':>18} {'cosine':>9}")
    for kind in KINDS:
        texts = make_texts(kind, arguments.texts)
        cosine = (ours(texts).astype(np.float64) * theirs(texts)).sum(axis=1).min()
        pairs = [
            (seconds_of(ours, texts), seconds_of(theirs, texts)) for _ in range(arguments.rounds)
        ]
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        print(
            f"{kind:10} {a * 1e3:6.0f} ms {b * 1e3:6.0f} ms {len(texts) / a:8.0f} "
            f"{len(texts) / b:8.0f} {statistics.median(ratios):6.2f} "
            f"({ratios[0]:.2f}-{ratios[-1]:.2f}) {cosine:9.6f}"
        )
    one = make_texts("sentences", 1)
    pairs = [(seconds_of(ours, one), seconds_of(theirs, one)) for _ in range(50)]
    a, b = (min(side) for side in zip(*pairs, strict=True))
    print(f"one sentence: {a * 1e3:.2f} ms, {b * 1e3:.2f} ms")
    limits = MachineLimits()
    figures = (f"{kind} {limits.gmac_per_s(kind):.0f}" for kind in ("f32", "bf16"))
    print(f"limits, GMAC/s: {', '.join(figures)}")


if __name__ == "__main__":
    main()
