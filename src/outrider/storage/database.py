"""The database: a file or a server, and the one thread that reads and writes it.

Work is a function of a connection. Works that wait together share a transaction, and so one sync
of the disk, but one that fails takes back only what it did itself. When `run` returns, its work
is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError

from outrider.errors import InvalidRequest, OutriderError
from outrider.storage.migration import Place, current, migrate
from outrider.storage.schema import HEAD
from outrider.storage.sqlite import SqliteFile

T = TypeVar("T")
Work = Callable[[Connection], T]


class Database:
    """A database that is open until `close`; used from one event loop."""

    def __init__(self, where: Path | Place) -> None:
        self._place = SqliteFile(where) if isinstance(where, Path) else where
        self._thread = ThreadPoolExecutor(1, "database")
        self._connection: Connection | None = None
        self._waiting: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._running: asyncio.Task[list[Any]] | None = None

    async def open(self) -> None:
        """Open the database, made and migrated where needed; raises `StorageError`."""
        loop = asyncio.get_running_loop()
        self._connection = await loop.run_in_executor(self._thread, self._open)

    async def run(self, work: Work[T]) -> T:
        """Run work in a transaction and commit it.

        Raises what the work raises, or `StorageError` if the database can't do its part.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._running is None:
            self._start()
        return await done

    async def close(self) -> None:
        """Finish what waits and close the file."""
        while self._running is not None:
            await asyncio.wait({self._running})
            await asyncio.sleep(0)
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []

        async def execute() -> list[Any]:
            loop = asyncio.get_running_loop()
            works = [work for work, _ in waiting]
            return await loop.run_in_executor(self._thread, self._execute, works)

        def finish(task: asyncio.Task[list[Any]]) -> None:
            self._running = None
            if self._waiting and not task.cancelled():
                self._start()
            for index, (_, done) in enumerate(waiting):
                if not done.done():  # else whoever waited has left
                    _settle(done, task, index)

        self._running = asyncio.create_task(execute())
        self._running.add_done_callback(finish)

    def _execute(self, works: list[Work[Any]]) -> list[Any]:
        """Run works in one transaction; an error that a work raised stands in its place."""
        assert self._connection is not None, "the database isn't open"
        try:
            with self._connection.begin():
                return [self._run_one(work) for work in works]
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._refusal(error) from error

    def _run_one(self, work: Work[T]) -> T | OutriderError:
        connection = self._connection
        assert connection is not None
        # Not a `with` block: a full disk makes SQLite drop the transaction with its savepoints.
        savepoint = connection.begin_nested()
        try:
            result = work(connection)
        except OutriderError as error:
            savepoint.rollback()
            return error
        except DataError as error:  # such as a NUL for PostgreSQL: whoever sent it is to be told
            savepoint.rollback()
            reason = " ".join(str(error.orig).split())[:200]
            return InvalidRequest(f"the request has a value that can't be kept or found: {reason}")
        savepoint.commit()
        return result

    def _open(self) -> Connection:
        try:
            connection = self._place.connect()
            if current(connection) != HEAD:
                connection.rollback()
                with self._place.migrating(connection):
                    if current(connection) != HEAD:  # else another server was faster
                        migrate(connection, self._place)
            connection.rollback()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._refusal(error) from error
        return connection

    def _refusal(self, error: Exception) -> OutriderError:
        return self._place.refusal(str(getattr(error, "orig", None) or error))


def is_current(path: Path) -> bool:
    """Say whether there is a database of this version's schema; raises `StorageError`."""
    if not path.exists():
        return False
    try:
        with SqliteFile(path).connect() as connection:
            return current(connection) == HEAD
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise SqliteFile(path).refusal(str(getattr(error, "orig", None) or error)) from error


def _settle(done: asyncio.Future[Any], task: asyncio.Task[list[Any]], index: int) -> None:
    if task.cancelled():
        done.cancel()
        return
    error = task.exception()
    result = task.result()[index] if error is None else error
    if isinstance(result, BaseException):
        done.set_exception(result)
    else:
        done.set_result(result)
