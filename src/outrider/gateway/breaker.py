"""When an endpoint is left alone because it keeps failing, and when it is tried again.

Five failures in a row, or more than half of ten and more within a minute, open the breaker for 5 s,
then 10, 20, 40 and 60; afterwards one request at a time finds out, and two good ones in a row close
it. What was begun before the breaker changed says nothing about the time after it.
"""

from __future__ import annotations

from typing import Literal

from outrider.gateway.windows import SlotCounts

State = Literal["closed", "open", "half_open"]

MAX_IN_A_ROW = 5
MIN_RESULTS = 10  # below it shares mean nothing
WINDOW_S = 60
FIRST_OPEN_S, LONGEST_OPEN_S = 5.0, 60.0
NUM_GOOD_TO_CLOSE = 2
PROBE_WAIT_S = 1.0  # what others are told while a probe runs
OF_NOTHING = -1  # no change of state has this number: the request's result counts nowhere


class Breaker:
    """Follows the results of one endpoint; `now` is any clock that never goes back."""

    def __init__(self) -> None:
        self.state: State = "closed"
        self._epoch = 0  # counts the changes of state
        self._results = SlotCounts(1, WINDOW_S)
        self._num_in_a_row = 0  # failures while closed, good ones while half open
        self._open_s = FIRST_OPEN_S
        self._open_until = 0.0
        self._is_probing = False

    def wait_s(self, now: float) -> float:
        """Give how long nobody should be sent here; 0: come."""
        if self.state == "open":
            return max(0.0, self._open_until - now)
        return PROBE_WAIT_S if self._is_probing else 0.0

    def begin(self, now: float) -> int:
        """Note that a request is sent; what is given stands for it in the calls below.

        Who is asked all the same while it is open finds nothing out for others.
        """
        if self.state == "open":
            if now < self._open_until:
                return OF_NOTHING
            self._change("half_open")
        if self.state == "half_open":
            self._is_probing = True
        return self._epoch

    def release(self, begun: int) -> None:
        """Let others be sent too: the request began to be answered, or was given up."""
        if begun == self._epoch:
            self._is_probing = False

    def succeed(self, begun: int, now: float) -> None:
        """Take note that a request was answered."""
        if begun != self._epoch:
            return
        self._is_probing = False
        if self.state == "closed":
            self._results.add(now, is_good=True)
            self._num_in_a_row = 0
            return
        self._num_in_a_row += 1
        if self._num_in_a_row >= NUM_GOOD_TO_CLOSE:
            self.reset()

    def fail(self, begun: int, now: float) -> None:
        """Take note that a request failed, and not by its own fault."""
        if begun != self._epoch:
            return
        if self.state == "half_open":
            self._open_s = min(2 * self._open_s, LONGEST_OPEN_S)
            self._open(now)
            return
        self._results.add(now, is_good=False)
        self._num_in_a_row += 1
        good, bad = self._results.sums(now, WINDOW_S)
        if self._num_in_a_row >= MAX_IN_A_ROW or (good + bad >= MIN_RESULTS and bad > good):
            self._open(now)

    def reset(self) -> None:
        """Close, and forget what went wrong."""
        self._change("closed")
        self._open_s = FIRST_OPEN_S
        self._results = SlotCounts(1, WINDOW_S)

    def _open(self, now: float) -> None:
        self._open_until = now + self._open_s
        self._change("open")

    def _change(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._num_in_a_row = 0
        self._is_probing = False
