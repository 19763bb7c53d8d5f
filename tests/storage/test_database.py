"""The database: transactions that are shared, what goes wrong with files, and migrations."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text

from outrider.batch_types import StoredFile
from outrider.errors import NotFound, StorageError
from outrider.storage import database as module
from outrider.storage import sqlite
from outrider.storage.database import Database
from outrider.storage.files import all_file_ids, put_file
from outrider.storage.folder import DataFolder
from outrider.storage.migration import MIGRATIONS, current, migrate
from outrider.storage.schema import HEAD, files, metadata
from outrider.storage.sqlite import SqliteFile
from storage.records import make_file, run


def put(file_id: str) -> module.Work[None]:
    return lambda connection: put_file(connection, make_file(file_id))


def test_what_was_written_is_there_after_a_restart(folder: DataFolder) -> None:
    run(folder.database_path, put("a"), put("b"))
    assert run(folder.database_path, all_file_ids) == [["a", "b"]]


def test_a_database_belongs_to_its_user_alone(folder: DataFolder) -> None:
    run(folder.database_path, put("a"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert modes.pop("files") == 0o700
    assert set(modes.values()) == {0o600}
    assert "outrider.db" in modes
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_works_that_wait_together_are_one_transaction_and_one_error_spoils_no_other(
    folder: DataFolder,
) -> None:
    commits = []

    def fail(connection: Connection) -> None:
        put_file(connection, make_file("bad"))
        raise NotFound("not today")

    async def main() -> list[object]:
        database = Database(folder.database_path)
        await database.open()
        execute = database._execute
        database._execute = lambda works: (commits.append(len(works)), execute(works))[1]  # type: ignore[assignment,method-assign]
        works = [put("a"), fail, put("b"), put("c")]
        results = await asyncio.gather(*map(database.run, works), return_exceptions=True)
        ids = await database.run(all_file_ids)
        await database.close()
        return [*results, ids]

    first, failed, *others, ids = asyncio.run(main())
    assert isinstance(failed, NotFound)
    assert [first, *others] == [None] * 3
    assert ids == ["a", "b", "c"]
    assert commits == [1, 3, 1]


def test_a_work_whose_caller_left_is_done_all_the_same(folder: DataFolder) -> None:
    async def main() -> list[str]:
        database = Database(folder.database_path)
        await database.open()
        task = asyncio.create_task(database.run(put("a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        ids = await database.run(all_file_ids)
        await database.close()
        return ids

    assert asyncio.run(main()) == ["a"]


def test_a_writer_that_is_killed_leaves_whole_transactions_only(folder: DataFolder) -> None:
    run(folder.database_path)
    code = f"""
import asyncio, os, pathlib
from outrider.storage.database import Database
from outrider.storage.files import put_file
from outrider.batch_types import StoredFile

def pair(number):
    def work(connection):
        for half in "ab":
            put_file(connection, StoredFile(id=f"{{number}}{{half}}", owner="", purpose="batch",
                     filename="", num_bytes=0, created_s=0))
            if number == 7 and half == "a":
                os.kill(os.getpid(), 9)
    return work

async def main():
    database = Database(pathlib.Path({str(folder.database_path)!r}))
    await database.open()
    for number in range(9):
        await database.run(pair(number))

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    (ids,) = run(folder.database_path, all_file_ids)
    assert ids == [f"{number}{half}" for number in range(7) for half in "ab"]


def test_a_full_disk_is_named_and_forgotten_once_there_is_space(folder: DataFolder) -> None:
    async def main() -> list[str]:
        database = Database(folder.database_path)
        await database.open()
        pages = await database.run(lambda c: c.scalar(text("PRAGMA page_count")))
        await database.run(lambda c: c.execute(text(f"PRAGMA max_page_count = {pages}")).scalar())
        with pytest.raises(StorageError, match=r"full.*free some space.*--data-dir"):
            await database.run(lambda c: put_file(c, make_file("x" * 100_000)))
        await database.run(lambda c: c.execute(text("PRAGMA max_page_count = 100000")).scalar())
        await database.run(put("a"))
        ids = await database.run(all_file_ids)
        await database.close()
        return ids

    assert asyncio.run(main()) == ["a"]


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_broken_database_is_named(folder: DataFolder, content: bytes) -> None:
    folder.database_path.write_bytes(content)
    with pytest.raises(StorageError, match=r"outrider\.db can't be used"):
        run(folder.database_path)


def test_a_database_that_another_process_holds_is_named(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    run(folder.database_path)
    other = sqlite3.connect(folder.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        run(folder.database_path, put("a"))
    other.close()
    run(folder.database_path, put("a"))


def test_the_migrations_make_the_tables_that_the_program_uses(folder: DataFolder) -> None:
    def difference(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert run(folder.database_path, difference) == [[]]
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_go_down_and_up_again_with_a_copy_made_before(folder: DataFolder) -> None:
    path = folder.database_path
    run(path, put("a"))
    engine = sqlite._engine(path)
    with engine.connect() as connection:
        migrate(connection, SqliteFile(path), "base")
        assert current(connection) is None
    with engine.connect() as connection:
        tables = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        assert set(tables) == {"alembic_version"}
    copy = path.with_name(f"outrider.db.before-{HEAD}")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sqlite3.connect(copy).execute("SELECT id FROM files").fetchall() == [("a",)]
    assert run(path, all_file_ids) == [[]]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(folder: DataFolder) -> None:
    path = folder.database_path
    run(path, put("a"), lambda c: c.execute(text("UPDATE alembic_version SET version_num='99'")))
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"newer Outrider.*schema 99"):
        run(path)
    assert path.read_bytes() == before


def test_a_migration_that_is_interrupted_leaves_nothing(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    create_index = op.create_index

    def fail(name: str, *rest: object) -> None:
        if name == "batch_items_by_state":
            raise StorageError("stopped")
        create_index(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(StorageError, match="stopped"):
        run(folder.database_path)
    tables = sqlite3.connect(folder.database_path).execute("SELECT name FROM sqlite_master")
    assert tables.fetchall() == []
    monkeypatch.undo()
    run(folder.database_path, put("a"))


def test_deleted_rows_give_their_space_back(folder: DataFolder) -> None:
    secret = "do not keep this " * 1000

    def fill(connection: Connection) -> None:
        row = StoredFile(
            id="s", owner="", purpose="batch", filename=secret, num_bytes=0, created_s=0
        )
        put_file(connection, row)

    def empty(connection: Connection) -> int | None:
        connection.execute(files.delete())
        return connection.scalar(select(func.count()).select_from(files))

    assert run(folder.database_path, fill, empty) == [None, 0]
    assert b"do not keep" not in folder.database_path.read_bytes()
