"""A file as the place of a database: SQLite in WAL mode, for its user alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import NullPool

from outrider.errors import StorageError
from outrider.storage.folder import create_private, refusal

logger = logging.getLogger(__name__)

BUSY_S = 5  # how long another process, a backup say, may hold the file
# Deleted prompts and answers are overwritten, and their space goes back to the system in time.
PRAGMAS = (
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
)


class SqliteFile:
    """A database in a file; see `migration.Place`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def connect(self) -> Connection:
        """Open the file, made where needed; raises `StorageError` or what SQLAlchemy raises."""
        create_private(self.path)
        return _engine(self.path).connect()

    def refusal(self, reason: str) -> StorageError:
        """Make the error for a file that can't be used."""
        return refusal(self.path, reason)

    @contextmanager
    def migrating(self, connection: Connection) -> Iterator[None]:
        """Do nothing: the lock of the data folder keeps other servers out."""
        del connection
        yield

    def back_up(self, connection: Connection, revision: str) -> str:
        """Copy the database as it is; a copy of the same revision is replaced."""
        copy = self.path.with_name(f"{self.path.name}.before-{revision}")
        copy.unlink(missing_ok=True)
        create_private(copy)
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("VACUUM INTO ?", (str(copy),))
        return f"schema {revision}; a copy is in {copy}"


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"timeout": BUSY_S},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: DBAPIConnection, _: object) -> None:
        connection.isolation_level = None  # else the driver decides when to begin
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
