"""What is kept of requests whose keys ask for it: reading it back, and deleting it.

Only the key that sent a request, or a management key, sees that there is anything.
"""

from __future__ import annotations

import logging

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outrider.dialects import openrouter_generation as record
from outrider.dialects.contents import DeletedContent, DeletedContents
from outrider.errors import Forbidden, InvalidRequest, NotFound, Unauthorized
from outrider.metering.content_writer import ContentWriter
from outrider.metering.contents import delete_content, delete_of_key, find_content
from outrider.routing_types import Caller
from outrider.server.access import caller_of
from outrider.server.generate import Services
from outrider.server.replies import json_reply
from outrider.storage.opening import Storage

logger = logging.getLogger(__name__)

NOTHING = "nothing is kept of a request of this id, or another key sent it"


class ContentsApi:
    """The endpoints of prompts and answers."""

    def __init__(self, storage: Storage, writer: ContentWriter, services: Services) -> None:
        self._storage = storage
        self._writer = writer
        self._services = services

    async def show(self, http: Request) -> Response:
        """Show what was kept of a request."""
        wanted, caller = record.read_generation_id(http.query_params), caller_of(http.scope)
        await self._writer.flush()
        found = await self._storage.run(find_content, wanted)
        is_seen = found and (found.key == caller.key or caller.kind == "management")
        if found is None or not is_seen:
            raise NotFound(NOTHING, "id")
        return json_reply(record.encode_content(found))

    async def delete(self, http: Request) -> Response:
        """Delete what was kept of a request."""
        content_id, caller = http.path_params["id"], _known(caller_of(http.scope))
        await self._writer.flush()
        owner = None if caller.kind == "management" else caller.key
        if not await self._storage.run(delete_content, content_id, owner):
            raise NotFound(NOTHING, "id")
        return json_reply(msgspec.json.encode(DeletedContent(content_id)))

    async def delete_all(self, http: Request) -> Response:
        """Delete what was kept for a key: the caller's own, or the one that a manager names."""
        caller = _known(caller_of(http.scope))
        wanted = http.query_params.get("key") or ""
        if caller.kind != "management":
            if wanted not in ("", caller.key):
                raise Forbidden("only management keys can delete what is kept for another key")
            wanted = caller.key
        elif not wanted:
            raise InvalidRequest(
                "key is missing; send the hash of the key that it is kept for", "key"
            )
        await self._writer.flush()
        number = await self._storage.run(delete_of_key, wanted)
        logger.info("contents of %d requests were deleted by %s", number, caller.key[:12])
        return json_reply(msgspec.json.encode(DeletedContents(wanted, number)))


def _known(caller: Caller) -> Caller:
    if not caller.key:
        raise Unauthorized("contents are kept for keys; send the key that they are kept for")
    return caller
