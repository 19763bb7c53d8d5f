"""Tests of the breaker and of what is known of endpoints, with a clock that is set by hand."""

from __future__ import annotations

import logging
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.players import ANSWER, Clock, Player
from outrider.errors import (
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
    NoEndpoints,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    UnsupportedParameter,
)
from outrider.gateway.breaker import LONGEST_OPEN_S, Breaker
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.health import Health


def endpoint(model: str = "m", **facts: object) -> Endpoint:
    host = Host(name="vllm", display_name="vLLM", is_local=False, **facts)  # type: ignore[arg-type]
    return Endpoint(host=host, model=model, provider=Player(ANSWER))


def fail(health: Health, where: Endpoint, error: OutriderError | None = None) -> None:
    health.begin(where).fail(error or ProviderError("it broke"))


def test_five_failures_in_a_row_open_the_breaker_for_longer_each_time() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    for _ in range(4):
        fail(health, where)
    assert health.wait_s(where) == 0
    fail(health, where, ProviderTimeout("too slow"))
    for open_s in (5, 10, 20, 40, 60, 60):
        assert health.wait_s(where) == open_s
        clock.now += open_s - 0.5
        assert health.wait_s(where) == 0.5
        clock.now += 0.5
        assert health.wait_s(where) == 0
        fail(health, where)


def test_two_good_ones_in_a_row_close_it_and_only_one_request_finds_out() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    for _ in range(5):
        fail(health, where)
    clock.now += 5
    probe = health.begin(where)
    assert health.wait_s(where) > 0
    probe.answer()
    assert health.wait_s(where) == 0
    probe.succeed(1)
    health.begin(where).abandon()  # says nothing
    assert health.statistics(where).state == "half_open"
    health.begin(where).succeed(1)
    assert health.statistics(where).state == "closed"
    for _ in range(4):
        fail(health, where)
    assert health.wait_s(where) == 0, "what was before it opened counts no longer"


def test_more_than_half_of_ten_failures_open_it_and_half_do_not() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    for _ in range(6):
        health.begin(where).succeed(1)
        fail(health, where)
    assert health.wait_s(where) == 0
    fail(health, where)
    assert health.wait_s(where) == 5


def test_what_began_before_the_breaker_opened_does_not_move_it() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    old = [health.begin(where) for _ in range(3)]
    for _ in range(5):
        fail(health, where)
    old[0].succeed(1)
    old[1].fail(ProviderError("it broke"))
    assert health.wait_s(where) == 5
    clock.now += 5
    probe = health.begin(where)
    old[2].fail(ProviderError("it broke"))
    assert health.statistics(where).state == "half_open"
    probe.fail(ProviderError("it broke"))
    assert health.wait_s(where) == 10


def test_a_request_that_begins_while_the_breaker_is_open_does_not_move_it() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    for _ in range(5):
        fail(health, where)
    early = [health.begin(where) for _ in range(3)]
    clock.now += 3
    early[0].succeed(1)
    early[1].fail(ProviderError("it broke"))
    early[2].abandon()
    assert health.state(where) == "open"
    assert health.wait_s(where) == 2


@pytest.mark.parametrize(
    ("said_s", "wait_s"), [(None, 5), (0.0, 0), (7.5, 7.5), (-3.0, 0), (1e9, 60), (math.inf, 60)]
)
def test_a_429_keeps_others_away_for_as_long_as_it_says(
    said_s: float | None, wait_s: float
) -> None:
    health, where = Health(Clock()), endpoint()
    fail(health, where, ProviderRateLimited("slow down", said_s, 429))
    assert health.wait_s(where) == wait_s
    assert health.is_cooling(where) == (wait_s > 0)
    assert health.wait_s(endpoint("other")) == 0
    assert health.statistics(where).uptime_5m is None, "a full host isn't a broken one"


def test_a_refused_key_takes_the_host_out_until_the_settings_are_read_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health(Clock())
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            fail(health, endpoint(), ProviderDenied("vLLM doesn't take the key", 401))
    assert len(caplog.records) == 1
    assert health.wait_s(endpoint("other")) == math.inf
    assert health.denial(endpoint("other")) == "vLLM doesn't take the key"
    health.forgive()
    assert health.wait_s(endpoint("other")) == 0


def test_a_403_takes_out_one_model_only() -> None:
    health = Health(Clock())
    fail(health, endpoint(), ProviderDenied("not for you", 403))
    assert health.wait_s(endpoint()) == math.inf
    assert health.wait_s(endpoint("other")) == 0


