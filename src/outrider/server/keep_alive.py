"""Signs of life in a stream that has nothing to say for a while.

Proxies cut connections that are silent and clients give up; a comment of the wire's own keeps both
waiting. Knows neither events nor wires.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

INTERVAL_S = 5.0  # of silence, before each comment


class Silence:
    """Whether something was sent since the last time that it was looked at."""

    def __init__(self) -> None:
        self._is_broken = False

    def end(self) -> None:
        """Note that something was sent."""
        self._is_broken = True

    def lasts(self) -> bool:
        """Say whether nothing was sent since the last call."""
        is_broken, self._is_broken = self._is_broken, False
        return not is_broken


@asynccontextmanager
async def kept_alive(silence: Silence, send: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call `send` after each interval of silence while the block runs."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if silence.lasts():
                await send()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
