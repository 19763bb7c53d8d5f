"""Limits of requests and tokens in a minute: kept in any minute, and lifted in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.test_keys import key
from outrider.errors import RateLimited
from outrider.metering.rate_limits import LastMinute, RateLimits

PAUSES = st.lists(st.floats(0, 90) | st.floats(0, 1), max_size=80)


@given(st.integers(1, 6), PAUSES)
def test_no_minute_has_more_requests_than_the_limit(limit: int, pauses: list[float]) -> None:
    limits, mine = RateLimits(), key(requests_per_minute=limit)
    now_s, taken = 1000.0, []
    for pause in pauses:
        now_s += pause
        try:
            limits.take_request(mine, now_s)
        except RateLimited as refusal:
            assert taken
            assert refusal.retry_after_s >= 1
            limits.take_request(mine, now_s + refusal.retry_after_s)  # as it says
            now_s += refusal.retry_after_s
        taken.append(now_s)
    for begin in taken:
        assert sum(begin <= time < begin + 60 for time in taken) <= limit


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 50)), max_size=60))
def test_the_last_minute_is_what_was_taken_in_it(events: list[tuple[float, int]]) -> None:
    minute, taken, now_s = LastMinute(), [], 0.0
    for pause, amount in events:
        now_s += pause
        minute.forget(now_s)
        minute.take(amount, now_s)
        taken.append((int(now_s), amount))
        assert minute.total == sum(a for second, a in taken if second >= int(now_s) - 60)
        assert len(minute._seconds) <= 61


def test_a_key_without_limits_is_counted_nowhere() -> None:
    limits = RateLimits()
    for _ in range(1000):
        limits.take_request(key(), 0.0)
        limits.take_tokens(key(), 10**6, 0.0)
    assert not limits._used


def test_a_refusal_says_what_the_limit_is_and_when_to_try_again() -> None:
    limits, mine = RateLimits(), key(requests_per_minute=2)
    limits.take_request(mine, 100.5)
    limits.take_request(mine, 130.0)
    with pytest.raises(RateLimited, match="2 requests per minute; try again in 31 s") as refusal:
        limits.take_request(mine, 130.5)
    error = refusal.value
    assert (error.retry_after_s, error.limit, error.remaining, error.reset_s) == (31, 2, 0, 162)


def test_keys_do_not_share_their_limits_and_a_changed_limit_holds_at_once() -> None:
    limits = RateLimits()
    limits.take_request(key("a", requests_per_minute=1), 5.0)
    limits.take_request(key("b", requests_per_minute=1), 5.0)
    limits.take_request(key("a", requests_per_minute=2), 5.0)
    with pytest.raises(RateLimited):
        limits.take_request(key("a", requests_per_minute=2), 5.0)


def test_tokens_that_were_not_used_are_given_back() -> None:
    limits, mine = RateLimits(), key(tokens_per_minute=100)
    taken = limits.take_tokens(mine, 90, 10.0)
    with pytest.raises(RateLimited, match="100 tokens per minute"):
        limits.take_tokens(mine, 20, 11.0)
    limits.settle_tokens(mine, taken, 30, 12.0)
    limits.take_tokens(mine, 70, 12.0)
    with pytest.raises(RateLimited):
        limits.take_tokens(mine, 1, 13.0)


def test_one_request_may_use_more_than_a_minute_has_but_only_alone() -> None:
    limits, mine = RateLimits(), key(tokens_per_minute=100)
    limits.take_tokens(mine, 1, 10.0)
    with pytest.raises(RateLimited) as refusal:
        limits.take_tokens(mine, 5000, 10.0)
    assert refusal.value.retry_after_s == 61
    limits.take_tokens(mine, 5000, 71.0)
    with pytest.raises(RateLimited):
        limits.take_tokens(mine, 1, 131.9)
    limits.take_tokens(mine, 1, 132.0)


def test_an_answer_of_unknown_length_takes_what_is_left_and_gives_the_rest_back() -> None:
    limits, mine = RateLimits(), key(tokens_per_minute=100)
    taken = [limits.take_tokens(mine, 10, 10.0, 70) for _ in range(2)]
    assert [each.amount for each in taken] == [70, 30]
    with pytest.raises(RateLimited):
        limits.take_tokens(mine, 10, 10.0, 70)
    for each in taken:
        limits.settle_tokens(mine, each, 45, 11.0)
    assert limits.take_tokens(mine, 10, 12.0, 70).amount == 10
    alone = limits.take_tokens(mine, 500, 80.0, 700)  # more than a minute has
    assert alone.amount == 500


def test_tokens_of_a_long_answer_count_when_it_ends() -> None:
    limits, mine = RateLimits(), key(tokens_per_minute=100)
    taken = limits.take_tokens(mine, 10, 0.0)
    limits.take_tokens(mine, 0, 100.0)
    limits.settle_tokens(mine, taken, 100, 100.0)
    with pytest.raises(RateLimited):
        limits.take_tokens(mine, 20, 101.0)


def test_a_clock_that_is_set_back_lets_nothing_more_through() -> None:
    limits, mine = RateLimits(), key(requests_per_minute=1)
    limits.take_request(mine, 1000.0)
    with pytest.raises(RateLimited):
        limits.take_request(mine, 500.0)


def test_a_clock_that_is_set_back_keeps_nobody_waiting_until_it_is_where_it_was() -> None:
    limits, mine = RateLimits(), key(requests_per_minute=2)
    for now_s in (7200.0, 7201.0):
        limits.take_request(mine, now_s)
    with pytest.raises(RateLimited) as caught:
        limits.take_request(mine, 3600.0)
    assert (caught.value.retry_after_s or 0) <= 61
    limits.take_request(mine, 3661.5)
