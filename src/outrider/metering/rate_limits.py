"""How many requests and tokens each key took in the last minute.

A key never gets more than its limit in any 60 seconds, however they are chosen: amounts are counted
by the second and a second counts until all of it is 60 seconds old.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from outrider.errors import RateLimited
from outrider.metering.keys import Key

WINDOW_S = 60


class LastMinute:
    """What was taken in the last minute; in at most 61 numbers."""

    def __init__(self) -> None:
        self.total = 0
        self._seconds: deque[list[int]] = deque()  # [second, amount], oldest first

    def take(self, amount: int, now_s: float) -> int:
        """Count an amount; gives the second that it is counted in."""
        self.forget(now_s)
        second = math.floor(now_s)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += amount
        else:
            self._seconds.append([second, amount])
        self.total += amount
        return second

    def correct(self, second: int, amount: int, now_s: float) -> None:
        """Change what was counted in a second; what is more than that after it, counts now."""
        for entry in reversed(self._seconds):  # most requests are short
            if entry[0] == second:
                entry[1] += amount
                self.total += amount
                return
        if amount > 0:
            self.take(amount, now_s)

    def forget(self, now_s: float) -> None:
        """Forget what is older than a minute."""
        # A clock that was set back: what was counted in its future would stay until then.
        ahead = self._seconds[-1][0] - math.floor(now_s) if self._seconds else 0
        if ahead > 0:
            for entry in self._seconds:
                entry[0] -= ahead
        while self._seconds and self._seconds[0][0] < math.floor(now_s) - WINDOW_S:
            self.total -= self._seconds.popleft()[1]

    def wait_s(self, excess: int, now_s: float) -> float:
        """Give how long it takes until so much of the total is forgotten, or else all of it."""
        due_s = now_s
        for second, taken in self._seconds:
            if excess <= 0:
                break
            excess -= taken
            due_s = second + WINDOW_S + 1
        return due_s - now_s


class TakenTokens(NamedTuple):
    """What was counted for a request before it used anything, and in which second."""

    amount: int
    second: int


@dataclass
class _Used:
    requests: LastMinute = field(default_factory=LastMinute)
    tokens: LastMinute = field(default_factory=LastMinute)


class RateLimits:
    """Counts for every key that has a limit, and refuses what is too much."""

    def __init__(self) -> None:
        self._used: dict[str, _Used] = {}

    def take_request(self, key: Key, now_s: float) -> None:
        """Count a request; raises `RateLimited` if there were too many, and counts nothing."""
        if key.requests_per_minute is not None:
            used = self._of(key).requests
            self._check(used, 1, key.requests_per_minute, now_s, "requests")
            used.take(1, now_s)

    def take_tokens(
        self, key: Key, num_tokens: int, now_s: float, most_tokens: int = 0
    ) -> TakenTokens:
        """Count tokens that a request may use: up to the most of them, as far as they are left.

        Raises `RateLimited` if what it uses at least is too much. One request alone never is: it
        waits until nothing else is counted.
        """
        limit = key.tokens_per_minute
        if limit is None:
            return TakenTokens(0, 0)
        used = self._of(key).tokens
        self._check(used, min(num_tokens, limit), limit, now_s, "tokens")
        amount = max(num_tokens, min(most_tokens, limit - used.total))
        return TakenTokens(amount, used.take(amount, now_s))

    def settle_tokens(self, key: Key, taken: TakenTokens, num_tokens: int, now_s: float) -> None:
        """Count what a request has used in place of what was taken for it."""
        if key.tokens_per_minute is not None:
            used = self._of(key).tokens
            used.correct(taken.second, num_tokens - taken.amount, now_s)

    def _of(self, key: Key) -> _Used:
        used = self._used.get(key.id)
        if used is None:
            used = self._used[key.id] = _Used()
        return used

    def _check(self, used: LastMinute, amount: int, limit: int, now_s: float, what: str) -> None:
        used.forget(now_s)
        if used.total + amount <= limit:
            return
        wait_s = max(1, math.ceil(used.wait_s(used.total + amount - limit, now_s)))
        raise RateLimited(
            f"this key may use {limit:,} {what} per minute; try again in {wait_s} s",
            retry_after_s=wait_s,
            limit=limit,
            remaining=max(0, limit - used.total),
            reset_s=math.ceil(now_s) + wait_s,
        )
