"""Outrider and llama.cpp side by side: same file, same threads, interleaved in one run.

Rows: a prompt of 512 tokens, decoding one sequence, decoding sixteen. Each round measures us, then
the peer; the table shows the median of each and of the rounds' ratios, with the spread. Ours runs
through the whole engine (scheduler, sampler, detokenizer); the peer through its C API and an
argmax. Usage: engine.py [--model NAME_OR_PATH] [--rounds N] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

from llama_cpp_peer import LlamaCppPeer
from machine_limits import describe_cpu

import outrider
from outrider import config
from outrider.checkpoints.store import Store
from outrider.cli_bench import measure
from outrider.engine.loader import LoadedModel, load_engine
from outrider.machine import num_cores

PROMPT_TOKENS = 512
CONTEXT_TOKENS = 64  # before decoding starts
DECODED_TOKENS = 64


@dataclass(frozen=True)
class Row:
    """One kind of work and the ratio to the peer that it has to reach."""

    name: str
    num_seqs: int
    is_prompt: bool
    target: float


ROWS = (
    Row("prompt of 512 tokens", 1, True, 3.0),
    Row("decode, 1 sequence", 1, False, 1.5),
    Row("decode, 16 sequences", 16, False, 3.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=config.DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("build/bench-engine.json"))
    arguments = parser.parse_args()
    settings = config.load({"model": arguments.model, "prefix_cache": False})
    path = Store(settings.home).resolve(arguments.model)
    threads = num_cores()
    ours = load_engine(settings.engine)
    peer = LlamaCppPeer(str(path), threads, PROMPT_TOKENS + DECODED_TOKENS, 16)
    rows = [run_row(row, ours, peer, arguments.rounds) for row in ROWS]
    report = {
        "machine": describe_cpu(),
        "threads": threads,
        "file": path.name,
        "outrider": outrider.__version__,
        "peer": peer.name,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)
    print(f"written to {arguments.out}")


def run_row(row: Row, ours: LoadedModel, peer: LlamaCppPeer, rounds: int) -> dict[str, object]:
    """Measure a row in interleaved rounds, after one of each that doesn't count."""
    measured = [
        (run_ours(row, ours), run_peer(row, peer, ours.config.vocab_size))
        for _ in range(rounds + 1)
    ][1:]
    ratios = [mine / theirs for mine, theirs in measured]
    return {
        "name": row.name,
        "ours_tokens_per_s": statistics.median(mine for mine, _ in measured),
        "peer_tokens_per_s": statistics.median(theirs for _, theirs in measured),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "target": row.target,
    }


def run_ours(row: Row, ours: LoadedModel) -> float:
    """Give our tokens per second."""
    if row.is_prompt:
        return measure(ours, 1, PROMPT_TOKENS, 2)["prompt_tokens_per_s"]
    return measure(ours, row.num_seqs, CONTEXT_TOKENS, DECODED_TOKENS + 1)["decode_tokens_per_s"]


def run_peer(row: Row, peer: LlamaCppPeer, vocab_size: int) -> float:
    """Give the peer's tokens per second."""
    if row.is_prompt:
        return PROMPT_TOKENS / peer.prompt(random.choices(range(vocab_size), k=PROMPT_TOKENS))
    prompts = [random.choices(range(vocab_size), k=CONTEXT_TOKENS) for _ in range(row.num_seqs)]
    return row.num_seqs * DECODED_TOKENS / peer.generate(prompts, DECODED_TOKENS)


def show(report: dict[str, object]) -> None:
    print(f"{report['file']} on {report['machine']}, {report['threads']} threads")
    print(f"Outrider {report['outrider']} against {report['peer']}, {report['rounds']} rounds\n")
    print(f"{'work':24}{'ours tok/s':>12}{'peer tok/s':>12}{'ratio':>8}{'spread':>14}{'target':>8}")
    for row in report["rows"]:  # type: ignore[attr-defined]
        spread = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}"
        print(
            f"{row['name']:24}{row['ours_tokens_per_s']:12,.0f}{row['peer_tokens_per_s']:12,.0f}"
            f"{row['ratio']:8.2f}{spread:>14}{row['target']:8.1f}"
        )


if __name__ == "__main__":
    main()
