"""Texts that embeddings are compared on: short and long, several scripts, and what is unusual."""

from __future__ import annotations

TEXTS = [
    "The tide rises twice a day.",
    "a",
    "What causes ebb and flow? The Moon's gravity, mostly; the Sun adds about half as much.",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "Über den Wolken, naïve café – déjà vu",
    "潮の満ち引きは月の引力による。",
    "приливы и отливы вызваны Луной",
    "🌊🌙 emoji, ZWJ 👩‍🚀 and a combining a\u0301ccent",
    "UPPER lower MiXeD 3.14159 1,000,000 50% $12.99 user@example.com https://example.com/a?b=c",
    "x" * 150 + " a word longer than any vocabulary's",
    " \t leading, trailing and   inner \u00a0 space \n",
    " ".join(f"Sentence number {i} says that water is wet." for i in range(25)),
]
