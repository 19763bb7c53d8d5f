"""A PostgreSQL server as the place of keys and ledger, for several Outriders that share them.

The URL may hold a password: what is shown of it is the host and the database. psycopg is loaded
only here, when there is such a place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from outrider.errors import ConfigError, StorageError

CONNECT_S = 5
LOCK_MS = 5000  # how long another server may hold what is wanted
MIGRATION_LOCK = 0x6F757472  # the number that servers agree on; any will do


class PostgresServer:
    """A database on a server; see `migration.Place`."""

    def __init__(self, url: str) -> None:
        """Take a URL; raises `ConfigError` for one that can't be."""
        self._url = _read(url)
        self.name = f"{self._url.host or 'localhost'}/{self._url.database}"

    def connect(self) -> Connection:
        """Connect; raises what SQLAlchemy raises."""
        return self._engine().connect()

    def refusal(self, reason: str) -> StorageError:
        """Make the error for a server that doesn't do its part."""
        line = " ".join(reason.split())[:200]
        return StorageError(
            f"the database {self.name} can't be used ({line}); see to its server, or start with "
            "another --database-url"
        )

    @contextmanager
    def migrating(self, connection: Connection) -> Iterator[None]:
        """Keep other servers from migrating at the same time."""
        connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": MIGRATION_LOCK})
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": MIGRATION_LOCK})
            connection.commit()

    def back_up(self, connection: Connection, revision: str) -> str:
        """Make no copy: that of a server is its operator's; say so."""
        del connection
        return f"schema {revision}; copies of a server are made with pg_dump"

    def _engine(self) -> Engine:
        try:
            return create_engine(
                self._url,
                poolclass=NullPool,
                connect_args={
                    "connect_timeout": CONNECT_S,
                    "application_name": "outrider",
                    "options": f"-c lock_timeout={LOCK_MS}",
                },
            )
        except ModuleNotFoundError as error:
            raise ConfigError(
                "database_url needs psycopg, which isn't installed: pip install outrider[postgres]"
            ) from error


def _read(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError("database_url isn't a URL; write postgresql://USER@HOST/NAME") from None
    if url.drivername not in ("postgresql", "postgres"):
        kind = "".join(c if c.isprintable() else "?" for c in url.drivername[:40])
        raise ConfigError(f"database_url begins with {kind}; write postgresql://USER@HOST/NAME")
    if not url.database:
        raise ConfigError("database_url names no database; write postgresql://USER@HOST/NAME")
    return url.set(drivername="postgresql+psycopg")
