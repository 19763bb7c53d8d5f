"""What is kept of requests whose keys ask for it: works for `Database.run`.

Nothing is kept for a key that doesn't ask any more, was revoked or isn't known, whatever waited to
be written meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select

from outrider.ledger_types import Content, KeptAnswer
from outrider.storage.schema import contents, keys


def save_contents(connection: Connection, waiting: Sequence[Content]) -> int:
    """Write what waits; an item of a batch that ran again replaces what it had. Give how many."""
    wanted = {content.key for content in waiting}
    # Whoever revokes a key waits for this transaction, and so sees what it has to delete.
    query = (
        select(keys.c.id)
        .where(keys.c.id.in_(sorted(wanted)), keys.c.io_logging, keys.c.deleted_s.is_(None))
        .with_for_update(read=True)
    )
    willing = set(connection.scalars(query))
    rows = {content.id: _row(content) for content in waiting if content.key in willing}
    if rows:
        connection.execute(delete(contents).where(contents.c.id.in_(sorted(rows))))
        connection.execute(contents.insert(), list(rows.values()))
    return len(rows)


def find_content(connection: Connection, content_id: str) -> Content | None:
    """Give what was kept of a request; None if nothing was."""
    row = connection.execute(select(contents).where(contents.c.id == content_id)).one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)
    values["answer"] = msgspec.json.decode(values["answer"], type=KeptAnswer)
    return Content(**values)


def delete_content(connection: Connection, content_id: str, key: str | None) -> bool:
    """Delete what was kept of a request, of this key if one is given; say whether there was."""
    gone = delete(contents).where(contents.c.id == content_id)
    if key is not None:
        gone = gone.where(contents.c.key == key)
    return connection.execute(gone).rowcount > 0


def delete_of_key(connection: Connection, key: str) -> int:
    """Delete what was kept for a key; give of how many requests."""
    return connection.execute(delete(contents).where(contents.c.key == key)).rowcount


def delete_before(connection: Connection, created_s: int) -> int:
    """Delete what is older; give of how many requests."""
    return connection.execute(delete(contents).where(contents.c.created_s < created_s)).rowcount


def _row(content: Content) -> dict[str, Any]:
    return {**msgspec.structs.asdict(content), "answer": msgspec.json.encode(content.answer)}
