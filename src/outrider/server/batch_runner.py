"""Takes batches from the queue to their end: validation, items, results, deadlines and deletion.

One loop decides; items and chores (validation, endings) run beside it. What runs stands in memory
only: after a restart whatever isn't done is begun again, and no result is ever written twice. The
engine itself puts live requests first, so it is given as much as it can run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Coroutine

from sqlalchemy import Connection, text

from outrider.batch_types import Batch, Item, ItemResult, Status
from outrider.errors import EngineFailed, StorageError
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.provider import as_local
from outrider.server.batch_ending import end
from outrider.server.batch_items import ItemRunner
from outrider.server.batch_validation import Findings, validate
from outrider.server.batch_wires import make_wires
from outrider.server.generate import Services
from outrider.storage import batches as queue
from outrider.storage.files import delete_expired_files, delete_files
from outrider.storage.opening import Storage

logger = logging.getLogger(__name__)

# Lines in memory at the same time, unless one alone is longer.
MAX_BYTES_IN_FLIGHT = 64 << 20
OTHERS_AT_ONCE = 4  # items of providers that don't say how many they run
FETCHED_AT_ONCE = 64
LONGEST_PAUSE_S, RETRY_S = 60.0, 5.0
CLEANING_S = 10.0


class BatchRunner:
    """Runs every batch of one data folder; `start` it once."""

    def __init__(self, storage: Storage, services: Services) -> None:
        self.wires = make_wires(services)
        self._storage = storage
        self._config = services.config
        self._items = ItemRunner(storage, services)
        self._catalogue = services.catalogue
        self._woken = asyncio.Event()
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._lengths: dict[tuple[str, int], int] = {}
        self._chores: dict[str, asyncio.Task[None]] = {}
        self._fetched: dict[str, deque[Item]] = {}
        self._cursors: dict[str, int] = {}  # the last item fetched of each batch
        self._turn = 0
        self._paused_until_s = 0.0
        self._next_cleaning_s = 0.0
        self._loop: asyncio.Task[None] | None = None

    @property
    def _capacity(self) -> int:
        """How many items may run now; models come and go."""
        return capacity_of(self._catalogue)

    @property
    def _has_room(self) -> bool:
        """Whether one more item may run; those that wait for their keys take no room."""
        return len(self._running) - self._items.num_waiting < self._capacity

    def start(self) -> None:
        """Begin with whatever the queue has."""
        self._loop = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Look at the queue now."""
        self._woken.set()

    def is_running(self, batch_id: str) -> bool:
        """Say whether items of a batch run at this moment."""
        return any(owner == batch_id for owner, _ in self._running)

    async def close(self) -> None:
        """Stop; what runs will be begun again by the next process."""
        loop = [self._loop] if self._loop else []
        tasks = [*loop, *self._chores.values(), *self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            pause_s = self._paused_until_s - time.monotonic()
            if pause_s <= 0:
                try:
                    await self._clean()
                    pause_s = await self._tend()
                except StorageError as error:
                    self._pause(error)
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()

    def _pause(self, error: StorageError) -> None:
        """Try again later; what was fetched may not be what runs any more."""
        if self._paused_until_s < time.monotonic():
            logger.error("batches wait %d s: %s", RETRY_S, error.message)
        self._paused_until_s = time.monotonic() + RETRY_S
        self._forget()

    def _forget(self) -> None:
        self._fetched.clear()
        self._cursors.clear()

    async def _tend(self) -> float:
        """Begin all that can be begun now; give the seconds until the next deadline."""
        now_s = int(time.time())
        waiting = []
        for batch in await self._storage.run(queue.unfinished):
            if batch.id in self._chores:
                continue
            status = ending_of(batch, now_s)
            if status is not None:
                if not self._stop_items(batch.id):
                    self._begin(batch.id, self._end(batch, status))
            elif batch.status == "validating":
                self._begin(batch.id, self._validate(batch))
            else:
                waiting.append(batch)
        await self._fill(waiting)
        deadline_s = await self._storage.run(queue.next_deadline)
        if deadline_s is None:
            return LONGEST_PAUSE_S
        return min(LONGEST_PAUSE_S, max(1.0, deadline_s - time.time()))

    async def _fill(self, batches: list[Batch]) -> None:
        """Start items, one batch after the other, as long as there is room for them."""
        self._turn += 1
        turn = self._turn % len(batches) if batches else 0
        batches = batches[turn:] + batches[:turn]
        # A key whose limits are full for the moment isn't in the way of others.
        batches = [batch for batch in batches if not self._items.is_waiting(batch.id)]
        while batches and self._has_room:
            for batch in list(batches):
                item = await self._next_item(batch)
                if item is None:
                    batches.remove(batch)
                    continue
                num_bytes = sum(self._lengths.values())
                is_full = num_bytes and num_bytes + item.length > MAX_BYTES_IN_FLIGHT
                if is_full or not self._has_room:
                    self._fetched[batch.id].appendleft(item)
                    return
                self._start(batch, item, self._run_item(batch, item))

    async def _next_item(self, batch: Batch) -> Item | None:
        fetched = self._fetched.setdefault(batch.id, deque())
        if not fetched:
            after = self._cursors.get(batch.id, -1)
            rows = await self._storage.run(queue.next_items, batch.id, after, FETCHED_AT_ONCE)
            if rows:
                self._cursors[batch.id] = rows[-1].position
            fetched.extend(row for row in rows if (batch.id, row.position) not in self._running)
        return fetched.popleft() if fetched else None

    def _start(self, batch: Batch, item: Item, work: Coroutine[None, None, None]) -> None:
        key = (batch.id, item.position)
        task = self._running[key] = asyncio.create_task(work)
        self._lengths[key] = item.length

        def finish(task: asyncio.Task[None]) -> None:
            del self._running[key], self._lengths[key]
            self._woken.set()
            error = None if task.cancelled() else task.exception()
            if isinstance(error, StorageError):
                self._pause(error)
            elif error is not None:  # a bug of ours must not run for ever
                logger.error("item %d of %s failed", item.position, batch.id, exc_info=error)
                self._start(batch, item, self._give_up(batch, item, error))

        task.add_done_callback(finish)

    async def _run_item(self, batch: Batch, item: Item) -> None:
        result = await self._items.run(self.wires[batch.wire], batch, item)
        await self._storage.run(queue.finish_item, batch.id, result)

    async def _give_up(self, batch: Batch, item: Item, error: BaseException) -> None:
        wire = self.wires[batch.wire]
        failure = EngineFailed(f"the server failed ({type(error).__name__}); its log says why")
        status, body = wire.dialect(batch).encode_error(failure, batch.id)
        line = wire.result(item, batch.id, status, body)
        result = ItemResult(position=item.position, is_error=True, body=line)
        await self._storage.run(queue.finish_item, batch.id, result)

    def _stop_items(self, batch_id: str) -> bool:
        """Stop the items of a batch; True while some of them are still there."""
        self._fetched.pop(batch_id, None)
        self._cursors.pop(batch_id, None)
        tasks = [task for (owner, _), task in self._running.items() if owner == batch_id]
        for task in tasks:
            task.cancel()
        return bool(tasks)

    def _begin(self, batch_id: str, work: Coroutine[None, None, None]) -> None:
        task = self._chores[batch_id] = asyncio.create_task(work)

        def finish(task: asyncio.Task[None]) -> None:
            del self._chores[batch_id]
            self._woken.set()
            error = None if task.cancelled() else task.exception()
            if isinstance(error, StorageError):
                self._pause(error)
            elif error is not None:
                logger.error("%s can't go on", batch_id, exc_info=error)
                self._pause(StorageError(f"{batch_id} can't go on; see above"))

        task.add_done_callback(finish)

    async def _validate(self, batch: Batch) -> None:
        folder = self._storage.folder

        def find() -> Findings:
            with folder.open(batch.input_file_id) as file:
                return validate(file, batch.endpoint, self._config)

        items, errors = await asyncio.to_thread(find)
        now_s = int(time.time())
        if errors:
            await self._storage.run(queue.reject, batch.id, errors, now_s)
        else:
            await self._storage.run(queue.accept, batch.id, items, now_s)

    async def _end(self, batch: Batch, status: Status) -> None:
        is_begun = batch.status == "finalizing" or status != "completed"
        run = self._storage.run
        if is_begun or await run(queue.begin_finalizing, batch.id, int(time.time())):
            await end(self._storage, self.wires[batch.wire], batch, status)
        counts = (batch.num_completed, batch.num_failed, batch.num_requests)
        logger.info("%s %s: %d answered, %d failed of %d", batch.id, status, *counts)

    async def _clean(self) -> None:
        """Delete what has expired."""
        if time.monotonic() < self._next_cleaning_s:
            return
        self._next_cleaning_s = time.monotonic() + CLEANING_S
        names = await self._storage.run(_delete_expired, int(time.time()))
        await self._storage.remove(names)


def _delete_expired(connection: Connection, now_s: int) -> list[str]:
    """Delete rows whose time is over; give the files whose bytes are to be removed."""
    names = delete_files(connection, queue.delete_old(connection, now_s))
    names += delete_expired_files(connection, now_s)
    connection.execute(text("PRAGMA incremental_vacuum"))
    return names


def ending_of(batch: Batch, now_s: int) -> Status | None:
    """Say as what a batch has to end now; None if it goes on."""
    if batch.status == "cancelling":
        return "cancelled"
    num_done = batch.num_completed + batch.num_failed
    if batch.status == "finalizing":
        return "completed"
    if batch.status == "in_progress" and num_done == batch.num_requests:
        return "completed"
    return "expired" if batch.deadline_s <= now_s else None


def capacity_of(catalogue: Catalogue) -> int:
    """Give how many items may run at the same time."""
    engines = (as_local(endpoint.provider) for endpoint in catalogue.endpoints)
    return max((each.max_running for each in engines if each), default=OTHERS_AT_ONCE)
