"""A connection's own limits, below the routes: how large and how slow the head of a request is.

uvicorn waits for the end of a head as long as it takes and keeps all of it. Here a head that is
too large or too slow is refused in the form of the wire that its path belongs to, and the
connection is closed; so is what isn't HTTP, one connection too many, and one whose client doesn't
read its answer. Bodies have limits of their own in `body`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outrider.config import ServerConfig
from outrider.errors import (
    EngineOverloaded,
    InvalidRequest,
    OutriderError,
    PayloadTooLarge,
    RequestTimeout,
)
from outrider.server.outbox import Outbox
from outrider.server.peer import PEER, Peer

MAX_HEAD_BYTES = 64 << 10
MAX_HEADERS = 128
LARGE = "outrider.large"  # in the scope of a request: whether its head is too large
STALLED_S = 120.0  # that a client may take nothing of its answer, once the buffers are full
SURPLUS_S = 1.0  # that a connection too many has to say what it wants, and be refused

# Gives status and body of an error on the wire that a path belongs to.
EncodeError = Callable[[str, OutriderError], tuple[int, bytes]]


def server_settings(
    app: ASGIApp, config: ServerConfig, encode_error: EncodeError
) -> uvicorn.Config:
    """Give the settings of the HTTP server for an application."""
    limits = {
        "max_connections": config.max_connections,
        "head_timeout_s": config.body_timeout_s,
        "encode_error": staticmethod(encode_error),
    }
    return uvicorn.Config(
        _LimitedHeads(app, encode_error),
        http=type("Connection", (Connection,), limits),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks for a client's address
        timeout_graceful_shutdown=config.drain_timeout_s,
        lifespan="off",
    )


class Connection(HttpToolsProtocol):
    """Counts what arrives outside of bodies, and the time for it."""

    max_connections: int
    head_timeout_s: float
    encode_error: EncodeError

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **options)
        self._num_bytes = 0  # since the last piece of a body or end of a head
        self._num_arrived = 0  # bytes in what came last
        self._is_surplus = False  # one connection too many
        self._is_over = False  # what still arrives isn't read
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._peers: deque[Peer] = deque()  # of requests that aren't answered yet
        self.url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a first request."""
        self._outbox = Outbox(transport, self.loop)
        super().connection_made(self._outbox)  # type: ignore[arg-type]
        self._is_surplus = len(self.connections) > self.max_connections
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        self._go_on()
        super().connection_lost(exc)
        while self._peers:
            self._peers.popleft().leave()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever: it keeps a place that others need."""
        super().pause_writing()
        self._go_on()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, now that it has read."""
        self._go_on()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read what arrived; the methods below note what it was."""
        if self._is_over:
            return
        self._num_arrived = len(data)
        self._num_bytes += len(data)
        if self._is_surplus:
            self._refuse_surplus(data)
            return
        if self._timer is None and self._is_idle:
            self._wait()
        super().data_received(data)
        # Also of trailers and what may stand between the pieces of a body.
        if self._num_bytes > MAX_HEAD_BYTES:
            self._refuse(_too_large())

    def on_headers_complete(self) -> None:
        """Begin the request."""
        # The head is in what came last, or began in what is counted: no more, and often less.
        num_bytes = max(self._num_bytes, self._num_arrived)
        self._num_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()
        scope: Any = self.scope  # whose type has no keys of others
        is_long = num_bytes > MAX_HEAD_BYTES and _size_of(scope) > MAX_HEAD_BYTES
        scope[LARGE] = is_long or len(scope["headers"]) > MAX_HEADERS
        peer = scope[PEER] = Peer(self.cycle)
        self._peers.append(peer)

    def on_response_complete(self) -> None:
        """Send what is left of an answer at once: what is done after it is nobody's wait."""
        self._outbox.flush()
        if self._peers:
            self._peers.popleft().release()
        super().on_response_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._num_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what isn't HTTP, or not unambiguously."""
        self._refuse(InvalidRequest(f"{msg} Send one that follows RFC 9112"))

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        limit_s = SURPLUS_S if self._is_surplus else self.head_timeout_s
        self._timer = self.loop.call_later(limit_s, self._expire)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _expire(self) -> None:
        self._timer = None
        if not self._num_bytes:
            self.transport.close()  # it never said anything
        elif self._is_idle:
            words = f"the request's head did not arrive within {self.head_timeout_s} s"
            self._refuse(RequestTimeout(f"{words}; send it faster"))

    def _refuse_surplus(self, data: bytes) -> None:
        """Say on the wire that the first line looks like that there are too many connections."""
        words = data[:MAX_HEAD_BYTES].split(b" ", 2)
        self.url = words[1] if len(words) > 2 else b""
        self._refuse(
            EngineOverloaded(
                f"there are more than {self.max_connections} connections; try again later or start "
                "with a larger --max-connections"
            )
        )

    def _refuse(self, error: OutriderError) -> None:
        """Answer, unless an answer is on its way, and close the connection."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if not self._is_idle and not self.cycle.more_body:
            # What is wrong came behind a request that was fine: that one is still answered.
            self.cycle.keep_alive = False
            self._is_over = True
            return
        if self._is_idle or not self.cycle.response_started:
            path = self.url.partition(b"?")[0].decode("latin-1")
            status, body = self.encode_error(path, error)
            wait = ""
            if isinstance(error, EngineOverloaded):
                wait = f"retry-after: {error.retry_after_s}\r\n"
            head = (
                f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n{wait}connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


class _LimitedHeads:
    """Refuses heads that arrived whole, and are too large all the same."""

    def __init__(self, app: ASGIApp, encode_error: EncodeError) -> None:
        self._app = app
        self._encode_error = encode_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not scope[LARGE]:
            await self._app(scope, receive, send)
            return
        status, body = self._encode_error(scope["path"], _too_large())
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})


def _size_of(scope: Scope) -> int:
    """Give the bytes of a head's texts."""
    num_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
    return num_bytes + len(scope["raw_path"]) + len(scope["query_string"])


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the URL and the headers have more than {MAX_HEAD_BYTES:,} bytes, or there are more than "
        f"{MAX_HEADERS} headers; send fewer"
    )
