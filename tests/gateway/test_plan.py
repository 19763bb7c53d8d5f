"""Tests of the plan of one request: who is asked next, and what is told if all fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.players import ANSWER, Clock, Player, endpoint_at
from outrider.errors import ProviderError, ProviderRateLimited
from outrider.gateway import retries
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health
from outrider.gateway.plan import Plan
from outrider.gateway.retries import MAX_SAVED, RetryBudget

BROKEN = ProviderError("it broke", 503)
BUSY = ProviderRateLimited("slow down", 30, 429)


@pytest.fixture(autouse=True)
def pauses_of_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "pause_s", lambda number: 0.0)


def at(name: str, **facts: object) -> Endpoint:
    return endpoint_at(name, Player(ANSWER), **facts)


def fail(health: Health, endpoint: Endpoint, error: ProviderError, times: int = 1) -> None:
    for _ in range(times):
        health.begin(endpoint).fail(error)


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param(lambda health, host: fail(health, host, BROKEN, 5), id="breaker"),
        pytest.param(lambda health, host: fail(health, host, BUSY), id="cooldown"),
        pytest.param(lambda health, host: health.begin(host), id="max-concurrent"),
    ],
)
def test_a_host_that_closes_during_the_pause_is_not_asked_again(
    meanwhile: Callable[[Health, Endpoint], object],
) -> None:
    health, budget = Health(Clock()), RetryBudget()
    host, other = at("host", max_concurrent=1), at("other")

    async def run() -> Endpoint | None:
        plan = Plan((host, other), health, budget)
        for endpoint in (host, other):
            assert await plan.next() is endpoint
            plan.fail(endpoint, BROKEN)
        again = asyncio.ensure_future(plan.next())
        await asyncio.sleep(0)  # now it pauses
        meanwhile(health, host)
        return await again

    assert asyncio.run(run()) is other
    assert budget.left == MAX_SAVED - 1
