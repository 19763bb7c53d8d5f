"""Reading a request's body: bounded in size and time, and watching for clients that leave.

Refuses a body before it is buffered beyond the limit, whatever its Content-Length says, and one
that is compressed (a small bomb could unpack to anything).
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Receive

from outrider.config import ServerConfig
from outrider.errors import InvalidRequest, PayloadTooLarge, RequestTimeout
from outrider.server.peer import Peer


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


async def read_body(
    headers: Headers, receive: Receive, config: ServerConfig, peer: Peer | None = None
) -> bytes:
    """Give the whole body of a request, whose sender is known if `receive` is the server's own.

    Raises `PayloadTooLarge`, `RequestTimeout`, `InvalidRequest` for an encoding, or `ClientGone`.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequest(
            f"content-encoding is {encoding[:50]!r}; send the body uncompressed",
            "content-encoding",
        )
    limit = config.max_request_bytes
    if peer is not None and (body := peer.take_body()) is not None:
        if len(body) > limit:
            raise _too_large(limit)
        return body
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(config.body_timeout_s):
            return await _receive_all(receive, limit)
    except TimeoutError:
        raise RequestTimeout(
            f"the body did not arrive within {config.body_timeout_s} s; send it faster or start "
            "with a larger --body-timeout-s"
        ) from None


async def _receive_all(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return bytes(body)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has closed its connection; the body has to be read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the body is longer than {limit:,} bytes; shorten it or start with a larger "
        "--max-request-bytes"
    )
