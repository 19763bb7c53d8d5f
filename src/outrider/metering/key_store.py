"""Keys in the database: works for `Database.run`.

Every change raises a number in the same transaction, so that other processes see by one small
row whether there is anything new. Rows are never removed: the ledger refers to them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from outrider.errors import NotFound
from outrider.metering.contents import delete_of_key
from outrider.metering.keys import MAX_TIME_S, Key, checked
from outrider.storage.conversations import delete_of_owner
from outrider.storage.schema import key_changes, keys

_COLUMNS = [keys.c[name] for name in Key.__struct_fields__]


def add_key(connection: Connection, key: Key) -> Key:
    """Add a key; refuses one whose values can't be."""
    key = checked(key)
    _note_change(connection)
    connection.execute(insert(keys).values(**_values(key)))
    return key


def change_key(connection: Connection, key_id: str, changes: dict[str, Any], now_s: int) -> Key:
    """Change fields of a key that wasn't revoked; raises `NotFound`."""
    _note_change(connection)
    row = connection.execute(select(*_COLUMNS).where(keys.c.id == key_id)).one_or_none()
    if row is None or row.deleted_s is not None:
        raise NotFound("there is no such key")
    key = checked(msgspec.structs.replace(_key(row), **changes, updated_s=now_s))
    connection.execute(update(keys).where(keys.c.id == key_id).values(**_values(key)))
    return key


def revoke_key(connection: Connection, key_id: str, now_s: int) -> Key:
    """End a key for good, and delete what was kept for it; raises `NotFound`."""
    key = change_key(connection, key_id, {"deleted_s": now_s}, now_s)
    delete_of_key(connection, key_id)
    delete_of_owner(connection, key_id)
    return key


def all_keys(connection: Connection) -> list[Key]:
    """Give every key there ever was, oldest first."""
    query = select(*_COLUMNS).order_by(keys.c.created_s, keys.c.name, keys.c.id)
    return [_key(row) for row in connection.execute(query)]


def revision(connection: Connection) -> int:
    """Give a number that is another one after any change."""
    return connection.scalar(select(key_changes.c.revision)) or 0


def _note_change(connection: Connection) -> None:
    # First of all: where several processes write at a time, its row makes them wait in line.
    connection.execute(update(key_changes).values(revision=key_changes.c.revision + 1))


def _values(key: Key) -> dict[str, Any]:
    return {**msgspec.structs.asdict(key), "allowed_models": list(key.allowed_models)}


def _key(row: Row[Any]) -> Key:
    key = msgspec.convert(dict(zip(Key.__struct_fields__, row, strict=True)), Key)
    if key.expires_s is None or key.expires_s <= MAX_TIME_S:
        return key
    # Earlier versions stored the year 10000, which no answer can say.
    return msgspec.structs.replace(key, expires_s=MAX_TIME_S)
