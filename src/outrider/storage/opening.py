"""Opens folder and database together, and puts them in order after whatever ended the last user."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from outrider.storage.database import Database, is_current
from outrider.storage.files import all_file_ids
from outrider.storage.folder import DATABASE_NAME, DataFolder

logger = logging.getLogger(__name__)

IN_FOLDER = "none"  # the `database_url` of who has no server

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Storage:
    """The data folder and its database, open until `close`.

    Keys and ledger are in a database that several servers may share, else in this one.
    """

    folder: DataFolder
    database: Database
    shared_database: Database

    @property
    def shared(self) -> Storage:
        """The same with the database of keys and ledger."""
        return replace(self, database=self.shared_database)

    async def run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a work with these arguments in a transaction; see `Database.run`."""
        return await self.database.run(lambda connection: work(connection, *args, **kwargs))

    async def remove(self, names: list[str]) -> None:
        """Remove the bytes of files whose rows are gone."""
        for name in names:
            await asyncio.to_thread(self.folder.remove, name)

    async def close(self) -> None:
        """Finish what waits and let others use the folder."""
        await self.database.close()
        if self.shared_database is not self.database:
            await self.shared_database.close()
        self.folder.close()


async def open_storage(path: Path, database_url: str = IN_FOLDER) -> Storage:
    """Open the data folder, and the database that servers share; raises `StorageError`."""
    shared = _server(database_url)
    folder = await asyncio.to_thread(DataFolder, path)
    database = Database(folder.database_path)
    storage = Storage(folder, database, shared or database)
    try:
        await database.open()
        if shared is not None:
            await shared.open()
        known = await storage.run(all_file_ids)
        if removed := await asyncio.to_thread(folder.keep_only, known):
            logger.info("removed %d files that were left half done in %s", removed, path)
    except BaseException:
        await storage.close()
        raise
    return storage


def _server(database_url: str) -> Database | None:
    if database_url == IN_FOLDER:
        return None
    from outrider.storage.postgres import PostgresServer

    return Database(PostgresServer(database_url))


@asynccontextmanager
async def beside_a_server(path: Path, database_url: str = IN_FOLDER) -> AsyncIterator[Database]:
    """Open the database of keys and ledger that a server may be using; raises `StorageError`.

    That of a data folder is made or migrated only where no server is.
    """
    if (shared := _server(database_url)) is not None:
        try:
            await shared.open()
            yield shared
        finally:
            await shared.close()
        return
    name = path / DATABASE_NAME
    folder = None if await asyncio.to_thread(is_current, name) else DataFolder(path)
    database = Database(name)
    try:
        await database.open()
        yield database
    finally:
        await database.close()
        if folder is not None:
            folder.close()
