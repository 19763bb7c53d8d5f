"""What constrained output costs: the first mask, each further one, and a batch's throughput.

Masks: every schema is checked as the server does, compiled, and walked along an answer with Llama
4's vocabulary; a mask's time includes taking note of the token before. Throughput: batches with
and without a schema in turns on one engine, greedy and sampled; the answers differ, so the time
outside of the forward pass is shown beside the ratio.
Usage: structured.py [--model NAME_OR_PATH] [--rounds N] [--parts masks throughput] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from structured_cases import Case, hard_cases, llama4_tokenizer, tool_cases

from outrider import config, kernels
from outrider.engine.engine import Engine
from outrider.engine.grammar import Grammars
from outrider.engine.grammar_check import GrammarChecker
from outrider.engine.loader import LoadedModel, load_engine
from outrider.engine.protocol import Submit
from outrider.engine.runner import ModelRunner
from outrider.errors import InvalidRequest
from outrider.machine import describe_cpu, num_cores
from outrider.model.batch import Batch
from outrider.settings import DEFAULT_MODEL
from outrider.text.tokenizer import Tokenizer
from outrider.types import Grammar, SamplingParams

FIRST_TARGET_MS, MASK_TARGET_US, COST_TARGET = 20, 300, 0.10
BATCH, NUM_TOKENS = 16, 48
RECORDS = {
    "type": "array",
    "minItems": 100,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"type": "string"}},
            "mail": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["name", "age", "tags", "mail"],
        "additionalProperties": False,
    },
}
PROMPT = "Write a JSON array with the name, age, tags and mail of everybody in town number {}:\n"
GREEDY = np.array([[0.0, 0, 1, 0, 0, 0]])
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--parts", nargs="+", default=["masks", "throughput"])
    parser.add_argument("--out", type=Path, default=Path("build/bench-structured.json"))
    arguments = parser.parse_args()
    print(f"{describe_cpu()}, {num_cores()} threads")
    report: dict[str, Any] = {}
    if "masks" in arguments.parts:
        report["masks"] = measure_masks()
    if "throughput" in arguments.parts:
        report["throughput"] = measure_throughput(arguments.model, arguments.rounds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1))


def measure_masks() -> dict[str, Figures]:
    """Print and give percentiles over all schemas."""
    tokenizer = llama4_tokenizer()
    grammars = Grammars(tokenizer, [tokenizer.special("<|eot|>")])
    begin = time.perf_counter()
    grammars.matcher(Grammar("regex", "a"))
    print(f"the vocabulary, once: {(time.perf_counter() - begin) * 1e3:.0f} ms")
    begin = time.perf_counter()
    asyncio.run(GrammarChecker().check(Grammar("regex", "a")))
    print(f"the process that checks, once: {(time.perf_counter() - begin) * 1e3:.0f} ms")
    context = kernels.Context(1)  # alone; in a step the others are awake and help
    report = {}
    for name, cases in (("tools (BFCL)", tool_cases()), ("hard", hard_cases() * 8)):
        walk = Walk(grammars, tokenizer, context)
        asyncio.run(walk.all(cases))
        rows = {
            "check in the server, ms": [seconds * 1e3 for seconds in walk.checks],
            "first mask, ms": [seconds * 1e3 for seconds in walk.firsts],
            "further mask, us": [seconds * 1e6 for seconds in walk.masks],
            "applying it, us": [seconds * 1e6 for seconds in walk.applied],
        }
        print(f"{name}: {len(walk.firsts)} enforced, {walk.num_refused} refused")
        for what, values in rows.items():
            report[f"{name}: {what}"] = figures = percentiles(values)
            print(f"  {what:24}" + "".join(f" {key} {v:8.2f}" for key, v in figures.items()))
    print(f"targets: first mask p99 {FIRST_TARGET_MS} ms, further p99 {MASK_TARGET_US} us")
    return report


class Walk:
    """Follows answers through their grammars and takes the times."""

    def __init__(self, grammars: Grammars, tokenizer: Tokenizer, context: kernels.Context) -> None:
        self.checks: list[float] = []
        self.firsts: list[float] = []
        self.masks: list[float] = []  # what the grammar takes for a token and its mask
        self.applied: list[float] = []  # … and the kernel, with the choice of the best token
        self.num_refused = 0
        self._grammars = grammars
        self._tokenizer = tokenizer
        self._context = context
        self._logits = np.zeros((1, tokenizer.vocab_size), np.float32)
        self._rows, self._best = np.zeros(1, np.int32), np.empty(1, np.int32)
        self._words = np.empty((1, -(-tokenizer.vocab_size // 32)), np.uint32)

    async def all(self, cases: Iterable[Case]) -> None:
        """Walk along every case that isn't refused, each time as if for the first time."""
        checker = GrammarChecker()
        for number, (schema, answer) in enumerate(cases):
            # A name of its own, so that nothing is remembered.
            grammar = Grammar("json_schema", json.dumps({**schema, "title": str(number)}), "x")
            begin = time.perf_counter()
            try:
                await checker.check(grammar)
                check_s = time.perf_counter() - begin
                self._walk(grammar, answer)
            except InvalidRequest:
                self.num_refused += 1
                continue
            self.checks.append(check_s)

    def _walk(self, grammar: Grammar, answer: str) -> None:
        words = self._words[0]
        begin = time.perf_counter()
        matcher = self._grammars.matcher(grammar)
        matcher.fill_mask(words)
        self.firsts.append(time.perf_counter() - begin)
        for token_id in self._tokenizer.encode(answer):
            if not int(words[token_id // 32]) >> token_id % 32 & 1:
                return  # some of the answers have another type than their schema says
            begin = time.perf_counter()
            matcher.advance(token_id)
            matcher.fill_mask(words)
            self.masks.append(time.perf_counter() - begin)
            self._logits[:] = 0
            begin = time.perf_counter()
            kernels.choose_tokens(
                self._context, self._logits, GREEDY, self._rows, self._words, self._best
            )
            self.applied.append(time.perf_counter() - begin)


def percentiles(values: list[float]) -> Figures:
    names = (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))
    return {name: float(np.percentile(values, share)) for name, share in names}


class Clock:
    """Takes the time of a runner's forward passes."""

    def __init__(self, runner: ModelRunner) -> None:
        self.forward_s = 0.0
        self._forward = runner.forward
        runner.forward = self._timed  # type: ignore[method-assign]

    def _timed(self, batch: Batch) -> NDArray[np.float32]:
        begin = time.perf_counter()
        logits = self._forward(batch)
        self.forward_s += time.perf_counter() - begin
        return logits


def measure_throughput(model: str, rounds: int) -> dict[str, Figures]:
    """Print and give what a batch loses by a grammar; medians over rounds."""
    settings = config.load({"model": model, "speculation": "off"})
    loaded = load_engine(settings.engine)
    clock = Clock(loaded.runner)
    tokenizer, end = tokenizer_of(loaded)
    engine = Engine(
        loaded.runner, tokenizer, settings.engine, end, time.perf_counter, loaded.context
    )
    prompts = tuple(tuple(tokenizer.encode(PROMPT.format(number))) for number in range(BATCH))
    grammar = Grammar("json_schema", json.dumps(RECORDS), "response_format")
    report = {}
    print(f"{model}: {BATCH} sequences of {NUM_TOKENS} tokens, medians of {rounds} rounds")
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        results: dict[bool, list[Figures]] = {False: [], True: []}
        for number in range(2 * (rounds + 1)):
            is_on = number % 2 == (number // 2) % 2  # off on, on off, …
            params = SamplingParams(
                temperature=temperature,
                seed=number // 2,
                max_tokens=NUM_TOKENS,
                ignore_eos=not is_on,
            )
            request = Submit("r", prompts, params, grammar=grammar if is_on else None)
            figures = decode(engine, clock, request)
            if number > 1:
                results[is_on].append(figures)
        report[name] = figures = compare(results[False], results[True])
        print(f"  {name:8}" + "".join(f" {key} {value:.3f}" for key, value in figures.items()))
    print(f"target: cost at most {COST_TARGET:.0%}")
    return report


def tokenizer_of(loaded: LoadedModel) -> tuple[Tokenizer, list[int]]:
    """Give the model's tokenizer and end tokens; a slice of Llama 4 has none of its own."""
    tokenizer = loaded.tokenizer or llama4_tokenizer()
    if loaded.tokenizer is None:
        return tokenizer, [tokenizer.special("<|eot|>")]
    return tokenizer, sorted(loaded.config.eos_token_ids)


def decode(engine: Engine, clock: Clock, request: Submit) -> Figures:
    """Run a batch; the steps in which all of its sequences get a token count."""
    engine.submit(request)
    step_s, forward_s = [], []
    while engine.has_work:
        clock.forward_s = 0.0
        begin = time.perf_counter()
        outputs = engine.step()
        if len(outputs) == BATCH and all(output.num_output_tokens > 1 for output in outputs):
            step_s.append(time.perf_counter() - begin)
            forward_s.append(clock.forward_s)
    if failed := engine.take_failed():
        raise SystemExit(failed[0].message)
    total = sum(step_s)
    return {
        "tokens_per_s": BATCH * len(step_s) / total,
        "other_ms": (total - sum(forward_s)) / len(step_s) * 1e3,
    }


def compare(off: list[Figures], on: list[Figures]) -> Figures:
    """Give medians, and the cost as the median over rounds."""
    median = statistics.median
    pairs = list(zip(off, on, strict=True))
    return {
        "off tok/s": median(f["tokens_per_s"] for f in off),
        "on tok/s": median(f["tokens_per_s"] for f in on),
        "cost": median(1 - b["tokens_per_s"] / a["tokens_per_s"] for a, b in pairs),
        "outside of the forward pass, off ms": median(f["other_ms"] for f in off),
        "on ms": median(f["other_ms"] for f in on),
        "cost of that alone": median(
            (b["other_ms"] - a["other_ms"]) / (BATCH / a["tokens_per_s"] * 1e3) for a, b in pairs
        ),
    }


if __name__ == "__main__":
    main()
