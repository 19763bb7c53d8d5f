"""A server that sends bytes as scripted, HTTP or not, and requests over kept connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from outrider.gateway.connections import Connections
from outrider.gateway.http_connection import HttpConnection

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LENGTH = HEAD + b"content-length: 5\r\n\r\nhello"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(script: Script, work: Callable[[str, Connections], Awaitable[Any]]) -> Any:
    """Run work with the URL of a server that treats each connection as scripted."""
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(converse(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = Connections()
    try:
        return await asyncio.wait_for(work(f"http://127.0.0.1:{port}/v1", pool), 10)
    finally:
        await pool.close()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def take(reader: asyncio.StreamReader) -> None:
    """Read a request whose body is `{}`."""
    await reader.readuntil(b"\r\n\r\n{}")


def replying(*pieces: bytes, is_closed: bool = False, num_replies: int = 99) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(num_replies):
            await take(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if len(pieces) > 1:
                    await asyncio.sleep(0.001)
            if is_closed:
                return

    return script


async def post(pool: Connections, url: str, limit_s: float = 5.0) -> HttpConnection:
    deadline = asyncio.get_running_loop().time() + limit_s
    return await pool.post(url, b"{}", {"x-one": "1"}, deadline, 5.0)


async def whole(pool: Connections, url: str) -> tuple[int, bytes]:
    """Give status and body, and the connection back."""
    connection = await post(pool, url)
    try:
        pieces = []
        while not connection.is_at_end:
            pieces.append(await connection.read(asyncio.get_running_loop().time() + 5))
        return connection.status, b"".join(pieces)
    finally:
        pool.release(connection)
