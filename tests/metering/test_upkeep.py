"""Old rows of the ledger go and their sums stay; what other servers spend counts here too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from metering.books import Books, opened, routed, with_books
from metering.clock import Clock
from metering.test_keys import key
from outrider.errors import PaymentRequired
from outrider.ledger_types import DAY_S
from outrider.metering import upkeep
from outrider.metering.budgets import Budgets, periods_of
from outrider.metering.keyring import Keyring
from outrider.metering.keys import Key
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.meter import Estimate
from outrider.metering.records import Closed, Counts, Row
from outrider.metering.upkeep import Upkeep
from outrider.routing_types import Caller
from outrider.storage.opening import Storage
from outrider.storage.schema import days, generations, hours

NOW_S = 1_799_640_000  # a Monday, the 11th of its month
MINE = key("mine", limit_microusd=1000)


class Server:
    """The budgets of one server over books that several write."""

    def __init__(self, books: Books, *keys: Key) -> None:
        self.clock = Clock(NOW_S)
        ring = Keyring(self.clock)
        ring.replace(keys)
        self.budgets = Budgets(ring, self.clock)
        self.books = books
        books.meter.budgets = self.budgets
        database = books.database
        storage = Storage(None, database, database)  # type: ignore[arg-type]
        self.upkeep = Upkeep(storage, books.writer, self.budgets, self.clock)

    def spend(self, row_id: str, cost: int) -> None:
        """Spend by a request of this server."""
        account = self.books.meter.open(
            opened(row_id, key=MINE.id, created_ms=NOW_S * 1000), Caller(key=MINE.id), routed()
        )
        account.counts = Counts(completion_tokens=1, cost_microusd=cost)
        account.close(200)

    def remaining(self) -> int | None:
        return self.budgets.remaining(MINE)


def row(row_id: str, created_s: int, cost: int, of: Key = MINE) -> Row:
    return Row(
        opened(row_id, key=of.id, created_ms=created_s * 1000),
        Counts(completion_tokens=1, cost_microusd=cost),
        Closed(status=200, duration_ms=1, provider="p"),
    )


async def elsewhere(books: Books, *rows: Row) -> None:
    """Write as another server does."""
    await books.database.run(lambda c: add_rows(c, rows, Numbers()))


def test_what_other_servers_spend_counts_within_a_look(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        server = Server(books, MINE)
        server.spend("own", 300)
        await elsewhere(books, row("other", NOW_S, 500), row("month", NOW_S - 40 * DAY_S, 50))
        assert server.remaining() == 700
        await server.upkeep.catch_up()
        assert server.remaining() == 150
        server.spend("more", 100)
        assert server.remaining() == 50
        for _ in range(2):  # counted once, however often it is read
            await server.upkeep.catch_up()
            assert server.remaining() == 50
        with pytest.raises(PaymentRequired):
            server.budgets.reserve(Caller(key=MINE.id), Estimate(60))

    with_books(tmp_path, work)


def test_spending_is_counted_in_the_periods_that_it_fell_into(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        server = Server(books, MINE)
        midnight_s = periods_of(NOW_S).daily
        before = (row(f"d{day}", midnight_s - day * DAY_S, 10**day) for day in range(3))
        await elsewhere(books, *before, row("long-ago", 5, 7000))
        await server.upkeep.catch_up()
        usage = server.budgets.usage_of(MINE.id)
        assert (usage.daily, usage.weekly, usage.monthly, usage.lifetime) == (1, 1, 111, 7111)
        server.clock.now_s += DAY_S
        await server.upkeep.catch_up()
        usage = server.budgets.usage_of(MINE.id)
        assert (usage.daily, usage.weekly, usage.monthly) == (0, 1, 111)

    with_books(tmp_path, work)


def test_what_ends_while_the_sums_are_read_is_never_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(books: Books) -> None:
        server = Server(books, MINE)
        run = books.database.run

        async def and_spend(work: Any) -> Any:
            result = await run(work)
            if not server.budgets.usage_of(MINE.id).lifetime:
                server.spend("meanwhile", 400)
            return result

        monkeypatch.setattr(books.database, "run", and_spend)
        await server.upkeep.catch_up()
        assert server.remaining() == 600

    with_books(tmp_path, work)


def test_old_rows_are_deleted_a_few_at_a_time_and_their_sums_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(upkeep, "BETWEEN_S", 0)

    async def work(books: Books) -> None:
        server = Server(books, MINE)
        await elsewhere(books, *(row(f"r{day}", NOW_S - day * DAY_S, 1) for day in range(20)))

        def count(connection: Any) -> tuple[int, ...]:
            return tuple(
                connection.scalar(select(func.count()).select_from(table))
                for table in (generations, hours, days)
            )

        assert await books.database.run(count) == (20, 20, 20)
        assert await server.upkeep.delete_old(7) == 12
        assert await books.database.run(count) == (8, 20, 20)
        assert await server.upkeep.delete_old(7) == 0
        await server.upkeep.catch_up()
        assert server.budgets.usage_of(MINE.id).lifetime == 20

    with_books(tmp_path, work)
