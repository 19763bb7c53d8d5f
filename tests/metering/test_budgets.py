"""Budgets: never more reserved than there is, settled once, begun anew in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from metering.clock import Clock
from metering.test_keys import key
from outrider.errors import PaymentRequired, RateLimited
from outrider.metering.budgets import Budgets, Reservation, Spent, dollars, periods_of
from outrider.metering.keyring import Keyring
from outrider.metering.keys import Key, LimitReset
from outrider.metering.meter import Estimate
from outrider.routing_types import Caller

DAY_S = 86_400
MONDAY_S = 1_799_625_600  # 2027-01-11T00:00:00Z
CENT = 10_000


def budgets_of(mine: Key, clock: Clock | None = None) -> Budgets:
    clock = clock or Clock(MONDAY_S)
    ring = Keyring(clock)
    ring.replace([mine])
    return Budgets(ring, clock)


def caller_of(mine: Key) -> Caller:
    return Caller(key=mine.id)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))
def test_periods_begin_at_midnight_on_mondays_and_firsts_in_utc(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    day = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    begins = (day, day - timedelta(days=day.weekday()), day.replace(day=1))
    periods = periods_of(moment.timestamp())
    assert periods == tuple(int(begin.timestamp()) for begin in begins)
    for reset in ("daily", "weekly", "monthly"):
        end_s = periods.end_of(reset)
        assert end_s is not None
        assert getattr(periods_of(end_s), reset) == end_s > moment.timestamp()
        assert getattr(periods_of(end_s - 1), reset) == getattr(periods, reset)


def test_two_hundred_requests_on_the_last_cent_spend_no_more_than_it() -> None:
    mine = key(limit_microusd=CENT)
    budgets, spent = budgets_of(mine), []

    async def request() -> None:
        reservation = budgets.reserve(caller_of(mine), Estimate(300))
        await asyncio.sleep(0)
        spent.append(300)
        reservation.settle(300)

    async def main() -> list[BaseException | None]:
        return await asyncio.gather(*(request() for _ in range(200)), return_exceptions=True)

    results = asyncio.run(main())
    assert sum(spent) == 9900
    assert sum(isinstance(result, PaymentRequired) for result in results) == 200 - 33
    assert budgets.usage_of(mine.id).reserved == 0
    assert budgets.remaining(mine) == 100


def test_requests_that_cost_more_than_they_said_overshoot_by_what_was_under_way() -> None:
    mine = key(limit_microusd=CENT)
    budgets = budgets_of(mine)
    first = budgets.reserve(caller_of(mine), Estimate(CENT))
    with pytest.raises(PaymentRequired):
        budgets.reserve(caller_of(mine), Estimate(1))
    first.settle(CENT + 5)
    assert budgets.remaining(mine) == 0
    with pytest.raises(PaymentRequired):  # not even what costs nothing: as OpenRouter
        budgets.reserve(caller_of(mine), Estimate(0))


def test_a_prompt_that_may_cost_more_than_it_looks_runs_alone_on_the_last_of_a_limit() -> None:
    mine = key(limit_microusd=CENT)
    budgets = budgets_of(mine)
    alone = budgets.reserve(caller_of(mine), Estimate(CENT // 2, 0, 2 * CENT))
    with pytest.raises(PaymentRequired):
        budgets.reserve(caller_of(mine), Estimate(1))
    budgets.reserve(caller_of(mine), Estimate(0))  # what costs nothing may run beside it
    alone.settle(CENT // 4)
    budgets.reserve(caller_of(mine), Estimate(1, 0, CENT // 2))
    with pytest.raises(PaymentRequired):
        budgets.reserve(caller_of(mine), Estimate(1, 0, CENT // 2))
    budgets.reserve(caller_of(mine), Estimate(1, 0, CENT // 4))


def test_a_refusal_is_momentary_while_only_others_that_run_are_in_the_way() -> None:
    mine = key(limit_microusd=CENT)
    budgets = budgets_of(mine)

    def is_momentary(cost: int, most: int) -> bool:
        with pytest.raises(PaymentRequired) as refusal:
            budgets.reserve(caller_of(mine), Estimate(cost, 0, most))
        return refusal.value.is_momentary

    assert not is_momentary(CENT + 1, CENT + 1)
    running = budgets.reserve(caller_of(mine), Estimate(CENT // 2))
    assert is_momentary(CENT, 2 * CENT)
    assert not is_momentary(CENT + 1, CENT + 1)
    running.settle(CENT // 2)
    assert not is_momentary(CENT, CENT)
    budgets.reserve(caller_of(mine), Estimate(CENT // 2, 0, CENT))


def test_a_refusal_says_what_is_left_and_what_to_do() -> None:
    mine = key(limit_microusd=2_500_000, limit_reset="weekly")
    budgets = budgets_of(mine)
    budgets.reserve(caller_of(mine), Estimate(2_400_000))
    words = r"may cost \$0\.20, but only \$0\.10 is left of this key's weekly limit of \$2\.50; "
    with pytest.raises(PaymentRequired, match=words + "lower max_tokens or raise the limit"):
        budgets.reserve(caller_of(mine), Estimate(200_000))


@pytest.mark.parametrize(
    ("reset", "days"), [("daily", 1), ("weekly", 7), ("monthly", 31 - 10), (None, 10**4)]
)
def test_a_limit_begins_anew_with_its_period(reset: LimitReset | None, days: int) -> None:
    clock, mine = Clock(MONDAY_S), key(limit_microusd=100, limit_reset=reset)
    budgets = budgets_of(mine, clock)
    budgets.reserve(caller_of(mine), Estimate(100)).settle(100)
    clock.now_s = MONDAY_S + days * DAY_S - 1
    with pytest.raises(PaymentRequired):
        budgets.reserve(caller_of(mine), Estimate(1))
    clock.now_s += 1
    assert budgets.remaining(mine) == (100 if reset else 0)
    assert budgets.usage_of(mine.id).lifetime == 100


def test_what_began_before_midnight_counts_for_the_day_that_is_over() -> None:
    clock, mine = Clock(MONDAY_S - 1), key(limit_microusd=100, limit_reset="daily")
    budgets = budgets_of(mine, clock)
    reservation = budgets.reserve(caller_of(mine), Estimate(60))
    clock.now_s = MONDAY_S
    reservation.settle(60)
    usage = budgets.usage_of(mine.id)
    assert (usage.lifetime, usage.daily, usage.weekly, usage.monthly) == (60, 0, 0, 60)


def test_a_clock_that_is_set_back_gives_no_money() -> None:
    clock, mine = Clock(MONDAY_S), key(limit_microusd=100, limit_reset="daily")
    budgets = budgets_of(mine, clock)
    budgets.reserve(caller_of(mine), Estimate(100)).settle(100)
    clock.now_s = MONDAY_S - 1
    with pytest.raises(PaymentRequired):
        budgets.reserve(caller_of(mine), Estimate(1))


@pytest.mark.parametrize("days", [2, 40, 4000])
@pytest.mark.parametrize("reset", ["daily", "weekly", "monthly"])
def test_a_clock_that_was_far_ahead_leaves_limits_beginning_anew_in_time(
    reset: LimitReset, days: int
) -> None:
    clock, mine = Clock(MONDAY_S), key(limit_microusd=100, limit_reset=reset)
    budgets = budgets_of(mine, clock)
    clock.now_s = MONDAY_S + days * DAY_S
    budgets.reserve(caller_of(mine), Estimate(100)).settle(100)
    ahead = periods_of(clock.now_s)
    clock.now_s = MONDAY_S
    usage = budgets.usage_of(mine.id)
    assert usage.periods == periods_of(MONDAY_S)
    # What was spent stays in periods that are the same, and in the key's life.
    is_same = getattr(ahead, reset) == getattr(usage.periods, reset)
    assert (budgets.remaining(mine), usage.lifetime) == (0 if is_same else 100, 100)
    budgets.begin_sums()
    budgets.take_sums(mine.id, periods_of(MONDAY_S), Spent(170, 70, 70, 70))  # of all servers
    assert budgets.remaining(mine) == 30
    end_s = usage.periods.end_of(reset)
    assert end_s is not None
    clock.now_s = end_s
    assert budgets.remaining(mine) == 100


def test_callers_without_a_key_and_keys_without_a_limit_spend_freely() -> None:
    mine = key()
    budgets = budgets_of(mine)
    budgets.reserve(Caller(), Estimate(10**12)).settle(10**12)
    budgets.reserve(caller_of(mine), Estimate(10**12)).settle(10**12)
    assert budgets.usage_of(mine.id).daily == 10**12
    assert budgets.remaining(mine) is None


def test_tokens_that_are_refused_reserve_no_money() -> None:
    mine = key(limit_microusd=100, tokens_per_minute=10)
    budgets = budgets_of(mine)
    held = budgets.reserve(caller_of(mine), Estimate(10, 10))
    with pytest.raises(RateLimited):
        budgets.reserve(caller_of(mine), Estimate(10, 1))
    assert budgets.usage_of(mine.id).reserved == 10
    held.settle(5, 4)
    budgets.reserve(caller_of(mine), Estimate(95, 6))


def test_what_was_spent_before_a_restart_comes_from_the_ledger() -> None:
    costs = {MONDAY_S - 40 * DAY_S: 1, MONDAY_S - DAY_S: 20, MONDAY_S + 60: 300}

    class Ledger:
        async def spent(self, key: str, since_s: int) -> int:
            return sum(cost for time_s, cost in costs.items() if time_s >= since_s)

    mine = key(limit_microusd=500, limit_reset="monthly")
    budgets = budgets_of(mine, Clock(MONDAY_S + 3600))
    asyncio.run(budgets.load(Ledger(), [mine]))
    usage = budgets.usage_of(mine.id)
    assert (usage.lifetime, usage.daily, usage.weekly, usage.monthly) == (321, 300, 300, 320)
    assert budgets.remaining(mine) == 180


@pytest.mark.parametrize(
    ("microusd", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (CENT, "$0.01"),
        (2_500_000, "$2.50"),
        (10**12, "$1,000,000.00"),
    ],
)
def test_amounts_are_written_whole(microusd: int, text: str) -> None:
    assert dollars(microusd) == text


class Spending(RuleBasedStateMachine):
    """Any order of requests, ends and midnights against a book that is kept beside."""

    @initialize(limit=st.integers(0, 1000), reset=st.sampled_from(["daily", "weekly", None]))
    def begin(self, limit: int, reset: LimitReset | None) -> None:
        self.clock = Clock(MONDAY_S)
        self.key = key(limit_microusd=limit, limit_reset=reset)
        self.budgets = budgets_of(self.key, self.clock)
        self.running: list[tuple[int, float, Reservation]] = []
        self.book: list[tuple[float, int]] = []  # when it began, what it cost

    def spent(self) -> int:
        periods = periods_of(self.clock.now_s)
        reset = self.key.limit_reset
        begin_s = 0 if reset is None else getattr(periods, reset)
        return sum(cost for time_s, cost in self.book if time_s >= begin_s)

    @rule(cost=st.integers(0, 400))
    def reserve(self, cost: int) -> None:
        reserved = sum(amount for amount, _, _ in self.running)
        fits = self.spent() + reserved + cost <= (self.key.limit_microusd or 0)
        try:
            reservation = self.budgets.reserve(caller_of(self.key), Estimate(cost))
        except PaymentRequired:
            assert not fits
        else:
            assert fits
            self.running.append((cost, self.clock.now_s, reservation))

    @rule(share=st.floats(0, 1), index=st.integers(0, 9), is_twice=st.booleans())
    def settle(self, share: float, index: int, is_twice: bool) -> None:
        if index < len(self.running):
            amount, begin_s, reservation = self.running.pop(index)
            cost = int(amount * share)
            reservation.settle(cost)
            if is_twice:
                reservation.settle(10**6)
            self.book.append((begin_s, cost))

    @rule(hours=st.integers(0, 60))
    def wait(self, hours: int) -> None:
        self.clock.now_s += hours * 3600

    @invariant()
    def no_more_is_spent_than_the_limit(self) -> None:
        assert self.spent() <= (self.key.limit_microusd or 0)
        assert self.budgets.remaining(self.key) == (self.key.limit_microusd or 0) - self.spent()


test_budgets_agree_with_a_book_kept_beside_them = Spending.TestCase
