"""Tests of the plan of one request: who is asked next, and what is told if all fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.players import ANSWER, Clock, Player, endpoint_at
from outrider.errors import (
    NoEndpoints,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedParameter,
)
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


def told(plan: Plan, *errors: OutriderError) -> OutriderError:
    """Let everybody who may be asked fail, in turn, and give what is told."""

    async def run() -> None:
        for error in errors:
            endpoint = await plan.next()
            assert endpoint is not None
            plan.fail(endpoint, error)
        assert await plan.next() is None

    asyncio.run(run())
    return plan.verdict()


LACKING = UnsupportedParameter("Host has no min_p", "min_p")


@pytest.mark.parametrize(
    ("closing", "num_times", "kind", "wait_s", "text"),
    [
        (BUSY, 1, ProviderRateLimited, 30, "every other provider of m is at its limits"),
        (BROKEN, 5, ProviderUnavailable, 5, "every other provider of m has failed"),
        (ProviderDenied("no", 401), 1, UnsupportedParameter, None, "Host has no min_p"),
    ],
    ids=["cooling", "open", "denied"],
)
def test_who_may_be_asked_in_a_while_counts_more_than_who_never_can(
    closing: ProviderError, num_times: int, kind: type, wait_s: float | None, text: str
) -> None:
    health, host, other = Health(Clock()), at("host"), at("other")
    fail(health, other, closing, num_times)
    error = told(Plan((host, other), health, RetryBudget()), LACKING)
    assert type(error) is kind
    assert error.message.startswith("Host has no min_p") and text in error.message
    assert getattr(error, "retry_after_s", None) == wait_s


@pytest.mark.parametrize("is_first", [True, False])
def test_what_one_host_lacks_is_not_told_where_another_failed(is_first: bool) -> None:
    slow, nobody = ProviderTimeout("too slow"), NoEndpoints("nobody", None)
    errors = (nobody, slow) if is_first else (slow, nobody)
    plan = Plan((at("a"), at("b")), Health(Clock()), RetryBudget())
    error = told(plan, *errors)
    assert error is slow
    assert [one.message for one in error.failed] == ["nobody", "too slow"]
