"""How well hosts call tools: what is wrong with a call, and which hosts are worse than the others.

OpenRouter's `exacto` as far as it can be judged here: a call is wrong that names no tool of the
request, whose arguments aren't a JSON object, or that lacks a required one. Whether arguments fit
their schemas otherwise isn't looked at, and there are no benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from outrider.types import Finished, Tool, ToolCallDelta

Tier = Literal[0, 1, 2]  # good, not enough known, worse than others

MIN_HOSTS = 4  # of which enough is known; among fewer nobody stands out
MIN_ANSWERS = 100  # in half an hour
MIN_CALLING = 200  # answers with calls, in two hours
SLOW_SIGMAS, WRONG_SIGMAS = 1.5, 2.0
LEAST_SIGMA = 0.01  # of shares of wrong answers: hosts that are alike are alike
MAD_TO_SIGMA = 1.4826  # of a normal distribution: Rousseeuw and Croux (1993)

_OBJECT = msgspec.json.Decoder(dict[str, Any])


class CallCheck:
    """Reads the calls of one answer as they come."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._required = {tool.name: _required(tool) for tool in tools}
        self._names: dict[tuple[int, int], str] = {}
        self._arguments: dict[tuple[int, int], list[str]] = {}
        self._is_calling = False

    def add(self, event: ToolCallDelta | Finished) -> None:
        """Take a part of a call, or the end of a choice."""
        if isinstance(event, Finished):
            self._is_calling |= event.finish_reason == "tool_calls"
            return
        call = event.index, event.call_index
        if event.name:
            self._names[call] = event.name
        self._arguments.setdefault(call, []).append(event.arguments)

    def verdict(self) -> bool | None:
        """Say whether the calls of a complete answer are good; None if it ended with none."""
        if not self._is_calling:
            return None
        return all(self._is_good(call) for call in self._arguments)

    def _is_good(self, call: tuple[int, int]) -> bool:
        required = self._required.get(self._names.get(call, ""))
        if required is None:
            return False
        try:
            arguments = _OBJECT.decode("".join(self._arguments[call]) or "{}")
        except (msgspec.DecodeError, RecursionError):
            return False
        return required <= arguments.keys()


@dataclass(frozen=True)
class Quality:
    """What an endpoint has shown."""

    num_answers: int  # of half an hour
    num_good: int  # answers with calls, of two hours
    num_wrong: int
    throughput: float  # the median, in tokens per second

    @property
    def is_known(self) -> bool:
        """Whether it is enough to judge by."""
        return self.num_answers >= MIN_ANSWERS and self.num_calling >= MIN_CALLING

    @property
    def num_calling(self) -> int:
        """Answers with calls."""
        return self.num_good + self.num_wrong

    @property
    def wrong_share(self) -> float:
        """The share of wrong ones among them."""
        return self.num_wrong / self.num_calling


def tiers(shown: Sequence[Quality]) -> list[Tier]:
    """Give in which order endpoints come."""
    known = [each for each in shown if each.is_known]
    if len(known) < MIN_HOSTS:
        return [1] * len(shown)
    shares = [each.wrong_share for each in known]
    middle = _median(shares)
    sigma = MAD_TO_SIGMA * _median([abs(share - middle) for share in shares])
    most_wrong = middle + WRONG_SIGMAS * max(sigma, LEAST_SIGMA)
    speeds = [each.throughput for each in known]
    slowest = _median(speeds) - SLOW_SIGMAS * _deviation(speeds)

    def tier(each: Quality) -> Tier:
        if not each.is_known:
            return 1
        return 2 if each.wrong_share > most_wrong or each.throughput < slowest else 0

    return [tier(each) for each in shown]


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def _required(tool: Tool) -> frozenset[str]:
    names = tool.parameters.get("required", ())
    return frozenset(name for name in names if isinstance(name, str)) if names else frozenset()
