"""What keys have spent and may still spend: reserved before a request, settled after it.

All of it is in memory, rebuilt from the ledger when the server starts. As no other request comes in
between looking and reserving, what is spent and reserved together never exceeds a limit; spending
exceeds it only by what a request costs beyond its reservation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

from outrider.errors import PaymentRequired
from outrider.ledger_types import DAY_S
from outrider.metering.keyring import Clock, Keyring
from outrider.metering.keys import MICRO, Key, LimitReset
from outrider.metering.meter import Estimate
from outrider.metering.rate_limits import RateLimits
from outrider.routing_types import Caller

FIRST_MONDAY = 4  # in days since 1970


class Spending(Protocol):
    """What has been spent so far; the ledger knows."""

    async def spent(self, key: str, since_s: int) -> int:
        """Give what the requests of a key have cost since a time, in microusd."""
        ...


class Periods(NamedTuple):
    """When the day, week and month of a time began, in UTC; weeks begin on Monday."""

    daily: int
    weekly: int
    monthly: int

    def end_of(self, reset: LimitReset | None) -> int | None:
        """Give when a limit that is reset so begins anew; None for never."""
        match reset:
            case "daily":
                return self.daily + DAY_S
            case "weekly":
                return self.weekly + 7 * DAY_S
            case "monthly":  # some time in the next month, and the month of that
                return _periods_of_day(self.monthly // DAY_S + 31).monthly
            case None:
                return None


@lru_cache(maxsize=2)
def _periods_of_day(day: int) -> Periods:
    date = datetime.fromtimestamp(day * DAY_S, UTC)
    weekday = (day - FIRST_MONDAY) % 7
    return Periods(day * DAY_S, (day - weekday) * DAY_S, (day - date.day + 1) * DAY_S)


def periods_of(now_s: float) -> Periods:
    """Give the periods that a time lies in."""
    return _periods_of_day(int(now_s // DAY_S))


class Spent(NamedTuple):
    """What a key has spent, in microusd, as the ledger has it."""

    lifetime: int
    daily: int
    weekly: int
    monthly: int


@dataclass
class Usage:
    """What a key has spent in each period, in microusd, and what is reserved."""

    lifetime: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    reserved: int = 0
    unsummed: int = 0  # that the ledger's sums may lack
    last_used_s: int | None = None  # since the server started
    periods: Periods = field(default_factory=lambda: Periods(0, 0, 0))

    def advance(self, periods: Periods) -> None:
        """Begin the periods anew that have begun since; none if the clock was set back a little."""
        if periods == self.periods:
            return
        # What a clock began that was far ahead would stay until then, with all that is spent.
        if periods.daily >= self.periods.daily - DAY_S:
            periods = Periods(*map(max, self.periods, periods))
        for name, begin_s in zip(Periods._fields, periods, strict=True):
            if begin_s != getattr(self.periods, name):
                setattr(self, name, 0)
        self.periods = periods

    def add(self, cost_microusd: int, periods: Periods) -> None:
        """Add what a request has cost that began in these periods."""
        self.unsummed += cost_microusd
        self.lifetime += cost_microusd
        if periods == self.periods:
            self.daily += cost_microusd
            self.weekly += cost_microusd
            self.monthly += cost_microusd
            return
        for name, begin_s in zip(Periods._fields, periods, strict=True):
            if begin_s == getattr(self.periods, name):
                setattr(self, name, getattr(self, name) + cost_microusd)

    def of(self, reset: LimitReset | None) -> int:
        """Give what counts for a limit that is reset so."""
        amount: int = getattr(self, reset or "lifetime")
        return amount


class Reservation:
    """What is set aside for one request until it is settled."""

    def __init__(self, settle: Callable[[int, int], None] | None = None) -> None:
        self._settle = settle

    def settle(self, cost_microusd: int, tokens: int = 0) -> None:
        """Count what the request has cost and used, and free the rest; only once."""
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(cost_microusd, tokens)


class Budgets:
    """The money and the rates of all keys; used from one event loop."""

    def __init__(self, keyring: Keyring, clock: Clock = time.time) -> None:
        self.rates = RateLimits()
        self._keyring = keyring
        self._clock = clock
        self._usages: dict[str, Usage] = {}

    async def load(self, spending: Spending, keys: Iterable[Key]) -> None:
        """Begin with what keys have spent before this process."""
        periods = periods_of(self._clock())
        for key in keys:
            since = (0, *periods)
            amounts = [await spending.spent(key.id, since_s) for since_s in since]
            usage = self.usage_of(key.id)
            usage.advance(periods)
            for name, amount in zip(("lifetime", *Periods._fields), amounts, strict=True):
                setattr(usage, name, getattr(usage, name) + amount)

    def usage_of(self, key_id: str) -> Usage:
        """Give what a key has spent, as of now."""
        usage = self._usages.get(key_id)
        if usage is None:
            usage = self._usages[key_id] = Usage()
        usage.advance(periods_of(self._clock()))
        return usage

    def begin_sums(self) -> None:
        """Note what is spent from now on: the sums that are read next may lack it."""
        for usage in self._usages.values():
            usage.unsummed = 0

    def take_sums(self, key_id: str, periods: Periods, spent: Spent) -> None:
        """Count what all servers have spent on a key, and what may not be in it yet."""
        usage = self.usage_of(key_id)
        if usage.periods == periods:  # else one of them has just begun
            for name, amount in zip(Spent._fields, spent, strict=True):
                setattr(usage, name, amount + usage.unsummed)

    def remaining(self, key: Key) -> int | None:
        """Give what a key may still spend, in microusd, None without a limit."""
        if key.limit_microusd is None:
            return None
        return max(0, key.limit_microusd - self.usage_of(key.id).of(key.limit_reset))

    def take_request(self, caller: Caller) -> None:
        """Count a request of a caller; raises `RateLimited`."""
        if key := self._keyring.get(caller.key):
            now_s = self._clock()
            self.rates.take_request(key, now_s)
            self.usage_of(key.id).last_used_s = int(now_s)

    def reserve(self, caller: Caller, estimate: Estimate) -> Reservation:
        """Set aside what a request may cost and use; raises `PaymentRequired` or `RateLimited`.

        What it costs at most is set aside; a key's only request runs if what it costs about fits.
        Of tokens it takes up to the most, as far as they are left. No limits hold without a key.
        """
        key = self._keyring.get(caller.key)
        if key is None:
            return Reservation()
        usage = self.usage_of(key.id)
        most = max(estimate.cost_microusd, estimate.most_microusd)
        left = self._check(key, usage, estimate.cost_microusd, most)
        most = most if left is None else min(most, left)
        now_s = self._clock()
        taken = self.rates.take_tokens(key, estimate.tokens, now_s, estimate.most_tokens)
        usage.reserved += most
        periods = usage.periods

        def settle(cost: int, used_tokens: int) -> None:
            usage.reserved -= most
            now_s = self._clock()
            usage.advance(periods_of(now_s))
            usage.add(cost, periods)
            self.rates.settle_tokens(key, taken, used_tokens, now_s)

        return Reservation(settle)

    def _check(self, key: Key, usage: Usage, cost: int, most: int) -> int | None:
        """Give what is left for a request, None without a limit; raises `PaymentRequired`."""
        limit = key.limit_microusd
        if limit is None:
            return None
        unspent = limit - usage.of(key.limit_reset)
        left = unspent - usage.reserved
        wanted = most if usage.reserved else cost
        if wanted <= left:
            return left
        period = f"{key.limit_reset} " if key.limit_reset else ""
        error = PaymentRequired(
            f"the request may cost {dollars(wanted)}, but only {dollars(max(0, left))} is "
            f"left of this key's {period}limit of {dollars(limit)}; lower max_tokens or raise the "
            "limit"
        )
        error.is_momentary = cost <= unspent
        raise error


def dollars(microusd: int) -> str:
    """Write an amount for people, as in "$0.0123"."""
    text = f"{microusd / MICRO:,.6f}"
    whole, _, digits = text.partition(".")
    return f"${whole}.{digits.rstrip('0').ljust(2, '0')}"
