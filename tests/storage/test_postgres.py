"""Keys and ledger on a real PostgreSQL server: the same schema, works and rows as in a file."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

from metering.books import PRICE, empty_database, opened, rows_of
from metering.test_contents import MINE, add_keys, content, kept
from metering.test_keys import key
from metering.test_ledger import row_of
from outrider import config
from outrider.conversation_types import Cursor, Search, query_words, words_of
from outrider.errors import ConfigError, InvalidRequest, StorageError
from outrider.ledger_types import DAY_S, AppTokens, Span
from outrider.metering import statistics, trends, upkeep
from outrider.metering.contents import find_content, save_contents
from outrider.metering.facets import KINDS
from outrider.metering.key_store import add_key, all_keys, revoke_key
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.records import Row
from outrider.metering.statistics import Days, Slice
from outrider.storage.conversations import find_conversation, list_conversations, put_conversation
from outrider.storage.database import Database
from outrider.storage.migration import current, migrate
from outrider.storage.opening import open_storage
from outrider.storage.postgres import PostgresServer
from outrider.storage.schema import HEAD, app_categories, facet_hours, hours, metadata
from server.keyed import secret_key
from server.scripted import wait_until
from server.test_spending import COST, chat, own, serve
from storage.postgres import Cluster, cluster
from storage.records import run as run_file
from storage.test_conversations import conversation

pytestmark = pytest.mark.xdist_group("postgres")
NAMES = (f"d{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as it:
        yield it


@pytest.fixture
def url(server: Cluster) -> str:
    return server.create(next(NAMES))


def run(url: str, *works: Callable[[Connection], Any]) -> list[Any]:
    async def all_of_them() -> list[Any]:
        database = Database(PostgresServer(url))
        await database.open()
        try:
            return [await database.run(work) for work in works]
        finally:
            await database.close()

    return asyncio.run(all_of_them())


def test_the_migrations_make_the_same_tables_there(url: str) -> None:
    def difference(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert run(url, difference, current) == [[], HEAD]


def test_migrations_go_down_and_up_again(url: str) -> None:
    place = PostgresServer(url)
    run(url, lambda c: add_key(c, key("n")))
    with place.connect() as connection:
        migrate(connection, place, "0002")
        assert current(connection) == "0002"
        assert not inspect(connection).has_table("generations")
        connection.rollback()
        migrate(connection, place, "base")
        assert current(connection) is None
    assert run(url, all_keys, current) == [[], HEAD]


def test_servers_that_start_together_migrate_once(url: str) -> None:
    async def main() -> None:
        databases = [Database(PostgresServer(url)) for _ in range(3)]
        await asyncio.gather(*(database.open() for database in databases))
        for database in databases:
            await database.close()

    asyncio.run(main())
    assert run(url, current) == [HEAD]


def test_the_ledger_and_what_is_read_out_of_it_are_the_same_there(url: str) -> None:
    rows = [
        row_of(n, key="k", prompt_tokens=10**9, completion_tokens=n, cost_microusd=3, price=PRICE,
               app_url="https://a", app_categories=("game",), after_s=n * 1000)
        for n in range(5)
    ]  # fmt: skip
    day_s = opened().created_ms // 1000 // DAY_S * DAY_S
    days = Days(day_s - DAY_S, day_s + DAY_S)
    added, again, ledger, found, activity, apps, trend, games, others, models = run(
        url,
        lambda c: add_rows(c, rows, Numbers()),
        lambda c: add_rows(c, rows, Numbers()),
        rows_of,
        lambda c: statistics.find_generation(c, "gen-3"),
        lambda c: statistics.activity(c, days, "k"),
        lambda c: statistics.popular_apps(c, days),
        lambda c: statistics.trending_apps(c, days),
        lambda c: statistics.popular_apps(c, days, ("game", "roleplay")),
        lambda c: statistics.trending_apps(c, days, ("legal",)),
        lambda c: statistics.model_tokens(c, days, Slice(has_images=False), lambda _: day_s),
    )
    assert (added, again, len(ledger)) == (5, 0, 5)
    assert (found.id, found.prompt_tokens, found.app_url) == ("gen-3", 10**9, "https://a")
    total = 5 * 10**9 + 10
    assert sum(row.prompt_tokens + row.completion_tokens for row in activity) == total
    assert apps == trend == games == [AppTokens(app=1, title="", requests=5, tokens=total)]
    assert others == []
    assert [row.tokens for row in models] == [total]


def test_what_charts_show_is_the_same_there_also_of_an_older_ledger(
    url: str, tmp_path: Path
) -> None:
    rows = [
        row_of(
            n, key=f"k{n % 2}", model=f"m{n % 3}", prompt_tokens=10**12, after_s=n * 1000,
            app_url=["", "https://a"][n % 2], status=[200, 200, 503][n % 3],
            error_code=["", "", "engine_overloaded"][n % 3], duration_ms=n * n,
            first_token_ms=n,
        )
        for n in range(90)
    ]  # fmt: skip
    day_s = opened().created_ms // 1000 // DAY_S * DAY_S
    span = Span(day_s, day_s + 2 * DAY_S, DAY_S)
    reads = [
        partial(read, span=span, kind=kind, key=key)
        for read in (trends.usage, trends.latencies, trends.errors)
        for kind in ("model", "app")
        for key in (None, "k1")
    ]
    there = run(url, lambda c: add_rows(c, rows, Numbers()), *reads)[1:]
    here = run_file(empty_database(tmp_path), lambda c: add_rows(c, rows, Numbers()), *reads)[1:]
    assert there == here
    assert there[0].sums.prompt_tokens == 90 * 10**12
    place = PostgresServer(url)
    with place.connect() as connection:
        migrate(connection, place, "0004")
    assert run(url, *reads) == here


def test_two_servers_add_to_the_same_sums(url: str) -> None:
    async def main() -> None:
        databases = [Database(PostgresServer(url)) for _ in range(2)]
        for database in databases:
            await database.open()

        async def write(database: Database, first: int) -> None:
            numbers = Numbers()
            for number in range(first, first + 40, 4):
                numbers_of = range(number, number + 4)
                rows = [row_of(n, key=f"k{n % 3}", prompt_tokens=1) for n in numbers_of]
                await database.run(lambda c, rows=rows: add_rows(c, rows, numbers))

        await asyncio.gather(*(write(each, 100 * n) for n, each in enumerate(databases)))
        for database in databases:
            await database.close()

    asyncio.run(main())
    (sums, of_facets) = run(
        url,
        lambda c: list(c.scalars(select(hours.c.requests))),
        lambda c: list(c.scalars(select(facet_hours.c.requests))),
    )
    assert sum(sums) == 80
    assert sum(of_facets) == 80 * len(KINDS)
    assert len(sums) == 3


def test_two_servers_that_name_categories_at_once_keep_to_ten_for_an_app(url: str) -> None:
    def named(number: int, first: int, count: int) -> Row:
        categories = tuple(f"c{n:02}" for n in range(first, first + count))
        return row_of(number, app_url="https://a", app_categories=categories)

    def is_waiting() -> bool:
        query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return run(url, lambda c: c.scalar(query)) != [0]

    run(url, lambda c: add_rows(c, [named(0, 0, 1)], Numbers()))
    with PostgresServer(url).connect() as first, ThreadPoolExecutor(1) as pool:
        add_rows(first, [named(1, 1, 7)], Numbers())
        second = pool.submit(run, url, lambda c: add_rows(c, [named(2, 5, 8)], Numbers()))
        wait_until(lambda: is_waiting() or second.done())
        first.commit()
        second.result()
    (found,) = run(url, lambda c: sorted(c.scalars(select(app_categories.c.category))))
    assert found == [f"c{n:02}" for n in range(10)]


def test_a_connection_that_was_lost_is_made_again(server: Cluster, url: str) -> None:
    async def main() -> None:
        database = Database(PostgresServer(url))
        await database.open()
        server.stop()
        with pytest.raises(StorageError, match=f"127.0.0.1/{url.rpartition('/')[2]}"):
            await database.run(all_keys)
        server.start()
        assert await database.run(all_keys) == []
        await database.close()

    asyncio.run(main())


def test_what_the_server_cannot_hold_is_the_fault_of_who_sent_it_alone(url: str) -> None:
    async def main() -> None:
        database = Database(PostgresServer(url))
        await database.open()
        name = key("a\0b")
        asked = [lambda c: find_content(c, "\0"), lambda c: add_key(c, name), all_keys]
        found = await asyncio.gather(*map(database.run, asked), return_exceptions=True)
        assert [type(each) for each in found] == [InvalidRequest, InvalidRequest, list]
        assert "NUL" in str(found[0])
        await database.close()

    asyncio.run(main())


def test_files_and_batches_stay_in_the_folder(url: str, tmp_path: Path) -> None:
    async def main() -> None:
        storage = await open_storage(tmp_path / "data", url)
        await storage.shared.run(add_key, key("n"))
        assert [each.name for each in await storage.shared.run(all_keys)] == ["n"]
        assert await storage.run(all_keys) == []
        await storage.close()

    asyncio.run(main())


def test_servers_that_share_a_database_share_budgets(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FOLLOW_S", 0.05)
    run(url, lambda c: add_key(c, secret_key("s", limit_microusd=3 * COST)))
    with (
        serve(tmp_path / "a", database_url=url) as one,
        serve(tmp_path / "b", database_url=url) as two,
    ):
        assert [chat(server, "s") for server in (one, two, one)] == [200, 200, 200]
        wait_until(lambda: own(one, "s")["limit_remaining"] == 0)
        wait_until(lambda: own(two, "s")["limit_remaining"] == 0)
        assert [chat(server, "s") for server in (one, two)] == [402, 402]
        assert own(one, "s")["usage"] == own(two, "s")["usage"] == pytest.approx(3 * COST / 10**6)


def test_no_password_gets_into_an_error_or_the_log(server: Cluster) -> None:
    with pytest.raises(StorageError) as caught:
        run(server.url(password="hunter2"))
    assert "hunter2" not in str(caught.value)
    shown = config.changed(config.load({"database_url": server.url()}, {}))
    assert shown == {"database_url": "***"}


@pytest.mark.parametrize(
    "url", ["mysql://me:hunter2@host/x", "postgresql://me:hunter2@host", "hunter2", "://hunter2"]
)
def test_a_url_that_cannot_be_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://USER@HOST/NAME") as caught:
        PostgresServer(url)
    assert "hunter2" not in str(caught.value)


def test_what_a_newer_version_wrote_is_left_alone(url: str) -> None:
    run(url, lambda c: c.execute(text("UPDATE alembic_version SET version_num = '99'")))
    with pytest.raises(StorageError, match="newer Outrider"):
        run(url)


def test_contents_are_kept_and_deleted_there(url: str) -> None:
    works: list[Callable[[Connection], Any]] = [
        add_keys,
        lambda c: save_contents(c, [content("a"), content("b"), content("c", "nobody")]),
        lambda c: save_contents(c, [content("a")]),
        lambda c: find_content(c, "a"),
        lambda c: revoke_key(c, MINE, 5).deleted_s,
        kept,
        lambda c: save_contents(c, [content("a")]),
    ]
    assert run(url, *works)[1:] == [2, 1, content("a"), 5, [], 0]


def test_conversations_are_kept_and_found_there(url: str) -> None:
    def work(connection: Connection) -> None:
        add_keys(connection)
        words = words_of(["The Lighthouse", "100 foo_bar \0"])
        for number in range(3):
            made = conversation(
                f"c{number}", updated_ms=number, words=words, threads=b'["\\u0000"]'
            )
            assert put_conversation(connection, MINE, made).version == 1
            assert put_conversation(connection, MINE, made).version == 1
        search = Search(2, query_words("LIGHT o_b"))
        page, has_more = list_conversations(connection, MINE, search)
        assert ([one.id for one in page], has_more) == (["c2", "c1"], True)
        rest = search._replace(after=Cursor(page[-1].updated_ms, page[-1].id))
        assert [one.id for one in list_conversations(connection, MINE, rest)[0]] == ["c0"]
        assert find_conversation(connection, MINE, "c1").threads == b'["\\u0000"]'
        assert not list_conversations(connection, MINE, Search(9, ("l_ght",)))[0]
        revoke_key(connection, MINE, 5)
        assert not list_conversations(connection, MINE, Search(9))[0]

    run(url, work)
