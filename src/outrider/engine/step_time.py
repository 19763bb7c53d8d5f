"""How long a step will take, learned from the steps before it, and what fits into one.

While sequences decode, prompts are cut so that the predicted time of a step keeps to a bound:
nobody's next token should wait long for somebody else's prompt. A prompt always gets some tokens,
and no result depends on where it is cut. Reads no clock; it is told what steps took.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of a step with a prompt that waits, its oldest one gets at least so many tokens, ...
MIN_PROMPT_TOKENS = 16
# ... and the prompts this share of the time. Where decoding alone takes longer than the bound, as
# with a large model, small pieces would read all weights again and again for next to nothing.
MIN_PROMPT_SHARE = 0.5

# Of the filter, all relative; chosen on measured steps of a machine that drifts (docs/LOG.md).
NOISE = 0.05  # of one measured time
DRIFT = 0.1  # of the whole machine, from step to step
CHANGE = 0.01  # of one kind of work alone
MAX_SURPRISE = 2.0  # standard deviations; what is further off counts as that far

Vector = NDArray[np.float64]


@dataclass(slots=True)
class Work:
    """What a step computes, by what its time depends on."""

    num_rows: int = 0
    num_attended: int = 0  # positions, summed over the rows

    def add(self, start: int, count: int) -> None:
        """Add `count` tokens of a sequence, of which the first has position `start`."""
        self.num_rows += count
        self.num_attended += num_attended(start, count)


def num_attended(start: int, count: int) -> int:
    """Count the positions that the tokens start .. start + count see, themselves included."""
    return count * start + count * (count + 1) // 2


class StepTimes:
    """Predicts the time of a step: a fixed part, one per row and one per attended position.

    The three rates follow the measured steps by a Kalman filter. One step says little about rates
    that it can't tell apart; a machine that becomes slower is followed within some steps; a single
    step that took far too long moves them only so far. Rates are never negative.
    """

    def __init__(self) -> None:
        self.is_known = False  # once a step was measured
        self._rates = np.zeros(3)  # [s]: a step, a row, an attended position
        self._covariance = np.zeros((3, 3))

    def predict_s(self, work: Work) -> float:
        """Give the seconds that a step should take."""
        step_s, row_s, position_s = self._rates.tolist()
        return step_s + row_s * work.num_rows + position_s * work.num_attended

    def num_fitting(self, work: Work, start: int, count: int, limit_s: float) -> int:
        """Count the tokens from position `start`, at most `count`, that fit into a step beside
        other work.
        """
        _, row_s, position_s = self._rates.tolist()
        left_s = limit_s - self.predict_s(work)
        return bisect_right(
            range(1, count + 1),
            left_s,
            key=lambda n: row_s * n + position_s * num_attended(start, n),
        )

    def observe(self, work: Work, time_s: float) -> None:
        """Learn from a step that was measured; it has at least one row and took some time."""
        units = np.array((1.0, work.num_rows, work.num_attended))
        if not self.is_known:
            # The time of its rows, for all we know; or of anything else.
            self._rates[1] = time_s / units[1]
            self._covariance = np.diag((time_s / units) ** 2)
            self.is_known = True
            return
        predicted_s = float(self._rates @ units)
        # Whatever went wrong before, rates of nothing must find their way back.
        scale_s = max(predicted_s, time_s / 4)
        self._covariance += np.diag((CHANGE * scale_s / units) ** 2)
        self._covariance += DRIFT**2 * np.outer(self._rates, self._rates)
        shared = self._covariance @ units
        variance = float(units @ shared) + (NOISE * scale_s) ** 2
        most_s = MAX_SURPRISE * variance**0.5
        surprise_s = min(max(time_s - predicted_s, -most_s), most_s)
        self._rates = np.maximum(self._rates + shared * (surprise_s / variance), 0.0)
        self._covariance -= np.outer(shared, shared) / variance


class Allowance:
    """Time for parts of equal length, of which one is done whatever it takes."""

    def __init__(self, clock: Callable[[], float], limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._begin_s = clock()
        self._num_parts = 0

    def has_time(self) -> bool:
        """Say, after a part, whether another one fits."""
        self._num_parts += 1
        used_s = self._clock() - self._begin_s
        return used_s + used_s / self._num_parts <= self._limit_s


class Budget:
    """What a step has left for prompts: tokens and, while sequences decode, time."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self._times: StepTimes | None = None
        self._limit_s = 0.0
        self._work = Work()
        self._num_granted = 0

    def limit_time(self, times: StepTimes, decoding: Work, max_step_s: float) -> None:
        """Bound the predicted time of the step, which already has some work."""
        least_s = times.predict_s(decoding) / (1 - MIN_PROMPT_SHARE)
        self._times, self._work, self._limit_s = times, decoding, max(max_step_s, least_s)

    @property
    def is_spent(self) -> bool:
        """Say whether no further prompt would get a token."""
        return self.fit(0, 1) == 0

    def fit(self, start: int, count: int) -> int:
        """Give how many of `count` tokens from position `start` the step has room for."""
        count = min(count, self.num_tokens)
        if self._times is None:
            return count
        least = min(count, MIN_PROMPT_TOKENS) if not self._num_granted else 0
        if not self._times.is_known:
            return least
        return max(least, self._times.num_fitting(self._work, start, count, self._limit_s))

    def take(self, start: int, count: int) -> None:
        """Use up what a piece of a prompt takes."""
        self.num_tokens -= count
        self._num_granted += count
        self._work.add(start, count)
