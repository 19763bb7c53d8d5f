"""What is kept of requests: for whom, how long, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, text

from metering.clock import Clock
from metering.test_keys import key
from outrider.errors import InvalidRequest
from outrider.ledger_types import Content, KeptAnswer, KeptCall, KeptChoice, KeptFailure
from outrider.metering import content_writer
from outrider.metering.content_writer import DAY_S, ContentWriter
from outrider.metering.contents import (
    delete_content,
    delete_of_key,
    find_content,
    save_contents,
)
from outrider.metering.key_store import add_key, change_key, revoke_key
from outrider.metering.keys import checked, id_of
from outrider.storage.database import Database
from storage.records import run

T = TypeVar("T")
MINE, OTHER = id_of("mine"), id_of("other")


def content(content_id: str = "gen-1", owner: str = MINE, created_s: int = 1000) -> Content:
    choice = KeptChoice("answer \0 é", (KeptCall("c", "f", "{}"),), "stop")
    return Content(
        id=content_id,
        key=owner,
        created_s=created_s,
        prompt=b'{"prompt":"question"}',
        answer=KeptAnswer(choices=(choice,), failures=(KeptFailure("m", 502, "p"),)),
    )


def add_keys(connection: Connection) -> None:
    for name in ("mine", "other"):
        add_key(connection, key(name, io_logging=True))
    add_key(connection, key("silent"))


def kept(connection: Connection) -> list[str]:
    return list(connection.scalars(text("SELECT id FROM contents ORDER BY id")))


def test_a_content_comes_back_as_it_was_and_a_second_run_replaces_it(tmp_path: Path) -> None:
    other = Content(**{**content_fields(), "prompt": b'{"prompt":"again"}'})
    works: list[Callable[[Connection], Any]] = [
        add_keys,
        lambda c: save_contents(c, [content()]),
        lambda c: find_content(c, "gen-1"),
        lambda c: save_contents(c, [other, other]),
        lambda c: find_content(c, "gen-1"),
        lambda c: find_content(c, "gen-2"),
    ]
    assert run(tmp_path / "d", *works)[1:] == [1, content(), 1, other, None]


def content_fields() -> dict[str, Any]:
    one = content()
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_nothing_is_kept_for_a_key_that_does_not_ask_any_more(tmp_path: Path) -> None:
    def stop_asking(connection: Connection) -> None:
        change_key(connection, OTHER, {"io_logging": False}, 5)

    waiting = [content("a"), content("b", OTHER), content("c", id_of("silent")), content("d", "")]
    works: list[Callable[[Connection], Any]] = [
        add_keys,
        stop_asking,
        lambda c: save_contents(c, waiting),
        kept,
        lambda c: revoke_key(c, MINE, 5),
        kept,
        lambda c: save_contents(c, waiting),
        kept,
    ]
    done = run(tmp_path / "d", *works)
    assert done[2:4] == [1, ["a"]]
    assert done[5:] == [[], 0, []]
    assert b"question" not in (tmp_path / "d").read_bytes()


def test_contents_are_deleted_one_by_one_or_all_of_a_key(tmp_path: Path) -> None:
    def works(connection: Connection) -> list[Any]:
        add_keys(connection)
        names = {"a": MINE, "b": MINE, "c": OTHER, "d": MINE}
        save_contents(connection, [content(name, owner) for name, owner in names.items()])
        return [
            delete_content(connection, "a", OTHER),
            delete_content(connection, "a", MINE),
            delete_content(connection, "a", None),
            delete_content(connection, "b", None),
            delete_of_key(connection, MINE),
            kept(connection),
        ]

    assert run(tmp_path / "d", works) == [[False, True, False, True, 1, ["c"]]]


def test_only_keys_that_infer_can_ask_for_it() -> None:
    with pytest.raises(InvalidRequest, match="io_logging is for keys that infer"):
        checked(key(kind="management", io_logging=True))


def with_writer(
    path: Path, work: Callable[[ContentWriter, Database], Awaitable[T]], clock: Clock
) -> T:
    async def main() -> T:
        database = Database(path)
        await database.open()
        writer = ContentWriter(keep_days=2, clock=clock)
        try:
            await database.run(add_keys)
            return await work(writer, database)
        finally:
            await writer.close()
            await database.close()

    return asyncio.run(main())


def test_what_is_too_old_is_deleted_at_the_start(tmp_path: Path) -> None:
    async def work(writer: ContentWriter, database: Database) -> list[str]:
        ages = {"old": 1000, "young": 1000 + DAY_S}
        rows = [content(name, MINE, created_s) for name, created_s in ages.items()]
        await database.run(lambda c: save_contents(c, rows))
        await writer.start(database)
        return await database.run(kept)

    assert with_writer(tmp_path / "d", work, Clock(1001.0 + 2 * DAY_S)) == ["young"]


def test_what_waits_is_written_by_a_flush_and_at_the_end(tmp_path: Path) -> None:
    async def work(writer: ContentWriter, database: Database) -> list[str]:
        await writer.start(database)
        writer.add(content("a"))
        await writer.flush()
        found = await database.run(kept)
        writer.add(content("b"))
        return found

    assert with_writer(tmp_path / "d", work, Clock()) == ["a"]
    assert run(tmp_path / "d", kept) == [["a", "b"]]


def test_what_waits_for_a_locked_database_is_bounded_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = content_writer.size_of(content())
    monkeypatch.setattr(content_writer, "MAX_WAITING_BYTES", 2 * size)
    monkeypatch.setattr(content_writer, "RETRY_S", 0.01)

    async def work(writer: ContentWriter, database: Database) -> list[str]:
        await writer.start(database)
        await database.run(lambda c: c.exec_driver_sql("PRAGMA busy_timeout = 1"))
        other = sqlite3.connect(tmp_path / "d", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for name in ("a", "b", "c"):
            writer.add(content(name))
        await writer.flush()  # it says when it couldn't
        other.execute("ROLLBACK")
        other.close()
        while writer._waiting:
            await writer.flush()
        return await database.run(kept)

    assert with_writer(tmp_path / "d", work, Clock()) == ["a", "b"]
    assert "contents wait for the database" in caplog.text
    assert "1 contents weren't kept" in caplog.text
    assert "question" not in caplog.text
