"""The two sides of a benchmark, each in a process of its own that sleeps while the other measures.

A side is a program that reads one JSON object per line from its standard input and answers each
with one. Nobody shares threads, memory or an interpreter with the other side; between two pieces of
work a side waits in `read`, after the moment that its threads spin.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

Message = dict[str, Any]
# OpenMP's threads spin for some milliseconds after a loop before they sleep, ours for 60 us.
SETTLE_S = 0.02


class Side:
    """A running side: `about` is what it said of itself when it had opened its model."""

    def __init__(
        self, program: Path, opening: Message, environment: dict[str, str] | None = None
    ) -> None:
        self.name = program.stem
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.about = self.ask(opening)

    def ask(self, message: Message) -> Message:
        """Give the side's answer; it has come to rest before this returns."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SystemExit(f"{self.name} has stopped; its own message is above") from None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped at {message}; its own message is above")
        time.sleep(SETTLE_S)
        answer: Message = json.loads(line)
        return answer

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def answer_all(answer: Callable[[Message], Message]) -> None:
    """Be a side: answer every line of the standard input until it ends."""
    # Libraries may print; only answers reach the pipe.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")
        replies.flush()


def random_prompts(work: Message, vocab_size: int) -> list[list[int]]:
    """Give the prompts of a piece of work; both sides get the same ones from the same seed."""
    rng = random.Random(work["seed"])
    return [
        rng.choices(range(vocab_size), k=work["prompt_tokens"]) for _ in range(work["num_seqs"])
    ]
