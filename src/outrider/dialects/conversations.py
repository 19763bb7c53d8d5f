"""Bodies of the conversations that the web page keeps on the server: a form of our own.

Only texts are looked into, so that they can be found; the rest comes back as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from outrider.conversation_types import (
    Conversation,
    Cursor,
    Search,
    Summary,
    query_words,
    words_of,
)
from outrider.dialects.base import decode_json
from outrider.errors import InvalidRequest

MAX_TITLE_CHARS = 200
MAX_THREADS = 16
MAX_PAGE, DEFAULT_PAGE = 100, 50
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CURSOR = re.compile(r"(\d{1,16})\.([A-Za-z0-9_-]{1,64})")

Ms = Annotated[int, Meta(ge=0, le=2**53)]  # Unix time


class Message(msgspec.Struct):
    """A message of a thread, of which only the text is looked into."""

    text: str = ""


class Thread(msgspec.Struct):
    """One pane of a conversation: the page's own fields and a tree of messages by their ids."""

    messages: dict[str, Message]


class ConversationBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A conversation as it is written; `version` is the one that it was made from, 0 without."""

    version: Annotated[int, Meta(ge=0, le=2**53)]
    title: str
    created_ms: Ms
    updated_ms: Ms
    threads: Annotated[list[Thread], Meta(max_length=MAX_THREADS)]


class _Verbatim(msgspec.Struct):
    threads: msgspec.Raw


class OneConversation(Summary, frozen=True, kw_only=True):
    """A whole conversation, as it was written."""

    threads: list[Thread]


class ConversationPage(msgspec.Struct):
    """A part of a list; `next` gives the part that follows, as `after`.

    `is_kept` is false where none is kept for who asks: without a key, and for those that manage.
    """

    data: list[Summary]
    next: str | None
    is_kept: bool = True


class DeletedConversation(msgspec.Struct):
    """What is left of a conversation."""

    id: str
    deleted: bool = True


def read_conversation(conversation_id: str, body: bytes) -> Conversation:
    """Read what is to be written; raises `InvalidRequest`."""
    if not _ID.fullmatch(conversation_id):
        raise InvalidRequest("an id has 1 to 64 letters, digits, - and _", "id")
    read = decode_json(body, ConversationBody)
    threads = bytes(msgspec.json.decode(body, type=_Verbatim).threads)
    try:
        threads.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body isn't valid UTF-8: {error.reason}", "threads") from error
    title = "".join(c if c.isprintable() else " " for c in read.title[:MAX_TITLE_CHARS]).strip()
    return Conversation(
        id=conversation_id,
        version=read.version,
        title=title,
        created_ms=read.created_ms,
        updated_ms=read.updated_ms,
        num_threads=len(read.threads),
        num_bytes=len(threads),
        words=words_of(_texts(title, read.threads)),
        threads=threads,
    )


def read_search(query: Mapping[str, str]) -> Search:
    """Read which conversations are wanted; raises `InvalidRequest`."""
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_PAGE):
        raise InvalidRequest(f"limit must be a whole number from 1 to {MAX_PAGE}", "limit")
    after = None
    if text := query.get("after"):
        place = _CURSOR.fullmatch(text)
        if place is None:
            raise InvalidRequest("after isn't the next of a list; send it as it was", "after")
        after = Cursor(int(place[1]), place[2])
    asked = query.get("q", "")
    return Search(int(limit), query_words(asked) if asked.strip() else None, after)


def _texts(title: str, threads: list[Thread]) -> Iterator[str]:
    yield title
    for thread in threads:
        for message in thread.messages.values():
            yield message.text


def encode_page(found: list[Summary], has_more: bool) -> bytes:
    """Write a part of a list."""
    after = f"{found[-1].updated_ms}.{found[-1].id}" if has_more else None
    return msgspec.json.encode(ConversationPage(found, after))


def encode_no_list() -> bytes:
    """Write the list of somebody for whom no conversation is kept."""
    return msgspec.json.encode(ConversationPage([], None, is_kept=False))


def encode_conversation(found: Conversation) -> bytes:
    """Write a whole conversation."""
    fields = {name: getattr(found, name) for name in Summary.__struct_fields__}
    return msgspec.json.encode({**fields, "threads": msgspec.Raw(found.threads)})
