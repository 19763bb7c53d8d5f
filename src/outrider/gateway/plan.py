"""The order in which the endpoints of one request are asked, and what is told if all fail.

Every endpoint is asked once, then some of them again. A request that a host refuses isn't sent to
others of the same model: they would refuse it too, unless it asks for what that host hasn't got.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from outrider.errors import (
    FailedAttempt,
    NoEndpoints,
    OutriderError,
    ProviderDenied,
    ProviderRateLimited,
    ProviderUnavailable,
    RequestError,
    UnsupportedParameter,
)
from outrider.gateway import retries
from outrider.gateway.attempt import status_of
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health

# What one wire can't carry another may, and what nobody behind one host does, somebody else.
_LACKS = (UnsupportedParameter, NoEndpoints)


class Plan:
    """Gives one endpoint after the other, and takes note of what came of it."""

    def __init__(
        self, endpoints: Sequence[Endpoint], health: Health, budget: retries.RetryBudget
    ) -> None:
        self._endpoints = endpoints
        self._health = health
        self._budget = budget
        self._left = iter(endpoints)  # of this round
        self._num_rounds = 0  # of second tries that were begun
        self._again: list[Endpoint] = []
        self._refusing: set[str] = set()  # models that don't take the request
        self._lacking: set[Endpoint] = set()  # who can't do what it asks for
        self._failed: list[tuple[FailedAttempt, OutriderError]] = []

    async def next(self) -> Endpoint | None:
        """Give who is asked next, None if nobody is left; pauses before one is asked again."""
        while True:
            for endpoint in self._left:
                if self._num_rounds == 0:
                    if self._is_open(endpoint):
                        return endpoint
                elif self._is_open(endpoint) and self._budget.left >= 1:
                    await asyncio.sleep(retries.pause_s(self._num_rounds - 1))
                    # Meanwhile others may have had it closed, taken its last place or the last try.
                    if self._is_open(endpoint) and self._budget.spend():
                        return endpoint
            if self._num_rounds == retries.NUM_ROUNDS:
                return None
            self._num_rounds += 1
            self._left, self._again = iter(self._again), []

    def can_go_on(self, endpoint: Endpoint) -> bool:
        """Say whether somebody could be asked after an endpoint."""
        return len(self._endpoints) > 1 or not endpoint.host.is_local

    def fail(self, endpoint: Endpoint, error: OutriderError) -> OutriderError:
        """Take note that an endpoint failed; give the error with all that failed before."""
        host = endpoint.host.display_name
        attempt = FailedAttempt(host, error.code, status_of(error), error.message)
        self._failed.append((attempt, error))
        error.failed = tuple(each for each, _ in self._failed)
        if retries.is_passing(error):
            self._again.append(endpoint)
        if isinstance(error, _LACKS):
            self._lacking.add(endpoint)
        elif isinstance(error, RequestError):
            self._refusing.add(endpoint.model)
        return error

    def verdict(self) -> OutriderError:
        """Give the error for a request that nobody answered."""
        able = [each for each in self._endpoints if each not in self._lacking]
        wait_s = min(map(self._health.wait_s, able), default=0.0)
        if not self._failed:
            return self._none_asked(able, wait_s)
        # What a host lacks says nothing of the others, so it is told only if nothing else is.
        firm = [each for each in self._failed if not isinstance(each[1], _LACKS)]
        own, error = (firm or self._failed)[-1]
        error.failed = tuple(
            sorted((each for each, _ in self._failed), key=lambda each: each is own)
        )
        if not firm and 0 < wait_s < math.inf:
            return self._none_asked(able, wait_s, f"{error.message}; ")
        if isinstance(error, ProviderRateLimited) and 0 < wait_s < math.inf:
            error.retry_after_s = wait_s
        return error

    def _none_asked(
        self, endpoints: Sequence[Endpoint], wait_s: float, lack: str = ""
    ) -> OutriderError:
        """Say why nobody was asked; `lack` is what those lack who aren't among the endpoints."""
        model = endpoints[0].model
        if wait_s == math.inf:
            hosts = sorted({endpoint.host.display_name for endpoint in endpoints})
            return ProviderDenied(
                f"no provider of {model} takes our key: {', '.join(hosts)}; the operator has to "
                "put it right"
            )
        every = f"{lack}every {'other ' if lack else ''}provider of {model}"
        if any(map(self._health.is_cooling, endpoints)):
            return ProviderRateLimited(f"{every} is at its limits; try again later", wait_s)
        text = f"{every} has failed in the last minute; try again later"
        return ProviderUnavailable(text, wait_s)

    def _is_open(self, endpoint: Endpoint) -> bool:
        return endpoint.model not in self._refusing and self._health.wait_s(endpoint) <= 0
