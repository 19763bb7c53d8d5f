"""Outrider and llama.cpp side by side: same files, same threads, interleaved in one run.

Rows of SmolLM2-135M (Q4_1) and of a slice of Llama 4 Scout (4 layers, Q4_0): prompts and decoding,
each with the ratio to llama.cpp and the share of what the machine allows, whose limits are measured
in the same round. Ours runs through the whole engine, the peer through its C API and an argmax.
docs/benchmarks.md says how to read it. Usage: engine.py [--models smollm2,slice] [--rounds N] ...
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench_report import Report, as_json, as_markdown, as_picture, as_text
from machine_limits import METHOD, MachineLimits
from rounds import Bench, RowResult
from rows import MODELS, Row, Work, rows_of
from sides import Side
from versions import describe_machine, describe_versions

from outrider import config
from outrider.checkpoints.packed import ensure_packed
from outrider.checkpoints.packed_format import map_packed
from outrider.checkpoints.progress import no_progress
from outrider.checkpoints.store import Store
from outrider.engine.cost import ModelCost
from outrider.machine import num_cores
from outrider.settings import DEFAULT_MODEL

HERE = Path(__file__).parent
ROOT = HERE.parent
KV = "bf16"  # llama.cpp's is f16, of the same size
# Both sides compute these rows once more, to compare how they spread over the experts.
SPREAD_WORK = (Work("prompt", 1, 512, 0), Work("decode", 16, 64, 4))
SPREAD_SEED = 1 << 20  # no round has it, else the prefix cache would answer


def main() -> None:
    arguments = parse()
    announce(arguments)
    limits = MachineLimits(arguments.threads, arguments.isa)
    parts = [measure_model(model, arguments, limits) for model in arguments.models]
    report = Report(
        command=" ".join(["make bench", *arguments.shown]),
        machine={**describe_machine(), "threads": arguments.threads, "limits": METHOD},
        versions=describe_versions(),
        sides=parts[0]["sides"],
        num_rounds=arguments.rounds,
        results=tuple(result for part in parts for result in part["results"]),
        spreads=tuple(spread for part in parts for spread in part["spreads"]),
    )
    print(as_text(report))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in (
        (".json", json.dumps(as_json(report), indent=2) + "\n"),
        (".md", as_markdown(report)),
        (".svg", as_picture(report)),
    ):
        arguments.out.with_suffix(suffix).write_text(text, encoding="utf-8")
        say(f"written to {arguments.out.with_suffix(suffix)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="which of them to measure")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--isa", default="auto", help="instruction set of our side")
    parser.add_argument("--slice", type=Path, help="an existing slice instead of making one")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--peer-library", type=Path, help="folder of another libllama.so")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench-engine.json")
    arguments = parser.parse_args()
    arguments.models = arguments.models.split(",")
    for model in arguments.models:
        if model not in MODELS:
            parser.error(f"--models: there is no {model}; choose from {','.join(MODELS)}")
    arguments.shown = [f'ARGS="{" ".join(sys.argv[1:])}"'] if sys.argv[1:] else []
    return arguments


def announce(arguments: argparse.Namespace) -> None:
    """Say what is going to happen and what it takes."""
    seconds = sum(
        MODELS[model].open_s + MODELS[model].round_s * arguments.rounds
        for model in arguments.models
    )
    say(f"about {seconds / 60:.1f} minutes on two cores; leave the machine alone meanwhile")
    if "slice" in arguments.models:
        say(
            "the slice of Scout takes 14 GB of memory; the first time it is made, which takes two "
            "minutes more and 12.3 GB of disk; leave it out with --models smollm2"
        )


def find_model(model: str, arguments: argparse.Namespace, home: Path) -> Path:
    if model == "smollm2":
        return Store(home).resolve(DEFAULT_MODEL)
    from slice_file import find_or_make  # needs the package gguf, others don't

    return Path(arguments.slice or find_or_make(arguments.cache))


def measure_model(
    model: str, arguments: argparse.Namespace, limits: MachineLimits
) -> dict[str, Any]:
    """Run all rounds of a model's rows; gives results, spreads and what the sides are."""
    home = config.load({}).home
    path = find_model(model, arguments, home)
    packed = ensure_packed(path, "auto", home, no_progress)
    cost = ModelCost.of(map_packed(packed).header, KV)
    settings = {"model": str(path), "threads": arguments.threads, "isa": arguments.isa}
    # Guessing tokens would make random text, which soon repeats itself, look fast.
    settings |= {"max_num_seqs": 16, "kv": KV, "speculation": "off"}
    opening = {"path": str(path), "threads": arguments.threads}
    library = arguments.peer_library
    environment = {"LLAMA_CPP_LIB_PATH": str(library.absolute())} if library else {}
    say(f"{path.name}: both sides open it …")
    with (
        Side(HERE / "side_outrider.py", {"settings": settings}) as ours,
        Side(HERE / "side_llama_cpp.py", opening, environment) as peer,
    ):
        rows = rows_of(model, arguments.isa)
        results = run_rounds(Bench(ours, peer, cost, limits), rows, arguments.rounds)
        spreads = compare_spreads(ours, peer) if cost.config.num_experts else []
        return {
            "results": results,
            "spreads": spreads,
            "sides": {"ours": ours.about, "peer": peer.about},
        }


def run_rounds(bench: Bench, rows: list[Row], num_rounds: int) -> list[RowResult]:
    """Run the rounds and say after each how many are left."""
    results: list[RowResult] = []
    begin = time.perf_counter()
    for number, state in enumerate(bench.run(rows, num_rounds)):
        results = list(state.values())
        if number:
            per_round = (time.perf_counter() - begin) / number
            say(f"round {number} of {num_rounds}; {(num_rounds - number) * per_round:.0f} s to go")
        else:  # the peer computes long prompts only in this one
            begin = time.perf_counter()
            say("both sides are warm")
    return results


def compare_spreads(ours: Side, peer: Side) -> list[dict[str, Any]]:
    """Ask both sides how the same rows spread over the experts."""
    spreads = []
    for work in SPREAD_WORK:
        message = work.message(SPREAD_SEED)
        mine, theirs = ours.ask(message), peer.ask({**message, "kind": "spread"})
        num_rows = work.num_seqs if work.output_tokens else work.prompt_tokens
        spreads.append({"rows": num_rows, "ours": mine["experts"], "peer": theirs["experts"]})
    return spreads


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
