"""What guessing tokens gains or costs: one engine with it and one without, in turns in one run.

Texts that are edited and summarised, and ordinary answers, one sequence at a time and several. Both
engines make the same answers, a dozen tokens each in turn, so that both meet the machine in the
same moods; equal tokens are asserted. Usage: speculation.py [--model M] [--seqs 1,4,16]
[--only WORD] [--rounds N] [--tokens N] [--threads N] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speculation_texts import KINDS, Kind, Task
from versions import describe_machine, describe_versions

from outrider import config
from outrider.engine.loader import LoadedModel, load_engine
from outrider.engine.protocol import Submit
from outrider.machine import num_cores
from outrider.settings import DEFAULT_MODEL
from outrider.text.prompt import PromptEncoder
from outrider.types import Message, SamplingParams

TURN_TOKENS = 12  # per sequence
LOADS = 3  # requests per sequence, if there are several
MODES = ("off", "auto")
Answers = dict[str, list[int]]
HEAD = f"{'work':24}{'seqs':>5}{'off':>9}{'on':>9}{'ratio':>7}{'spread':>13}{'target':>8}"


@dataclass
class Side:
    """One engine at work: so many sequences at a time while any wait."""

    loaded: LoadedModel
    num_seqs: int = 1
    waiting: list[Submit] = field(default_factory=list)
    num_running: int = 0
    seconds: float = 0.0  # with all its sequences running, as are the tokens
    num_tokens: int = 0
    answers: Answers = field(default_factory=dict)

    def begin(self, requests: list[Submit], num_seqs: int) -> None:
        """Take a piece of work."""
        self.num_seqs, self.waiting, self.answers = num_seqs, requests[::-1], {}
        self.seconds, self.num_tokens = 0.0, 0

    @property
    def has_work(self) -> bool:
        """Say whether anything is left to do."""
        return bool(self.waiting) or self.loaded.engine.has_work

    def run_until(self, num_tokens: int) -> None:
        """Work until there are so many tokens; what runs when nothing waits isn't counted."""
        while self.has_work:
            begin = time.perf_counter()
            while self.waiting and self.num_running < self.num_seqs:
                self.loaded.engine.submit(self.waiting.pop())
                self.num_running += 1
            is_full = self.num_running == self.num_seqs
            outputs = self.loaded.engine.step()
            if is_full:
                self.seconds += time.perf_counter() - begin
                self.num_tokens += sum(len(output.token_ids) for output in outputs)
            for output in outputs:
                self.answers.setdefault(output.request_id, []).extend(output.token_ids)
                self.num_running -= output.finish_reason is not None
            if is_full and self.num_tokens >= num_tokens:
                return


@dataclass
class Row:
    """The rounds of one kind of work with a number of sequences."""

    kind: Kind
    num_seqs: int
    rounds: list[dict[str, float]] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """Give a figure of every round."""
        return [figures[name] for figures in self.rounds]

    def median(self, name: str) -> float:
        """Give the median of a figure."""
        return statistics.median(self.values(name))

    @property
    def target(self) -> float:
        """What the ratio has to reach."""
        return self.kind.target_of(self.num_seqs)

    @property
    def is_met(self) -> bool:
        """Say whether the median reaches the target."""
        return self.median("ratio") >= self.target


