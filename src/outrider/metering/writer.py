"""Takes closed requests from the journal to the ledger, many in one transaction.

What waits takes no memory however long the database is slow or gone: but for the first of them,
rows are read from their slots when they are written. A slot is given back when its row is on the
disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import NamedTuple

from sqlalchemy import Connection

from outrider.errors import StorageError
from outrider.metering.journal import Journal, Slot
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.records import Opened, Row
from outrider.storage.database import Database

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 500
LINGER_S = 0.05  # one sync of the disk for what ends meanwhile; the journal has it already
RETRY_S = 1.0
FLUSH_S = 5.0  # how long a reader waits for what ended just now
MAX_ROWS_WITHOUT_SLOT = 10_000


class Ended(NamedTuple):
    """A request whose row isn't written yet."""

    slot: Slot | None
    row: Row | None  # None: it stands in the slot

    def read(self) -> Row | None:
        """Give the row; None if the disk didn't get all of it."""
        if self.row is not None or self.slot is None:
            return self.row
        row = self.slot.read()
        if row is None:
            logger.warning("a request's record was only half written when the machine stopped")
        return row


class LedgerWriter:
    """Writes what is added, in the background, until `close`."""

    def __init__(self, journal: Journal, database: Database) -> None:
        self._journal = journal
        self._database = database
        self._numbers = Numbers()
        self._waiting: deque[Ended] = deque()
        self._num_rows = 0  # of those that wait without a slot
        self._num_added = self._num_written = self._num_failures = 0
        self._woken = asyncio.Event()
        self._written = asyncio.Condition()
        self._loop: asyncio.Task[None] | None = None
        self._is_closing = False

    async def start(self) -> int:
        """Add what an earlier process left, and go on; give how many rows that were."""
        left = self._journal.unfinished()
        self._waiting.extend(Ended(slot, None) for slot in left)
        self._num_added += len(left)
        while self._waiting:  # nothing is running yet: a failure is the caller's
            await self._write()
        self._loop = asyncio.create_task(self._run())
        return len(left)

    def take(self, opened: Opened) -> Slot | None:
        """Begin a slot for a request; None if the disk has no room for one."""
        return self._journal.take(opened)

    def add(self, slot: Slot | None, row: Row) -> None:
        """Add a request that has ended; one without a slot is lost if the process is killed."""
        if slot is None:
            if self._num_rows >= MAX_ROWS_WITHOUT_SLOT:
                logger.error("the ledger loses %s: neither disk nor database", row.opened.id)
                return
            self._num_rows += 1
        is_kept = slot is None or len(self._waiting) < ROWS_AT_ONCE
        self._waiting.append(Ended(slot, row if is_kept else None))
        self._num_added += 1
        self._woken.set()

    async def flush(self) -> bool:
        """Wait until what has ended by now is in the database, or can't be; say whether it is."""
        wanted, failures = self._num_added, self._num_failures
        if self._num_written < wanted:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S), self._written:
                    self._woken.set()
                    await self._written.wait_for(
                        lambda: self._num_written >= wanted or self._num_failures > failures
                    )
        return self._num_written >= wanted

    async def close(self) -> None:
        """Write what waits, if that is possible now; what isn't written stays in the journal."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        try:
            while self._waiting:
                await self._write()
        except StorageError as error:
            logger.error(
                "%d rows of the ledger wait in its journal: %s", len(self._waiting), error.message
            )
        self._journal.close()

    async def _run(self) -> None:
        is_failing = False
        while True:
            await self._woken.wait()
            await asyncio.sleep(LINGER_S)
            self._woken.clear()
            try:
                # What ends meanwhile lingers too: a few rows cost nearly as much as many.
                await self._write()
                while len(self._waiting) >= ROWS_AT_ONCE:
                    await self._write()
                is_failing = False
            except StorageError as error:
                if not is_failing:
                    logger.error("the ledger waits in its journal: %s", error.message)
                is_failing = True
                self._num_failures += 1
            async with self._written:
                self._written.notify_all()
            if self._waiting:
                self._woken.set()
            if is_failing:
                await asyncio.sleep(RETRY_S)

    async def _write(self) -> None:
        """Write a transaction's worth; what was taken waits again if it fails."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), ROWS_AT_ONCE))]
        if not batch:
            return
        numbers = self._numbers

        def write(connection: Connection) -> None:
            rows = [row for ended in batch if (row := ended.read()) is not None]
            add_rows(connection, rows, numbers)

        try:
            await self._database.run(write)
        except BaseException:  # the process may be ending, too
            self._numbers = Numbers()  # a transaction that wrote some of them may be gone
            self._waiting.extendleft(reversed(batch))
            raise
        self._num_written += len(batch)
        for ended in batch:
            if ended.slot is not None:
                self._journal.give_back(ended.slot)
            else:
                self._num_rows -= 1
