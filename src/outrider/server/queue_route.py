"""Workers AI's run endpoint: what is to be queued, or asks for what was, goes to the data folder.

Everything else runs at once. The service's older pages ask without `queueRequest`, so a body that
is short enough to be such a question is looked at before it is handed on.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outrider.config import ServerConfig
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.cloudflare_batch import is_poll
from outrider.errors import OutriderError
from outrider.server.body import ClientGone, read_body
from outrider.server.data_entry import DataEntry
from outrider.server.replies import json_reply

MAX_POLL_BYTES = 1000


class QueueRoute:
    """An ASGI endpoint in front of the one that runs requests at once."""

    def __init__(self, data: DataEntry, run: ASGIApp, config: ServerConfig) -> None:
        self._data = data
        self._run = run
        self._config = config
        self._dialect = WorkersAi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Queue, answer a question after what was queued, or hand on."""
        http = Request(scope, receive)
        if not wants_queue(http.query_params):
            if not _is_short(http.headers):
                await self._run(scope, receive, send)
                return
            try:
                body = await read_body(http.headers, receive, self._config)
            except ClientGone:
                return
            except OutriderError as error:
                await self._refuse(error)(scope, receive, send)
                return
            receive = _replayed(body, receive)
            if not is_poll(body):
                await self._run(scope, receive, send)
                return
            http = Request(scope, receive)
        reply = await self._data.answer(self._dialect, lambda api, it: api.queued.answer(it), http)
        await reply(scope, receive, send)

    def _refuse(self, error: OutriderError) -> Response:
        status, body = self._dialect.encode_error(error, "")
        headers = {"connection": "close"}
        return json_reply(body, status, headers)


def wants_queue(query: Mapping[str, str]) -> bool:
    """Say whether a URL asks for the queue."""
    return query.get("queueRequest", "").lower() == "true"


def _is_short(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isascii() and length.isdigit() and int(length[:9]) <= MAX_POLL_BYTES


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
