"""What the tests of metering share: accounts over a real journal and a real database."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from outrider.metering.journal import Journal
from outrider.metering.meter import Meter
from outrider.metering.records import Opened
from outrider.metering.writer import LedgerWriter
from outrider.routing_types import Price, Trace
from outrider.storage.database import Database
from outrider.storage.schema import generations, series
from outrider.types import Event
from storage.records import run

T = TypeVar("T")
PRICE = Price(prompt=2_000_000, completion=6_000_000, cached=1_000_000)  # 2, 6, 1 per token


def opened(row_id: str = "gen-1", **fields: Any) -> Opened:
    values = {"request_id": f"r-{row_id}", "created_ms": 1_790_000_000_000, "wire": "openai-chat"}
    return Opened(id=row_id, **{**values, "model": "m", "is_streamed": True, **fields})


def routed(price: Price = PRICE, **fields: Any) -> Trace:
    trace = Trace()
    trace.provider, trace.model, trace.price = "p", "m", price
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


async def played(events: Iterable[Event | Exception]) -> AsyncGenerator[Event, None]:
    for event in events:
        if isinstance(event, Exception):
            raise event
        yield event


def rows_of(connection: Connection) -> list[Any]:
    """Give the ledger, oldest row first, with the names of its series."""
    names = [series.c[name] for name in ("model", "provider", "key", "wire", "api_type")]
    query = select(generations, *names).join(series, generations.c.series == series.c.number)
    return list(connection.execute(query.order_by(generations.c.number)).all())


def with_books(folder: Path, work: Callable[[Books], Awaitable[T]]) -> T:
    """Run with a ledger in a folder, closed in order afterwards."""

    async def main() -> T:
        async with Books(folder) as books:
            return await work(books)

    empty_database(folder)  # made in a loop of its own
    return asyncio.run(main())


@cache
def _template() -> Path:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "empty.db"
    run(path)
    return path


def empty_database(folder: Path) -> Path:
    """Make a database without rows, if there is none yet, quicker than by migrations."""
    path = folder / "outrider.db"
    if not path.exists():
        shutil.copy(_template(), path)
    return path


class Books:
    """A meter, its journal and its database."""

    def __init__(self, folder: Path) -> None:
        self.meter = Meter()
        self.journal = Journal(folder / "journal")
        self.database = Database(empty_database(folder))
        self.writer = LedgerWriter(self.journal, self.database)
        self.num_left = 0

    async def __aenter__(self) -> Books:
        await self.database.open()
        self.num_left = await self.writer.start()
        self.meter.start(self.writer)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.meter.stop()
        await self.writer.close()
        await self.database.close()

    async def rows(self) -> list[Any]:
        await self.writer.flush()
        return await self.database.run(rows_of)
