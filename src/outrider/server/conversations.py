"""The web page's conversations, kept for the key that they were held with.

A conversation is its key's alone: no other key, and no management key, sees that there is any. What
a thread holds is the page's business; only texts are looked into, so that they can be found.
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outrider.config import ServerConfig
from outrider.conversation_types import Summary
from outrider.dialects import conversations as wire
from outrider.errors import PayloadTooLarge, Unauthorized
from outrider.server.access import caller_of
from outrider.server.body import read_body
from outrider.server.replies import json_reply
from outrider.storage import conversations as store
from outrider.storage.opening import Storage

MAX_BYTES = 8 << 20  # of one conversation, images included
LONG_BYTES = 1 << 16  # longer bodies are read off the event loop


class ConversationsApi:
    """The endpoints of conversations."""

    def __init__(self, storage: Storage, config: ServerConfig) -> None:
        self._storage = storage
        self._config = config

    async def list(self, http: Request) -> Response:
        """List conversations, newest first; `q` are words that they have to have."""
        caller, search = caller_of(http.scope), wire.read_search(http.query_params)
        if not caller.key or caller.kind == "management":
            return json_reply(wire.encode_no_list())
        found: list[Summary] = []
        has_more = False
        if search.words != ():  # a question without a word finds nothing
            found, has_more = await self._storage.run(store.list_conversations, caller.key, search)
        return json_reply(wire.encode_page(found, has_more))

    async def show(self, http: Request) -> Response:
        """Give a whole conversation."""
        found = await self._storage.run(store.find_conversation, _owner(http), _path_id(http))
        return json_reply(wire.encode_conversation(found))

    async def put(self, http: Request) -> Response:
        """Write a conversation, new or changed."""
        owner, conversation_id = _owner(http), _path_id(http)
        body = await read_body(http.headers, http.receive, self._config)
        if len(body) > MAX_BYTES:
            raise PayloadTooLarge(
                f"the conversation has {len(body):,} bytes and may have {MAX_BYTES:,}; begin "
                "another one, or leave images out"
            )
        if len(body) > LONG_BYTES:
            wanted = await asyncio.to_thread(wire.read_conversation, conversation_id, body)
        else:
            wanted = wire.read_conversation(conversation_id, body)
        written = await self._storage.run(store.put_conversation, owner, wanted)
        return json_reply(msgspec.json.encode(written))

    async def delete(self, http: Request) -> Response:
        """Delete a conversation."""
        conversation_id = _path_id(http)
        await self._storage.run(store.delete_conversation, _owner(http), conversation_id)
        return json_reply(msgspec.json.encode(wire.DeletedConversation(conversation_id)))


def _owner(http: Request) -> str:
    owner = caller_of(http.scope).key
    if not owner:
        raise Unauthorized("conversations are kept for keys; send one, or keep them yourself")
    return owner


def _path_id(http: Request) -> str:
    return str(http.path_params["id"])
