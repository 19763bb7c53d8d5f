"""Brings a database to the schema of this version, or back.

Every migration is one transaction, and a copy is made before one changes an existing database. A
database of a newer Outrider is refused. Alembic is loaded only when there is something to do.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from outrider.errors import StorageError
from outrider.storage.folder import create_private
from outrider.storage.schema import HEAD

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: Connection, path: Path, target: str = HEAD) -> None:
    """Migrate a database to a revision; `path` is its file, "base" an empty one's revision.

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
                f"{path} is of a newer Outrider (schema {revision}; this one knows {HEAD}); start "
                "that version or use another --data-dir"
            ) from error
        _back_up(connection, path, revision)
    is_older = revision is None or (target != "base" and revision < target)
    (command.upgrade if is_older else command.downgrade)(config, target)


def current(connection: Connection) -> str | None:
    """Give the revision of a database; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _back_up(connection: Connection, path: Path, revision: str) -> None:
    """Copy the database as it is; a copy of the same revision is replaced."""
    copy = path.with_name(f"{path.name}.before-{revision}")
    copy.unlink(missing_ok=True)
    create_private(copy)
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute("VACUUM INTO ?", (str(copy),))
    logger.info("migrating %s from schema %s; a copy is in %s", path, revision, copy)
