"""Records to put into the database, and a way to use one without a loop of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from outrider.batch_types import Batch, Item, ItemResult, StoredFile
from outrider.storage.database import Database
from outrider.types import Usage

T = TypeVar("T")


def make_file(file_id: str = "file-1", **fields: Any) -> StoredFile:
    values = {
        "id": file_id,
        "owner": "me",
        "purpose": "batch",
        "filename": "in.jsonl",
        "num_bytes": 3,
        "created_s": 100,
    }
    return StoredFile(**(values | fields))


def make_batch(batch_id: str = "batch_1", **fields: Any) -> Batch:
    values = {
        "id": batch_id,
        "owner": "me",
        "wire": "openai",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "status": "validating",
        "created_s": 100,
        "deadline_s": 1000,
        "keep_results_s": 50,
    }
    return Batch(**(values | fields))


def make_items(count: int) -> list[Item]:
    return [Item(position=i, custom_id=f"item {i}", offset=10 * i, length=10) for i in range(count)]


def result_of(position: int, is_error: bool = False) -> ItemResult:
    body = b"%d" % position
    return ItemResult(position=position, is_error=is_error, body=body, usage=Usage(3, 2, 1))


def run(path: Path, *works: Callable[[Connection], T]) -> list[T]:
    """Open the database, do one work after the other and close it."""

    async def all_of_them() -> list[T]:
        database = Database(path)
        await database.open()
        try:
            return [await database.run(work) for work in works]
        finally:
            await database.close()

    return asyncio.run(all_of_them())
