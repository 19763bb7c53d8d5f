"""Brings a database to the schema of this version, or back.

Every migration is one transaction, and a copy is made before one changes an existing file. A
database of a newer Outrider is refused. Alembic is loaded only when there is something to do.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, inspect, text

from outrider.errors import StorageError
from outrider.storage.schema import HEAD

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


class Place(Protocol):
    """Where a database is: a file or a server."""

    @property
    def name(self) -> str:
        """What errors and the log call it."""
        ...

    def connect(self) -> Connection:
        """Connect to it."""
        ...

    def refusal(self, reason: str) -> StorageError:
        """Make the error for a database that can't do its part."""
        ...

    def migrating(self, connection: Connection) -> AbstractContextManager[None]:
        """Keep others from migrating at the same time."""
        ...

    def back_up(self, connection: Connection, revision: str) -> str:
        """Copy the database before it is changed, if that is ours to do; say what was done."""
        ...


def migrate(connection: Connection, place: Place, target: str = HEAD) -> None:
    """Migrate a database to a revision; "base" is an empty one's.

    Raises `StorageError` for one that this version doesn't know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    revision = current(connection)
    connection.rollback()
    if revision is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError as error:
            raise StorageError(
                f"{place.name} is of a newer Outrider (schema {revision}; this one knows {HEAD}); "
                "start that version or use another --data-dir or --database-url"
            ) from error
        logger.info("migrating %s from %s", place.name, place.back_up(connection, revision))
    is_older = revision is None or (target != "base" and revision < target)
    (command.upgrade if is_older else command.downgrade)(config, target)


def current(connection: Connection) -> str | None:
    """Give the revision of a database; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
