"""What is done to the ledger now and then: old rows go, and what other servers spent comes in.

Rows are deleted a few at a time, so that nobody waits for it; their sums by hour and day stay. What
a key has spent is read from the sums while nothing of ours waits to be written, and what ends
meanwhile counts on top, so a key has never less spent than it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from sqlalchemy import Connection, case, delete, func, select

from outrider.errors import StorageError
from outrider.ledger_types import DAY_S
from outrider.metering.budgets import Budgets, Periods, Spent, periods_of
from outrider.metering.keyring import Clock
from outrider.metering.writer import LedgerWriter
from outrider.storage.opening import Storage
from outrider.storage.schema import days, generations, series

logger = logging.getLogger(__name__)

CLEANING_S = 3600.0
ROWS_AT_ONCE = 1000
BETWEEN_S = 0.05  # for others to write
FOLLOW_S = 2.0  # how old the spending of other servers may be


class Upkeep:
    """Works from `start` to `close`, as far as there is anything to do."""

    def __init__(
        self, storage: Storage, ledger: LedgerWriter, budgets: Budgets, clock: Clock = time.time
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._budgets = budgets
        self._clock = clock
        self._before: tuple[int, dict[str, int]] = (-1, {})  # spent before a time
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, keep_days: int, *, is_shared: bool) -> None:
        """Begin; rows are kept for ever with 0 days."""
        if keep_days:
            self._tasks.append(asyncio.create_task(self._clean(keep_days)))
        if is_shared:
            self._tasks.append(asyncio.create_task(self._follow()))

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def delete_old(self, keep_days: int) -> int:
        """Delete what is older; give how many rows that were."""
        before_ms = int((self._clock() - keep_days * DAY_S) * 1000)
        total = 0
        while number := await self._storage.run(_delete_some, before_ms):
            total += number
            await asyncio.sleep(BETWEEN_S)
        return total

    async def catch_up(self) -> None:
        """Take over what all servers have spent, unless rows of ours can't be written now."""
        self._budgets.begin_sums()
        if not await self._ledger.flush():
            return
        periods = periods_of(self._clock())
        since_s = min(periods)
        if self._before[0] != since_s:
            self._before = since_s, await self._storage.run(_spent_before, since_s)
        before = self._before[1]
        found = await self._storage.run(_spent_since, periods)
        for key in before.keys() | found.keys():
            spent = found.get(key, NOTHING)
            total = spent.lifetime + before.get(key, 0)
            self._budgets.take_sums(key, periods, spent._replace(lifetime=total))

    async def _clean(self, keep_days: int) -> None:
        while True:
            try:
                if number := await self.delete_old(keep_days):
                    logger.info("deleted %d rows of the ledger, whose time was over", number)
            except StorageError as error:
                logger.error("old rows of the ledger stay for now: %s", error.message)
            await asyncio.sleep(CLEANING_S)

    async def _follow(self) -> None:
        is_fine = True
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                await self.catch_up()
                is_fine = True
            except StorageError as error:
                if is_fine:
                    logger.error("what other servers spend isn't known: %s", error.message)
                is_fine = False


NOTHING = Spent(0, 0, 0, 0)


def _delete_some(connection: Connection, before_ms: int) -> int:
    old = (
        select(generations.c.number)
        .where(generations.c.created_ms < before_ms)
        .order_by(generations.c.created_ms)
        .limit(ROWS_AT_ONCE)
    )
    return connection.execute(delete(generations).where(generations.c.number.in_(old))).rowcount


def _spent_before(connection: Connection, before_s: int) -> dict[str, int]:
    query = (
        select(series.c.key, func.sum(days.c.cost_microusd))
        .join(series, days.c.series == series.c.number)
        .where(days.c.begin_s < before_s)
        .group_by(series.c.key)
    )
    return {key: int(cost) for key, cost in connection.execute(query)}


def _spent_since(connection: Connection, periods: Periods) -> dict[str, Spent]:
    """Give what keys have spent since the earliest of some periods began, and in each."""
    cost = days.c.cost_microusd
    sums = (func.sum(case((days.c.begin_s >= since_s, cost), else_=0)) for since_s in periods)
    query = (
        select(series.c.key, func.sum(cost), *sums)
        .join(series, days.c.series == series.c.number)
        .where(days.c.begin_s >= min(periods))
        .group_by(series.c.key)
    )
    return {key: Spent(*map(int, amounts)) for key, *amounts in connection.execute(query)}
