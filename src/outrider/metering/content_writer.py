"""Writes what is kept of requests, in the background, and deletes what is too old.

No request waits for it. What it holds is bounded: while the database doesn't take anything, later
contents are left out and counted in the log. They are in no journal, so a killed process loses
those of its last moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from outrider.errors import StorageError
from outrider.ledger_types import DAY_S, Content
from outrider.metering.keyring import Clock

if TYPE_CHECKING:  # SQLAlchemy takes half a second of a start
    from outrider.storage.database import Database

logger = logging.getLogger(__name__)

CONTENTS_AT_ONCE = 100
LINGER_S = 0.05
RETRY_S = 1.0
FLUSH_S = 5.0  # how long a reader waits for what ended just now
CLEANING_S = 3600.0
MAX_WAITING_BYTES = 64 << 20


class ContentWriter:
    """Writes what is added, from `start` to `close`; before and after, it is left out."""

    def __init__(self, keep_days: int, clock: Clock = time.time) -> None:
        self._keep_s = keep_days * DAY_S
        self._clock = clock
        self._database: Database | None = None
        self._waiting: deque[Content] = deque()
        self._num_bytes = 0  # about what waits
        self._num_lost = 0
        self._woken = asyncio.Event()
        self._written = asyncio.Condition()
        self._loop: asyncio.Task[None] | None = None

    async def start(self, database: Database) -> None:
        """Delete what is too old, and write from now on; raises `StorageError`."""
        self._database = database
        await self._clean()
        self._loop = asyncio.create_task(self._run())

    def add(self, content: Content) -> None:
        """Add what is to be kept of a request that has ended."""
        size = size_of(content)
        if self._loop is None or self._num_bytes + size > MAX_WAITING_BYTES:
            self._num_lost += 1
            return
        self._num_bytes += size
        self._waiting.append(content)
        self._woken.set()

    async def flush(self) -> None:
        """Wait until what has ended by now is in the database, or can't be written now."""
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S), self._written:
                    self._woken.set()
                    await self._written.wait()

    async def close(self) -> None:
        """Write what waits, if that is possible now."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None
        try:
            await self._write_all()
        except StorageError as error:
            logger.error("%d contents are lost: %s", len(self._waiting), error.message)
        self._database = None

    async def _run(self) -> None:
        next_cleaning_s = time.monotonic() + CLEANING_S
        is_failing = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_cleaning_s - time.monotonic())):
                    await self._woken.wait()
            await asyncio.sleep(RETRY_S if is_failing else LINGER_S)
            self._woken.clear()
            try:
                await self._write_all()
                if time.monotonic() >= next_cleaning_s:
                    await self._clean()
                    next_cleaning_s = time.monotonic() + CLEANING_S
                is_failing = False
            except StorageError as error:
                if not is_failing:
                    logger.error("contents wait for the database: %s", error.message)
                is_failing = True
                self._woken.set()
            async with self._written:
                self._written.notify_all()

    async def _write_all(self) -> None:
        from outrider.metering.contents import save_contents

        while self._waiting and self._database is not None:
            batch = [
                self._waiting.popleft() for _ in range(min(len(self._waiting), CONTENTS_AT_ONCE))
            ]
            try:
                await self._database.run(partial(save_contents, waiting=batch))
            except BaseException:  # the process may be ending, too
                self._waiting.extendleft(reversed(batch))
                raise
            self._num_bytes -= sum(map(size_of, batch))
        if self._num_lost:
            logger.error("%d contents weren't kept: too many waited", self._num_lost)
            self._num_lost = 0

    async def _clean(self) -> None:
        from outrider.metering.contents import delete_before

        assert self._database is not None
        before_s = int(self._clock()) - self._keep_s
        if number := await self._database.run(partial(delete_before, created_s=before_s)):
            logger.info("deleted contents of %d requests, whose time was over", number)


def size_of(content: Content) -> int:
    """Give about how many bytes of memory a content takes."""
    texts = (len(choice.text) for choice in content.answer.choices)
    calls = (len(call.arguments) for choice in content.answer.choices for call in choice.tool_calls)
    return 1000 + len(content.prompt) + sum(texts) + sum(calls)
