"""The ledger: sums that hold whatever is written twice, and what a failing database can't lose."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, select

from metering.books import PRICE, Books, empty_database, opened, played, routed, rows_of, with_books
from outrider.errors import ProviderError
from outrider.ledger_types import DAY_S, HOUR_S
from outrider.metering import ledger as module
from outrider.metering import writer
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.meter import STATUS_CANCELLED
from outrider.metering.records import Closed, Counts, Row
from outrider.routing_types import Attempt, Caller, Price
from outrider.storage.schema import (
    app_categories,
    app_days,
    apps,
    days,
    generations,
    hours,
    model_days,
    prices,
    series,
)
from outrider.types import Completed, Event, Finished, Started, TextDelta, Usage
from storage.records import run

NOW_MS = 1_790_000_000_000


def row_of(number: int, **fields: Any) -> Row:
    names = ("key", "app_url", "app_categories", "model")
    begun = {key: fields.pop(key) for key in names if key in fields}
    created_ms = NOW_MS + fields.pop("after_s", 0) * 1000
    counts = Counts(**{key: fields.pop(key) for key in Counts.__struct_fields__ if key in fields})
    values = {"status": 200, "duration_ms": 1, "provider": "p", "price": PRICE, **fields}
    return Row(opened(f"gen-{number}", created_ms=created_ms, **begun), counts, Closed(**values))


counts_of = st.integers(0, 10**9)
any_row = st.builds(
    row_of,
    st.integers(0, 30),
    after_s=st.integers(0, 3 * DAY_S),
    key=st.sampled_from(["", "k1", "k2"]),
    app_url=st.sampled_from(["", "https://a.example", "https://b.example"]),
    model=st.sampled_from(["m1", "m2"]),
    prompt_tokens=counts_of,
    completion_tokens=counts_of,
    cached_tokens=counts_of,
    cost_microusd=counts_of,
    status=st.sampled_from([200, 499, 502]),
    has_tool_calls=st.booleans(),
)


def sums_of(connection: Connection, table: Any) -> Counter[tuple[int, str]]:
    query = select(table, series.c.model).join(series, table.c.series == series.c.number)
    sums: Counter[tuple[int, str]] = Counter()
    for row in connection.execute(query):
        for name in ("requests", "failures", "prompt_tokens", "completion_tokens", "cost_microusd"):
            sums[row.begin_s, f"{row.model} {name}"] += getattr(row, name)
    return sums


def expected_sums(rows: list[Row], period_s: int) -> Counter[tuple[int, str]]:
    sums: Counter[tuple[int, str]] = Counter()
    for row in rows:
        begin_s = row.opened.created_ms // 1000 // period_s * period_s
        amounts = {
            "requests": 1,
            "failures": int(row.closed.status == 502),
            "prompt_tokens": row.counts.prompt_tokens,
            "completion_tokens": row.counts.completion_tokens,
            "cost_microusd": row.counts.cost_microusd,
        }
        for name, amount in amounts.items():
            sums[begin_s, f"{row.model} {name}"] += amount
    return sums


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(any_row, max_size=8), max_size=5))
def test_sums_are_those_of_the_rows_however_often_a_row_is_written(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Row]]
) -> None:
    path = empty_database(tmp_path_factory.mktemp("sums"))
    numbers = Numbers()
    first: dict[str, Row] = {}
    for batch in batches:
        batch_rows = {row.opened.id: row for row in batch}  # as add_rows sees them
        first = {**batch_rows, **first}
    works = [lambda c, batch=batch: add_rows(c, batch, numbers) for batch in batches]
    again = [lambda c, batch=batch: add_rows(c, batch, Numbers()) for batch in batches]
    added = run(path, *works, *again)
    rows = list(first.values())
    assert sum(added) == len(rows)
    assert added[len(works) :] == [0] * len(works)

    def check(connection: Connection) -> None:
        assert len(rows_of(connection)) == len(rows)
        for table, period_s in ((hours, HOUR_S), (days, DAY_S)):
            assert sums_of(connection, table) == expected_sums(rows, period_s)
        tokens = [row.counts.prompt_tokens + row.counts.completion_tokens for row in rows]
        ranked = select(func.sum(model_days.c.requests), func.sum(model_days.c.tokens))
        assert connection.execute(ranked).one() == (
            (len(rows), sum(tokens)) if rows else (None, None)
        )
        with_app = sum(n for n, row in zip(tokens, rows, strict=True) if row.opened.app_url)
        assert (connection.scalar(select(func.sum(app_days.c.tokens))) or 0) == with_app

    run(path, check)


def test_many_rows_of_one_statement_are_stored_as_the_plain_insert_stores_them(
    tmp_path: Path,
) -> None:
    tried = (Attempt(provider="p", model="m", status=502, error_code="provider_error"),) * 2
    rows = [
        row_of(
            number,
            attempts=tried[: number % 3],
            native_reason="é'\"?",
            first_token_ms=number if number % 2 else None,
            is_cancelled=number % 5 == 0,
            prompt_tokens=2**40 + number,
        )
        for number in range(2 * module.ROWS_PER_STATEMENT + 3)
    ]

    def plain(connection: Connection) -> None:
        add_rows(connection, rows[:1], Numbers())
        connection.execute(generations.delete())
        values = [dict(zip(module.COLUMNS, module._generation(r, 1, 1), strict=True)) for r in rows]
        for value in values:
            value["attempts"] = msgspec.to_builtins(value["attempts"])
        connection.execute(generations.insert(), values)

    def stored(connection: Connection) -> list[Any]:
        return list(connection.execute(select(generations).order_by(generations.c.number)))

    (tmp_path / "plain").mkdir()
    *_, expected = run(empty_database(tmp_path / "plain"), plain, stored)
    *_, found = run(empty_database(tmp_path), lambda c: add_rows(c, rows, Numbers()), stored)
    assert found == expected
    assert len(found) == len(rows)


def test_a_price_that_changes_is_a_new_version_and_rows_keep_theirs(tmp_path: Path) -> None:
    dear = Price(prompt=9_000_000, completion=9_000_000)
    numbers = Numbers()
    wanted = [PRICE, PRICE, dear, dear, PRICE, None]

    def add(connection: Connection, number: int, price: Price | None) -> None:
        add_rows(connection, [row_of(number, price=price)], numbers if number % 2 else Numbers())

    works = [lambda c, n=n, p=p: add(c, n, p) for n, p in enumerate(wanted)]
    *_, rows, versions = run(
        empty_database(tmp_path), *works, rows_of, lambda c: list(c.execute(select(prices)))
    )
    assert [row.price for row in rows] == [1, 1, 2, 2, 3, None]
    assert [(v.prompt, v.cached) for v in versions] == [
        (2_000_000, 1_000_000),
        (9_000_000, 9_000_000),
        (2_000_000, 1_000_000),
    ]


def test_apps_have_their_last_title_and_too_many_of_them_are_counted_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_APPS", 2)
    numbers = Numbers()
    urls = ["https://a", "https://b", "https://c", "https://a"]
    rows = [
        Row(opened(f"gen-{n}", app_url=url, app_title=f"T{n}"), Counts(), row_of(0).closed)
        for n, url in enumerate(urls)
    ]
    _, titles, numbers_of = run(
        empty_database(tmp_path),
        lambda c: add_rows(c, rows, numbers),
        lambda c: dict(c.execute(select(apps.c.url, apps.c.title)).all()),
        lambda c: sorted(c.scalars(select(series.c.app))),
    )
    assert titles == {"https://a": "T3", "https://b": "T1"}
    assert numbers_of == [0, 1, 2]


def test_an_app_has_the_first_ten_categories_that_its_requests_named(tmp_path: Path) -> None:
    ours, theirs = Numbers(), Numbers()  # of two servers
    names = [f"c{n:02}" for n in range(14)]

    def add(number: int, numbers: Numbers, *named: str, url: str = "https://a") -> Any:
        row = row_of(number, app_url=url, app_categories=named)
        return lambda c: add_rows(c, [row, row_of(100 + number, app_url=url)], numbers)

    *_, found = run(
        empty_database(tmp_path),
        add(0, ours, "c00", "c01"),
        add(1, theirs, "c01", "c02", url="https://b"),
        add(2, theirs, "c01", "c02"),
        *(add(n, (ours, theirs)[n % 2], names[n], names[n - 1]) for n in range(3, 14)),
        add(14, ours, "c13", url=""),  # no app
        lambda c: c.execute(select(apps.c.url, app_categories.c.category).join(apps)).all(),
    )
    assert sorted(name for url, name in found if url == "https://a") == names[:10]
    assert sorted(name for url, name in found if url == "https://b") == names[1:3]


def test_categories_that_are_known_ask_the_database_nothing(tmp_path: Path) -> None:
    numbers, asked = Numbers(), list[str]()

    def add(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", lambda *said: asked.append(said[2]))
        for number in range(3):
            row = row_of(number, app_url="https://a", app_categories=("game",))
            add_rows(connection, [row], numbers)

    run(empty_database(tmp_path), add)
    assert sum("app_categories" in statement for statement in asked) == 2  # read and written once


def test_what_the_database_does_not_take_waits_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    monkeypatch.setattr(writer, "LINGER_S", 0.0)
    monkeypatch.setattr("outrider.storage.sqlite.BUSY_S", 0.05)

    async def work(books: Books) -> None:
        blocker = sqlite3.connect(tmp_path / "outrider.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for number in range(3):
            books.meter.open(opened(f"gen-{number}"), Caller(), routed()).close(200)
        await books.writer.flush()
        await books.writer.flush()
        assert len(caplog.records) == 1
        blocker.execute("ROLLBACK")
        blocker.close()
        while len(await books.rows()) < 3:
            await asyncio.sleep(0.01)

    with_books(tmp_path, work)


def test_rows_that_were_never_written_are_there_after_the_next_start(tmp_path: Path) -> None:
    class Broken(Books):
        async def __aexit__(self, *_: object) -> None:
            assert self.writer._loop is not None
            self.writer._loop.cancel()  # as if killed: nothing is written any more
            await self.database.close()

    async def stop_early() -> None:
        async with Broken(tmp_path) as books:
            account = books.meter.open(opened("gen-a"), Caller(), routed())
            async with aclosing(account.watch(played(ANSWER))) as events:
                await anext(events)
                await anext(events)
                books.meter.open(opened("gen-b"), Caller(), routed()).close(200)

    async def look(books: Books) -> None:
        rows = {row.id: row for row in await books.rows()}
        assert rows["gen-b"].status == 200
        assert (rows["gen-a"].error_code, rows["gen-a"].completion_tokens) == ("server_killed", 2)

    asyncio.run(stop_early())
    with_books(tmp_path, look)
    with_books(tmp_path, look)


ANSWER: tuple[Event, ...] = (
    Started("m", prompt_tokens=10),
    TextDelta(0, "a", num_tokens=2),
    TextDelta(0, "b", num_tokens=3),
    Finished(0, "stop"),
    Completed(Usage(10, 5)),
)

# How many events the caller takes (more than there are: all of them), and where the host fails.
plays = st.tuples(st.integers(0, 6), st.none() | st.integers(0, 4), st.integers(1, 3))


@settings(max_examples=30, deadline=None)
@given(mix=st.lists(plays, min_size=1, max_size=12))
def test_any_mix_of_ends_failures_and_aborts_is_counted_to_the_token(
    tmp_path_factory: pytest.TempPathFactory, mix: list[tuple[int, int | None, int]]
) -> None:
    handed_on = Counter[str]()

    async def one(books: Books, row_id: str, play: tuple[int, int | None, int]) -> None:
        num_taken, fails_at, num_rounds = play
        account = books.meter.open(opened(row_id), Caller(), routed())
        status, code = 200, ""
        try:
            for _ in range(num_rounds):
                script: list[Event | Exception] = list(ANSWER)
                if fails_at is not None:
                    script[fails_at:] = [ProviderError("cut")]
                async with aclosing(account.watch(played(script))) as events:
                    for _ in range(num_taken):
                        event = await anext(events)
                        handed_on[row_id] += getattr(event, "num_tokens", 0)
                        await asyncio.sleep(0)
                if num_taken < len(ANSWER):
                    status = STATUS_CANCELLED
                    break
        except StopAsyncIteration:
            pass
        except ProviderError as error:
            code = error.code
        account.close(status, code)

    async def work(books: Books) -> list[Any]:
        jobs = (one(books, f"gen-{n}", play) for n, play in enumerate(mix))
        await asyncio.gather(*jobs)
        return await books.rows()

    rows = with_books(tmp_path_factory.mktemp("mix"), work)
    assert {row.id: row.completion_tokens for row in rows} == {
        f"gen-{n}": handed_on[f"gen-{n}"] for n in range(len(mix))
    }
    assert all(row.cost_microusd == 0 for row in rows if row.error_code)


def test_a_transaction_that_fails_leaves_no_number_that_is_used_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Books(tmp_path) as books:
            run_work = books.database.run
            failures = [1]

            async def fail_once(work: Any) -> Any:
                if not failures:
                    return await run_work(work)
                failures.clear()

                def spoiled(connection: Connection) -> None:
                    work(connection)
                    raise sqlite3.OperationalError("disk I/O error")

                return await run_work(spoiled)

            books.database.run = fail_once  # type: ignore[method-assign]
            books.meter.open(opened(), Caller(), routed()).close(200)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(writer, "RETRY_S", 0.0)
                while not await books.rows():
                    await asyncio.sleep(0.01)

    asyncio.run(main())
