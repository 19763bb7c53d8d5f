"""Takes closed requests from the journal to the ledger, many in one transaction.

Rows are read from their slots when they are written, so what waits takes no memory however long
the database is slow or gone. A slot is given back when its row is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

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


class LedgerWriter:
    """Writes what is added, in the background, until `close`."""

    def __init__(self, journal: Journal, database: Database) -> None:
        self._journal = journal
        self._database = database
        self._numbers = Numbers()
        self._waiting: deque[Slot | Row] = deque()
        self._num_rows = 0  # of those that wait without a slot
        self._woken = asyncio.Event()
        self._written = asyncio.Condition()
        self._loop: asyncio.Task[None] | None = None
        self._is_closing = False

    async def start(self) -> int:
        """Add what an earlier process left, and go on; give how many rows that were."""
        left = self._journal.unfinished()
        self._waiting.extend(left)
        while self._waiting:  # nothing is running yet: a failure is the caller's
            await self._write()
        self._loop = asyncio.create_task(self._run())
        return len(left)

    def take(self, opened: Opened) -> Slot | None:
        """Begin a slot for a request; None if the disk has no room for one."""
        return self._journal.take(opened)

    def add(self, ended: Slot | Row) -> None:
        """Add a request that has ended; one without a slot is lost if the process is killed."""
        if isinstance(ended, Row):
            if self._num_rows >= MAX_ROWS_WITHOUT_SLOT:
                logger.error("the ledger loses %s: neither disk nor database", ended.opened.id)
                return
            self._num_rows += 1
        self._waiting.append(ended)
        self._woken.set()

    async def flush(self) -> None:
        """Wait until what has ended by now is in the database, or can't be written now."""
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S), self._written:
                    self._woken.set()
                    await self._written.wait()

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
                while self._waiting:
                    await self._write()
                is_failing = False
            except StorageError as error:
                if not is_failing:
                    logger.error("the ledger waits in its journal: %s", error.message)
                is_failing = True
                self._woken.set()
            async with self._written:
                self._written.notify_all()
            if is_failing:
                await asyncio.sleep(RETRY_S)

    async def _write(self) -> None:
        """Write a transaction's worth; what was taken waits again if it fails."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), ROWS_AT_ONCE))]
        rows = [row for row in map(_row_of, batch) if row is not None]
        numbers = self._numbers
        try:
            await self._database.run(lambda connection: add_rows(connection, rows, numbers))
        except BaseException:  # the process may be ending, too
            self._numbers = Numbers()  # a transaction that wrote some of them may be gone
            self._waiting.extendleft(reversed(batch))
            raise
        for ended in batch:
            if isinstance(ended, Slot):
                self._journal.give_back(ended)
            else:
                self._num_rows -= 1


def _row_of(ended: Slot | Row) -> Row | None:
    if isinstance(ended, Row):
        return ended
    row = ended.read()
    if row is None:
        logger.warning("a request's record was only half written when the machine stopped")
    return row
