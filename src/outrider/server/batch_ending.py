"""The end of a batch: its results become files, or stay where they are asked for.

Files are written first and named by the same transaction that ends the batch: a process that is
killed in between writes them again, and nobody ever sees half of one.
"""

from __future__ import annotations

import asyncio
import time
from typing import BinaryIO

from sqlalchemy import Connection

from outrider.batch_types import Batch, Item, ItemResult, Status, StoredFile
from outrider.server.batch_wires import BatchWire
from outrider.server.files import new_file_id
from outrider.storage.batches import end_batch, end_queued, finish_item, next_items, results
from outrider.storage.files import put_file
from outrider.storage.folder import DataFolder
from outrider.storage.opening import Storage

ROWS_AT_ONCE = 100


async def end(storage: Storage, wire: BatchWire, batch: Batch, status: Status) -> None:
    """End a batch of which nothing runs any more."""
    if batch.wire == "openai":
        await _end_with_files(storage, wire, batch, status)
        return
    after = -1
    while items := await storage.run(next_items, batch.id, after, ROWS_AT_ONCE):
        for item in items:
            await storage.run(finish_item, batch.id, _unrun(wire, batch, item, status))
        after = items[-1].position
    await storage.run(end_queued, batch.id, status, int(time.time()))


async def _end_with_files(storage: Storage, wire: BatchWire, batch: Batch, status: Status) -> None:
    output = _ResultFile(storage.folder, f"{batch.id}_output.jsonl")
    errors = _ResultFile(storage.folder, f"{batch.id}_error.jsonl")
    try:
        after = -1
        while rows := await storage.run(results, batch.id, after, ROWS_AT_ONCE):
            after = rows[-1].position
            good = [row.body for row in rows if not row.is_error]
            await asyncio.to_thread(output.write, good)
            await asyncio.to_thread(errors.write, [row.body for row in rows if row.is_error])
        after = -1
        while items := await storage.run(next_items, batch.id, after, ROWS_AT_ONCE):
            after = items[-1].position
            lines = [wire.unrun(batch, item, status) for item in items]
            await asyncio.to_thread(errors.write, lines)
        for file in (output, errors):
            await asyncio.to_thread(file.keep)
        if not await storage.run(_end, batch, status, [output, errors]):
            await storage.remove([output.id, errors.id])
    except BaseException:
        output.discard()
        errors.discard()
        raise


def _end(connection: Connection, batch: Batch, status: Status, written: list[_ResultFile]) -> bool:
    now_s = int(time.time())
    names = ("output_file_id", "error_file_id")
    kept = {n: f for n, f in zip(names, written, strict=True) if f.num_bytes}
    if not end_batch(connection, batch.id, status, now_s, {n: f.id for n, f in kept.items()}):
        return False
    for file in kept.values():
        stored = StoredFile(
            id=file.id,
            owner=batch.owner,
            purpose="batch_output",
            filename=file.filename,
            num_bytes=file.num_bytes,
            created_s=now_s,
            expires_s=now_s + batch.keep_results_s,
        )
        put_file(connection, stored)
    return True


class _ResultFile:
    """A file of result lines; one without lines isn't made."""

    def __init__(self, folder: DataFolder, filename: str) -> None:
        self.id = new_file_id()
        self.filename = filename
        self.num_bytes = 0
        self._folder = folder
        self._file: BinaryIO | None = None

    def write(self, lines: list[bytes]) -> None:
        """Add lines."""
        if not lines:
            return
        if self._file is None:
            self._file = self._folder.create(self.id)
        data = b"\n".join([*lines, b""])
        self._folder.write(self._file, data)
        self.num_bytes += len(data)

    def keep(self) -> None:
        """Give the file its name."""
        if self._file is not None:
            self._folder.keep(self.id, self._file)

    def discard(self) -> None:
        """Forget the file."""
        if self._file is not None:
            self._folder.discard(self.id, self._file)
            self._folder.remove(self.id)


def _unrun(wire: BatchWire, batch: Batch, item: Item, status: Status) -> ItemResult:
    body = wire.unrun(batch, item, status)
    return ItemResult(position=item.position, is_error=True, body=body)
