"""Sends what is written in one turn of the event loop together, by one system call.

A system call costs as much as encoding several chunks: head and body of an answer are one, and so
are chunks that came together. Order and bytes are those of the transport alone; nothing is kept
longer than until the loop's next turn.
"""

from __future__ import annotations

import asyncio
from typing import Any

MAX_KEPT_BYTES = 64 << 10


class Outbox:
    """A transport whose writes of one turn of the loop leave together, by one system call."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def write(self, data: bytes) -> None:
        """Keep data until the turn ends, or there is much of it."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._num_bytes += len(data)
        if self._num_bytes >= MAX_KEPT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was kept."""
        parts, self._parts, self._num_bytes = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Send what was kept and close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all else is the transport's
        return getattr(self._transport, name)
