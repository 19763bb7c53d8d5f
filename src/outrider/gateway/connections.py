"""Connections to other machines: made when one is needed, kept for a while, closed with the server.

A kept connection is used by one request at a time. Several addresses of a name are tried side by
side, each a moment after the one before (RFC 8305), so that one that is dead costs little.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from outrider.gateway.http_connection import HttpConnection, HttpError

KEPT_S = 60.0  # unused: a new one to a hosted service takes several times as long as a request
NEXT_ADDRESS_S = 0.25


class ConnectTimeout(TimeoutError):
    """No connection was there in time."""


class Target(NamedTuple):
    """Where a URL leads."""

    host: str
    port: int
    is_tls: bool
    begin: bytes  # of the request's head

    @property
    def origin(self) -> tuple[str, int, bool]:
        """What connections are kept by."""
        return self.host, self.port, self.is_tls


class Connections:
    """Sends requests over connections that are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, bool], list[HttpConnection]] = {}
        self._busy: set[HttpConnection] = set()
        self._tls: ssl.SSLContext | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], deadline: float, connect_s: float
    ) -> HttpConnection:
        """Send a request and give the connection with the reply's head; `release` it afterwards.

        Over a kept connection that the host closes just then, it is sent once more over a new one,
        as Go's net/http does. Raises `TimeoutError`, `ConnectTimeout` or another `OSError`.
        """
        target = target_of(url)
        head = head_of(target, headers, len(body))
        kept = self._take(target)
        if kept is not None:
            try:
                return await self._send(kept, head, body, deadline)
            except (HttpError, ConnectionError):
                if not kept.is_unanswered:
                    raise
        connection = await self._connect(target, deadline, connect_s)
        connection.origin = target.origin
        return await self._send(connection, head, body, deadline)

    def release(self, connection: HttpConnection) -> None:
        """Keep a connection whose reply is whole, and cut others."""
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        if connection.end():
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._kept.setdefault(connection.origin, []).append(connection)
            if self._sweeping is None:
                self._sweeping = loop.call_later(KEPT_S, self._sweep)

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        every = [*self._busy, *(each for kept in self._kept.values() for each in kept)]
        self._busy.clear()
        self._kept.clear()
        for connection in every:
            connection.close()
        await asyncio.sleep(0)  # the transports end in the loop's next turn

    async def _send(
        self, connection: HttpConnection, head: bytes, body: bytes, deadline: float
    ) -> HttpConnection:
        self._busy.add(connection)
        try:
            await connection.send(head, body, deadline)
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise
        return connection

    def _take(self, target: Target) -> HttpConnection | None:
        """Give a connection that is kept: the last one, so that those too many grow old."""
        kept = self._kept.get(target.origin)
        while kept:
            connection = kept.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self, target: Target, deadline: float, connect_s: float) -> HttpConnection:
        loop = asyncio.get_running_loop()
        until = min(deadline, loop.time() + connect_s)
        if target.is_tls and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout_at(until):
                sock = await _connected(target.host, target.port)
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(self._forget),
                    sock=sock,
                    ssl=self._tls if target.is_tls else None,
                    server_hostname=target.host if target.is_tls else None,
                )
        except TimeoutError as error:
            if until == deadline:
                raise
            raise ConnectTimeout from error
        return connection

    def _forget(self, connection: HttpConnection) -> None:
        kept = self._kept.get(connection.origin)
        if kept and connection in kept:
            kept.remove(connection)

    def _sweep(self) -> None:
        """Close what nobody has used for long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEPT_S
        for origin, kept in list(self._kept.items()):
            for connection in kept:
                if connection.idle_since <= oldest:
                    connection.close()
            self._kept[origin] = [each for each in kept if each.idle_since > oldest]
        self._kept = {origin: kept for origin, kept in self._kept.items() if kept}
        self._sweeping = loop.call_later(KEPT_S, self._sweep) if self._kept else None


@lru_cache(maxsize=1024)
def target_of(url: str) -> Target:
    """Read a URL; raises `ValueError` for one that isn't HTTP's."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    if not parts.hostname or parts.scheme not in ("http", "https") or not url.isascii():
        raise ValueError("not an address of HTTP")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isprintable() or " " in path:
        raise ValueError("the address has characters that an address can't have")
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host = shown + (f":{parts.port}" if parts.port else "")
    begin = f"POST {path} HTTP/1.1\r\nhost: {host}\r\n".encode()
    return Target(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, begin)


def head_of(target: Target, headers: Mapping[str, str], num_bytes: int) -> bytes:
    """Write a request's head; raises `ValueError` for a header that would be more than one."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header has a line break")
    return b"%bcontent-length: %d\r\n%b\r\n" % (target.begin, num_bytes, lines.encode("latin-1"))


async def _connected(host: str, port: int) -> socket.socket:
    """Connect to the first address of a name that answers."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1)
