"""How often and when an endpoint is asked a second time.

Second tries come after random pauses that grow, and all of them together are at most a fifth of the
requests: what is down isn't helped by more of them.
"""

from __future__ import annotations

import random

from outrider.errors import (
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)

SHARE = 0.2  # of all requests
MAX_SAVED = 20.0
NUM_ROUNDS = 2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class RetryBudget:
    """Counts requests and what they may spend on asking somebody a second time."""

    def __init__(self) -> None:
        self._saved = MAX_SAVED

    @property
    def left(self) -> float:
        """How many second tries it still allows; grows with every request."""
        return self._saved

    def earn(self) -> None:
        """Count a request."""
        self._saved = min(self._saved + SHARE, MAX_SAVED)

    def spend(self) -> bool:
        """Take one second try, if there is one left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


def pause_s(number: int) -> float:
    """Draw the pause before a round of second tries, the first of which is 0 (full jitter)."""
    return random.uniform(0, min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S))


def is_passing(error: OutriderError) -> bool:
    """Say whether the same endpoint may answer in a moment: it broke off or failed.

    Who took too long would take too long again, and who asks for less gets less.
    """
    lasting = (ProviderTimeout, ProviderRateLimited, ProviderDenied, ProviderUnavailable)
    if not isinstance(error, ProviderError) or isinstance(error, lasting):
        return False
    return error.upstream_status != 404
