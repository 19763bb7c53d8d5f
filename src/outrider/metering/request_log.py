"""The ledger's last requests, newest first, page by page.

A page looks through a bounded number of rows, so that a rare request doesn't keep the database's
thread from writing; who wants more asks again from where the last one ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from outrider.ledger_types import DAY_S, LogEntry, LogFilter
from outrider.routing_types import Attempt
from outrider.storage.schema import apps, generations, series

ROWS_PER_PAGE = 100_000  # looked through, about a tenth of a second


@dataclass(frozen=True)
class LogPage:
    """A page of requests; `next_before` is where the next one begins, None at the end."""

    entries: list[LogEntry]
    next_before: int | None


def last_requests(
    connection: Connection, wanted: LogFilter, before: int | None, limit: int
) -> LogPage:
    """Give requests written before the one with a number, at most `limit` of them."""
    if before is None:
        before = 1 + (connection.scalar(select(func.max(generations.c.number))) or 0)
    first = max(1, before - ROWS_PER_PAGE)
    names = [series.c[name] for name in ("model", "provider", "key", "wire", "api_type")]
    query = (
        select(generations, *names, apps.c.url, apps.c.title)
        .join(series, generations.c.series == series.c.number)
        .outerjoin(apps, series.c.app == apps.c.number)
        .where(generations.c.number.between(first, before - 1), *_conditions(wanted))
        .order_by(generations.c.number.desc())
        .limit(limit + 1)
    )
    found = [_entry(row._mapping) for row in connection.execute(query)]
    if len(found) > limit:
        return LogPage(found[:limit], found[limit - 1].number)
    is_over = first == 1 or _is_before(connection, first, wanted.since_ms)
    return LogPage(found, None if is_over else first)


def _is_before(connection: Connection, number: int, since_ms: int | None) -> bool:
    """Say whether all rows before one are older than what is wanted.

    Rows are written when requests end, and none runs for as long as a day.
    """
    if since_ms is None:
        return False
    known = select(generations.c.created_ms).where(generations.c.number == number)
    created_ms = connection.scalar(known)
    return created_ms is not None and created_ms < since_ms - 1000 * DAY_S


def _conditions(wanted: LogFilter) -> list[ColumnElement[bool]]:
    conditions = []
    for name in ("key", "model", "provider"):
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(series.c[name] == value)
    if wanted.since_ms is not None:
        conditions.append(generations.c.created_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        conditions.append(generations.c.created_ms < wanted.until_ms)
    if wanted.lowest_status is not None:
        conditions.append(generations.c.status >= wanted.lowest_status)
    if wanted.highest_status is not None:
        conditions.append(generations.c.status <= wanted.highest_status)
    return conditions


def _entry(row: RowMapping) -> LogEntry:
    fields = {name: row[name] for name in LogEntry.__struct_fields__ if name in row}
    fields |= {
        "app_url": row["url"] or "",
        "app_title": row["title"] or "",
        "attempts": msgspec.convert(row["attempts"], tuple[Attempt, ...]),
    }
    return LogEntry(**fields)
