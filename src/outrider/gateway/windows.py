"""Counts and percentiles over the last seconds and minutes, in memory that doesn't grow.

Time is cut into slots; a slot that is used again forgets what it held. Percentiles come from bins
that are 5 % apart, so they are right to 2.5 %. Nothing here reads a clock.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from itertools import takewhile

BIN_RATIO = 1.05
SMALLEST = 1e-3  # of what is told apart: a millisecond, or a token in a quarter of an hour
_LOG_RATIO = math.log(BIN_RATIO)
_MAX_BIN = 600  # 5e9: nothing lasts or runs so long


class SlotCounts:
    """Good and bad results in slots of `slot_s` seconds, the last `num_slots` of them."""

    def __init__(self, slot_s: int, num_slots: int) -> None:
        self._slot_s = slot_s
        self._num_slots = num_slots
        self._numbers = array("q", [-1]) * num_slots  # which slot of all time stands here
        self._counts = array("I", [0, 0]) * num_slots

    def add(self, now: float, *, is_good: bool) -> None:
        """Count a result."""
        number = int(now // self._slot_s)
        at = number % self._num_slots
        if self._numbers[at] != number:
            self._numbers[at] = number
            self._counts[2 * at] = self._counts[2 * at + 1] = 0
        self._counts[2 * at + (not is_good)] += 1

    def sums(self, now: float, num_slots: int) -> tuple[int, int]:
        """Give how many were good and bad in the last slots, the running one included."""
        last = int(now // self._slot_s)
        good = bad = 0
        for number in range(last - num_slots + 1, last + 1):
            at = number % self._num_slots
            if self._numbers[at] == number:
                good += self._counts[2 * at]
                bad += self._counts[2 * at + 1]
        return good, bad


class MinuteSamples:
    """Values of the last `num_minutes` minutes, as counts per bin."""

    def __init__(self, num_minutes: int) -> None:
        self._minutes: deque[tuple[int, Counter[int]]] = deque(maxlen=num_minutes)

    def add(self, now: float, value: float) -> None:
        """Take a value."""
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] < minute:
            self._minutes.append((minute, Counter()))
        position = int(math.log(max(value, SMALLEST) / SMALLEST) / _LOG_RATIO)
        self._minutes[-1][1][min(position, _MAX_BIN)] += 1

    def percentiles(
        self, now: float, num_minutes: int, *, is_high_good: bool = False
    ) -> dict[str, float]:
        """Give p50, p75, p90 and p99 of the last minutes; nothing without values.

        Of a hundred values ninety are as good as p90 or better: lower, or higher.
        """
        first = int(now // 60) - num_minutes + 1
        bins: Counter[int] = Counter()
        for _, counts in takewhile(lambda slot: slot[0] >= first, reversed(self._minutes)):
            bins.update(counts)
        total = bins.total()
        found: dict[str, float] = {}
        below, wanted = 0, [99, 90, 75, 50]
        for position in sorted(bins, reverse=is_high_good):
            below += bins[position]
            while wanted and 100 * below >= wanted[-1] * total:
                found[f"p{wanted.pop()}"] = SMALLEST * BIN_RATIO ** (position + 0.5)
        return found