@pytest.mark.parametrize(
    "error", [InvalidRequest("no", "n"), NoEndpoints("nobody", None), EngineOverloaded("full")]
)
def test_a_refusal_says_nothing_about_the_host(error: OutriderError) -> None:
    health, where = Health(Clock()), endpoint()
    for _ in range(20):
        fail(health, where, error)
    assert health.wait_s(where) == 0
    assert health.is_stable(where)


def test_the_limits_of_a_host_hold_for_all_its_models() -> None:
    clock = Clock()
    health = Health(clock)
    one, two = (endpoint(name, max_concurrent=2) for name in ("one", "two"))
    first, _ = health.begin(one), health.begin(two)
    assert health.wait_s(one) > 0
    assert health.is_cooling(two)
    first.abandon()
    assert health.wait_s(two) == 0
    hourly = endpoint("three", requests_per_minute=2)
    clock.now += 100
    for _ in range(2):
        clock.now += 10
        health.begin(hourly).abandon()
    assert health.wait_s(hourly) == 50
    clock.now += 50
    assert health.wait_s(hourly) == 0


def test_what_is_refused_before_it_is_sent_takes_no_place_in_the_minute() -> None:
    health, where = Health(Clock()), endpoint(requests_per_minute=1)
    unsent = UnsupportedParameter("not on this wire", "n")
    unsent.was_sent = False
    for _ in range(3):
        fail(health, where, unsent)
    assert health.wait_s(where) == 0
    fail(health, where, UnsupportedParameter("the host says so", "n"))
    assert health.wait_s(where) == 60


def test_an_outage_is_forgotten_after_half_a_minute_and_the_uptime_remembers_it() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    fail(health, where)
    assert not health.is_stable(where)
    for _ in range(4):
        health.begin(where).succeed(1)
    assert health.is_stable(where)
    fail(health, where)
    assert not health.is_stable(where)
    clock.now += 31
    assert health.is_stable(where)
    assert health.statistics(where).uptime_5m == pytest.approx(4 / 6)
    clock.now += 600
    assert health.statistics(where).uptime_5m is None
    assert health.statistics(where).uptime_30m == pytest.approx(4 / 6)
    clock.now += 3600
    assert health.statistics(where).uptime_1d == pytest.approx(4 / 6)


def test_the_local_engine_has_no_breaker() -> None:
    health = Health(Clock())
    local = Endpoint(host=Host(), model="m", provider=Player(ANSWER))
    for _ in range(20):
        fail(health, local, EngineFailed("it died"))
    assert health.wait_s(local) == 0
    assert not health.is_stable(local)


def test_times_are_those_of_the_clock() -> None:
    clock = Clock()
    health, where = Health(clock), endpoint()
    tried = health.begin(where)
    clock.now += 0.5
    assert tried.answer() == 0.5
    clock.now += 1.5
    tried.succeed(100)
    assert health.latency_s(where)["p50"] == pytest.approx(0.5, rel=0.05)
    assert health.throughput(where)["p90"] == pytest.approx(50, rel=0.05)


class BreakerMachine(RuleBasedStateMachine):
    """Requests begin, end and time goes on in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.running: list[int] = []
        self.opened_at: float | None = None

    @precondition(lambda self: self.breaker.wait_s(self.now) == 0)
    @rule()
    def begin(self) -> None:
        self.running.append(self.breaker.begin(self.now))
        assert self.breaker.state != "open"
        self.opened_at = None

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100), how=st.sampled_from(["succeed", "fail", "release"]))
    def end(self, which: int, how: str) -> None:
        begun = self.running.pop(which % len(self.running))
        before = self.breaker.state
        if how == "release":
            self.breaker.release(begun)
        elif how == "succeed":
            self.breaker.succeed(begun, self.now)
            assert self.breaker.state in {before, "closed"}, "a good result never opens it"
        else:
            self.breaker.fail(begun, self.now)
            assert self.breaker.state in {before, "open"}, "a failure never closes it"
        if before != "open" and self.breaker.state == "open":
            self.opened_at = self.now

    @rule(seconds=st.floats(0, 70))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_is_never_shut_for_good(self) -> None:
        wait_s = self.breaker.wait_s(self.now)
        assert 0 <= wait_s <= LONGEST_OPEN_S
        if self.breaker.state == "closed":
            assert wait_s == 0
        if self.opened_at is not None and self.now - self.opened_at < 5:
            assert wait_s > 0, "it stays shut for at least five seconds"
        if not self.running and self.breaker.state == "half_open":
            assert wait_s == 0, "a probe that ended makes room for the next"


def test_requests_and_time_in_any_order_never_shut_a_breaker_for_good() -> None:
    run_state_machine_as_test(BreakerMachine, settings=settings(max_examples=50, deadline=None))
