"""Conversations that are kept for a key: works for `Database.run`.

Every look-up names the owner: somebody else's conversation is one that isn't there. A change says
which version it was made from, so that no change is lost unseen; the same change may be sent twice.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, tuple_, update

from outrider.conversation_types import Conversation, Search, Summary
from outrider.errors import Conflict, InvalidRequest, NotFound, Unauthorized
from outrider.storage.schema import conversations, keys

MAX_CONVERSATIONS = 10_000  # of one key
MAX_BYTES = 512 << 20  # of all conversations of a key together


_LISTED = [conversations.c[name] for name in Summary.__struct_fields__]
_WHOLE = [conversations.c[name] for name in Conversation.__struct_fields__]


def list_conversations(
    connection: Connection, owner: str, search: Search
) -> tuple[list[Summary], bool]:
    """Give a page of an owner's conversations, newest first, and whether more follow."""
    query = select(*_LISTED).where(conversations.c.owner == owner)
    place = conversations.c.updated_ms, conversations.c.id
    for word in search.words or ():
        query = query.where(conversations.c.words.contains(word, autoescape=True))
    if search.after is not None:
        query = query.where(tuple_(*place) < tuple_(*search.after))
    query = query.order_by(*(column.desc() for column in place)).limit(search.limit + 1)
    found = [Summary(**row._mapping) for row in connection.execute(query)]
    return found[: search.limit], len(found) > search.limit


def find_conversation(connection: Connection, owner: str, conversation_id: str) -> Conversation:
    """Give a conversation that is its owner's; raises `NotFound`."""
    row = connection.execute(select(*_WHOLE).where(_is(owner, conversation_id))).one_or_none()
    if row is None:
        raise _no_such()
    return Conversation(**row._mapping)


def put_conversation(connection: Connection, owner: str, wanted: Conversation) -> Summary:
    """Write a conversation whose `version` is the one that it was made from, 0 for a new one.

    Raises `Conflict` if it has changed since, was deleted, or is there already.
    """
    _check_owner(connection, owner)
    known = select(conversations.c.version, conversations.c.num_bytes)
    query = known.where(_is(owner, wanted.id)).with_for_update()
    found = connection.execute(query).one_or_none()
    version, size = (0, 0) if found is None else (found.version, found.num_bytes)
    written = msgspec.structs.replace(wanted, version=wanted.version + 1)
    if version and version == written.version:
        is_repeated = find_conversation(connection, owner, wanted.id) == written
        if is_repeated:
            return _summary(written)
    if version != wanted.version:
        raise _conflict(version, wanted.version)
    _check_room(connection, owner, wanted.num_bytes - size, is_new=not version)
    values = msgspec.structs.asdict(written)
    if version:
        connection.execute(update(conversations).where(_is(owner, wanted.id)).values(**values))
    else:
        connection.execute(insert(conversations).values(owner=owner, **values))
    return _summary(written)


def delete_conversation(connection: Connection, owner: str, conversation_id: str) -> None:
    """Delete a conversation; raises `NotFound`."""
    gone = connection.execute(delete(conversations).where(_is(owner, conversation_id)))
    if not gone.rowcount:
        raise _no_such()


def delete_of_owner(connection: Connection, owner: str) -> int:
    """Delete all conversations of an owner; give how many."""
    return connection.execute(delete(conversations).where(conversations.c.owner == owner)).rowcount


def _check_owner(connection: Connection, owner: str) -> None:
    """Refuse a key that was revoked while the request was on its way; else its row would stay."""
    query = select(keys.c.id).where(keys.c.id == owner, keys.c.deleted_s.is_(None))
    if connection.execute(query.with_for_update(read=True)).one_or_none() is None:
        raise Unauthorized("conversations are kept for keys that are good; this one isn't known")


def _conflict(version: int, base: int) -> Conflict:
    what = f"version {version} is here" if version else "it isn't here any more"
    return Conflict(
        f"the conversation has changed: {what}, and this was made from version {base}; read it "
        "again and repeat the change",
        "version",
    )


def _check_room(connection: Connection, owner: str, more_bytes: int, *, is_new: bool) -> None:
    if more_bytes <= 0 and not is_new:
        return
    sums = select(func.count(), func.coalesce(func.sum(conversations.c.num_bytes), 0))
    number, size = connection.execute(sums.where(conversations.c.owner == owner)).one()
    if is_new and number >= MAX_CONVERSATIONS:
        raise InvalidRequest(f"the key has {number:,} conversations; export and delete some")
    if size + more_bytes > MAX_BYTES:
        raise InvalidRequest(
            f"the conversations of the key have {size >> 20:,} MiB, and {MAX_BYTES >> 20} MiB is "
            "the most; export and delete some"
        )


def _summary(conversation: Conversation) -> Summary:
    return Summary(**{name: getattr(conversation, name) for name in Summary.__struct_fields__})


def _is(owner: str, conversation_id: str) -> ColumnElement[bool]:
    return (conversations.c.owner == owner) & (conversations.c.id == conversation_id)


def _no_such() -> NotFound:
    return NotFound("there is no conversation of this id, or it is another key's", "id")
