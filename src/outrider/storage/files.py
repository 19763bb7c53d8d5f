"""The rows of files: works for `Database.run`.

Every look-up names the owner: somebody else's file is a file that isn't there.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from outrider.batch_types import LISTED_PURPOSES, UNFINISHED, Purpose, StoredFile
from outrider.errors import InvalidRequest, NotFound
from outrider.storage.schema import batches, files

_COLUMNS = [files.c[name] for name in StoredFile.__struct_fields__]


class Page(NamedTuple):
    """Which part of a list is wanted."""

    limit: int
    after: str | None = None  # the id of the last one before it
    is_ascending: bool = False


def add_file(connection: Connection, file: StoredFile, max_files: int) -> None:
    """Add a file whose bytes are there; refuses more than so many files."""
    check_room(connection, max_files)
    put_file(connection, file)


def check_room(connection: Connection, max_files: int) -> None:
    """Refuse another file when there are so many."""
    count = connection.scalar(select(func.count()).select_from(files)) or 0
    if count >= max_files:
        raise InvalidRequest(
            f"there are {count:,} files already; delete some or start with a larger --max-files",
            "file",
        )


def put_file(connection: Connection, file: StoredFile) -> None:
    """Add a file of the server's own, whatever there is."""
    connection.execute(insert(files).values(**msgspec.structs.asdict(file)))


def find_file(connection: Connection, file_id: str, owner: str, param: str) -> StoredFile:
    """Give a file that its owner can see; raises `NotFound`."""
    query = select(*_COLUMNS).where(
        files.c.id == file_id, files.c.owner == owner, files.c.purpose.in_(LISTED_PURPOSES)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise no_such("File", file_id, param)
    return StoredFile(**row._mapping)


def list_files(
    connection: Connection, owner: str, page: Page, purpose: Purpose | None
) -> tuple[list[StoredFile], bool]:
    """Give a page of an owner's files, and whether more follow."""
    wanted = LISTED_PURPOSES if purpose is None else (purpose,)
    query = select(*_COLUMNS).where(files.c.owner == owner, files.c.purpose.in_(wanted))
    number = files.c.number
    if page.after is not None:
        known = select(number).where(files.c.id == page.after, files.c.owner == owner)
        start = connection.scalar(known)
        if start is None:
            raise no_such("File", page.after, "after")
        query = query.where(number > start if page.is_ascending else number < start)
    order = number if page.is_ascending else number.desc()
    rows = connection.execute(query.order_by(order).limit(page.limit + 1)).all()
    found = [StoredFile(**row._mapping) for row in rows]
    return found[: page.limit], len(found) > page.limit


def delete_file(connection: Connection, file_id: str, owner: str) -> None:
    """Delete a file; refuses one that a batch still reads."""
    find_file(connection, file_id, owner, "file_id")
    query = select(batches.c.id).where(
        batches.c.input_file_id == file_id, batches.c.status.in_(UNFINISHED)
    )
    user = connection.scalar(query.limit(1))
    if user is not None:
        raise InvalidRequest(
            f"{file_id} is the input of {user}, which hasn't ended; cancel that first", "file_id"
        )
    connection.execute(delete(files).where(files.c.id == file_id))


def delete_expired_files(connection: Connection, now_s: int) -> list[str]:
    """Delete the files whose time is over and that nothing reads; give their ids."""
    used = select(batches.c.input_file_id).where(batches.c.status.in_(UNFINISHED))
    query = select(files.c.id).where(files.c.expires_s <= now_s, files.c.id.not_in(used))
    return delete_files(connection, connection.scalars(query).all())


def delete_files(connection: Connection, ids: Collection[str]) -> list[str]:
    """Delete rows of files; the bytes are the caller's to remove."""
    for file_id in ids:
        connection.execute(delete(files).where(files.c.id == file_id))
    return list(ids)


def all_file_ids(connection: Connection) -> list[str]:
    """Give the ids of all files of all owners."""
    return list(connection.scalars(select(files.c.id)))


def no_such(kind: str, wanted: str, param: str) -> NotFound:
    """Make the error for an id that nobody has, or somebody else."""
    shown = "".join(c if c.isprintable() else "?" for c in wanted[:100])
    return NotFound(f"No such {kind} object: {shown}; it may have been deleted or expired", param)
