"""Opens folder and database together, and puts them in order after whatever ended the last user."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from outrider.storage.database import Database, is_current
from outrider.storage.files import all_file_ids
from outrider.storage.folder import DATABASE_NAME, DataFolder

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Storage:
    """The data folder and its database, open until `close`."""

    folder: DataFolder
    database: Database

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
        self.folder.close()


async def open_storage(path: Path) -> Storage:
    """Open the data folder; raises `StorageError`."""
    folder = await asyncio.to_thread(DataFolder, path)
    storage = Storage(folder, Database(folder.database_path))
    try:
        await storage.database.open()
        known = await storage.run(all_file_ids)
        if removed := await asyncio.to_thread(folder.keep_only, known):
            logger.info("removed %d files that were left half done in %s", removed, path)
    except BaseException:
        await storage.close()
        raise
    return storage


@asynccontextmanager
async def beside_a_server(path: Path) -> AsyncIterator[Database]:
    """Open the database of a data folder that a server may be using; raises `StorageError`.

    It is made or migrated only where no server is.
    """
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