class Bench:
    """Two engines of one model that take turns."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        settings = {"model": arguments.model, "threads": arguments.threads, "max_model_len": 4096}
        self._sides = [
            Side(load_engine(config.load({**settings, "speculation": mode}).engine))
            for mode in MODES
        ]
        loaded = self._sides[0].loaded
        self._prompts = PromptEncoder(loaded.tokenizer, loaded.chat_format, None)
        self._num_output = arguments.tokens

    def measure(self, kind: Kind, num_seqs: int, number: int) -> dict[str, float]:
        """Run the tasks of a kind, so many at a time; gives tokens per second."""
        plain, guessing = self._sides
        before = guessing.loaded.engine.stats()
        requests = [
            self._request(kind, task, number)
            for number, task in enumerate(_repeat(kind.tasks, num_seqs))
        ]
        for side in self._sides:
            side.begin(requests, num_seqs)
        order, goal = self._sides if number % 2 else self._sides[::-1], 0
        while any(side.has_work for side in self._sides):
            goal += TURN_TOKENS * num_seqs
            for side in order:
                side.run_until(goal)
        assert plain.answers == guessing.answers, f"{kind.name}: guesses changed an answer"
        num_tokens = sum(map(len, guessing.answers.values()))
        stats = guessing.loaded.engine.stats()
        speeds = [side.num_tokens / side.seconds for side in self._sides]
        return {
            **dict(zip(MODES, speeds, strict=True)),
            "ratio": speeds[1] / speeds[0],
            "guessed": (stats.num_drafted_tokens - before.num_drafted_tokens) / num_tokens,
            "right": (stats.num_accepted_tokens - before.num_accepted_tokens) / num_tokens,
        }

    def _request(self, kind: Kind, task: Task, number: int) -> Submit:
        prompt = self._prompts.conversation((Message("user", task.question),), ())
        sampling = SamplingParams(
            temperature=kind.temperature, seed=number, max_tokens=self._num_output
        )
        lookup = self._prompts.tokenizer().encode(task.reference) if task.reference else ()
        return Submit(f"{number}", (prompt.token_ids,), sampling, lookup_token_ids=tuple(lookup))


def _repeat(tasks: tuple[Task, ...], num_seqs: int) -> tuple[Task, ...]:
    """Give each task once for one sequence; for several, enough to keep them running."""
    return tasks if num_seqs == 1 else tasks * -(-LOADS * num_seqs // len(tasks))


def main() -> None:
    arguments = parse()
    bench = Bench(arguments)
    rows = [
        Row(kind, num_seqs)
        for num_seqs in arguments.seqs
        for kind in KINDS
        if arguments.only in kind.name
    ]
    machine, versions = describe_machine(), describe_versions()
    print(f"{machine['cpu']}, {arguments.threads} threads; Outrider {versions['commit']}")
    for number in range(arguments.rounds + 1):  # the first doesn't count
        for row in rows:
            figures = bench.measure(row.kind, row.num_seqs, number)
            if number:
                row.rounds.append(figures)
    print(f"{arguments.rounds} rounds in turns, tokens per second and their ratio: medians")
    print(HEAD + f"{'guessed':>9}{'right':>7}")
    print("\n".join(map(show, rows)))
    report = {"machine": machine, "versions": versions, "rows": [as_json(row) for row in rows]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seqs", default="1,4,16", help="1: each task alone; else all together")
    parser.add_argument("--only", default="", help="kinds of work whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=120, help="length of an answer at most")
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--out", type=Path, default=Path("build/bench-speculation.json"))
    arguments = parser.parse_args()
    arguments.seqs = [int(number) for number in arguments.seqs.split(",")]
    return arguments


def show(row: Row) -> str:
    ratios = row.values("ratio")
    return (
        f"{row.kind.name:24}{row.num_seqs:>5}{row.median('off'):>9,.0f}{row.median('auto'):>9,.0f}"
        f"{row.median('ratio'):>7.2f}{min(ratios):>8.2f}-{max(ratios):.2f}{row.target:>8.2f}"
        f"{row.median('guessed'):>9.0%}{row.median('right'):>7.0%}"
        f"  {'met' if row.is_met else 'missed'}"
    )


def as_json(row: Row) -> dict[str, Any]:
    names = row.rounds[0]
    return {
        "work": row.kind.name,
        "num_seqs": row.num_seqs,
        "target": row.target,
        "is_met": row.is_met,
        **{
            name: {
                "median": row.median(name),
                "min": min(row.values(name)),
                "max": max(row.values(name)),
            }
            for name in names
        },
        "rounds": row.rounds,
    }


if __name__ == "__main__":
    main()
