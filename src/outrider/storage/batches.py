"""The queue of batches and their items: works for `Database.run`.

An item is done exactly once: its result, its state and the batch's counts change together, and
only if it wasn't done. What runs isn't written down, so after any end of the process every item
is either done or still to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from outrider.batch_types import UNFINISHED, Batch, Item, ItemResult, LineError, Status, Wire
from outrider.errors import InvalidRequest
from outrider.storage.files import Page, no_such
from outrider.storage.schema import batch_items as items
from outrider.storage.schema import batches

ROWS_AT_ONCE = 1000
_FIELDS = Batch.__struct_fields__
_COLUMNS = [batches.c["metadata_" if name == "metadata" else name] for name in _FIELDS]


def add_batch(connection: Connection, batch: Batch, max_batches: int) -> None:
    """Queue a batch; refuses more unfinished ones than so many."""
    waiting = select(func.count()).select_from(batches).where(batches.c.status.in_(UNFINISHED))
    count = connection.scalar(waiting) or 0
    if count >= max_batches:
        raise InvalidRequest(
            f"{count:,} batches haven't ended yet; wait for one, cancel one or start with a "
            "larger --max-batches"
        )
    connection.execute(insert(batches).values(**_values(batch)))


def find_batch(connection: Connection, batch_id: str, owner: str, wire: Wire) -> Batch:
    """Give a batch that its owner can see; raises `NotFound`."""
    query = select(*_COLUMNS).where(
        batches.c.id == batch_id, batches.c.owner == owner, batches.c.wire == wire
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise no_such("Batch", batch_id, "batch_id")
    return _batch(row)


def reload(connection: Connection, batch_id: str) -> Batch | None:
    """Give a batch as it is now, whoever owns it; None if it was deleted."""
    row = connection.execute(select(*_COLUMNS).where(batches.c.id == batch_id)).one_or_none()
    return None if row is None else _batch(row)


def list_batches(
    connection: Connection, owner: str, wire: Wire, page: Page
) -> tuple[list[Batch], bool]:
    """Give a page of an owner's batches, newest first, and whether more follow."""
    query = select(*_COLUMNS).where(batches.c.owner == owner, batches.c.wire == wire)
    if page.after is not None:
        known = select(batches.c.number).where(
            batches.c.id == page.after, batches.c.owner == owner, batches.c.wire == wire
        )
        start = connection.scalar(known)
        if start is None:
            raise no_such("Batch", page.after, "after")
        query = query.where(batches.c.number < start)
    query = query.order_by(batches.c.number.desc()).limit(page.limit + 1)
    found = [_batch(row) for row in connection.execute(query)]
    return found[: page.limit], len(found) > page.limit


def list_everybodys(
    connection: Connection, page: Page, statuses: Iterable[Status] = ()
) -> tuple[list[Batch], bool]:
    """Give a page of all owners' batches on every wire, newest first, and whether more follow."""
    query = select(*_COLUMNS)
    if page.after is not None:
        start = connection.scalar(select(batches.c.number).where(batches.c.id == page.after))
        if start is None:
            raise no_such("Batch", page.after, "after")
        query = query.where(batches.c.number < start)
    if wanted := tuple(statuses):
        query = query.where(batches.c.status.in_(wanted))
    query = query.order_by(batches.c.number.desc()).limit(page.limit + 1)
    found = [_batch(row) for row in connection.execute(query)]
    return found[: page.limit], len(found) > page.limit


def unfinished(connection: Connection) -> list[Batch]:
    """Give the batches that haven't ended, oldest first."""
    query = select(*_COLUMNS).where(batches.c.status.in_(UNFINISHED)).order_by(batches.c.number)
    return [_batch(row) for row in connection.execute(query)]


def accept(connection: Connection, batch_id: str, found: Iterable[Item], now_s: int) -> bool:
    """Let a batch that is being validated begin with these items; False if it was cancelled."""
    number = _number(batch_id)
    key = connection.scalar(select(batches.c.number).where(batches.c.id == batch_id))
    count, rows = 0, []
    for item in found:
        rows.append(
            {
                "batch": key,
                **msgspec.structs.asdict(item),
                "is_done": False,
                "is_error": False,
                "num_failures": 0,
            }
        )
        if len(rows) == ROWS_AT_ONCE:
            connection.execute(insert(items), rows)
            count, rows = count + len(rows), []
    if rows:
        connection.execute(insert(items), rows)
    connection.execute(update(batches).where(number).values(num_requests=count + len(rows)))
    return _move(connection, batch_id, ("validating",), "in_progress", now_s)


def reject(connection: Connection, batch_id: str, errors: Iterable[LineError], now_s: int) -> bool:
    """Let a batch that is being validated fail."""
    values = [msgspec.structs.asdict(error) for error in errors]
    connection.execute(update(batches).where(_number(batch_id)).values(errors=values))
    return _end(connection, batch_id, ("validating",), "failed", now_s)


def cancel(connection: Connection, batch_id: str, now_s: int) -> bool:
    """Begin to cancel a batch; False if it has ended or is ending already."""
    return _move(connection, batch_id, ("validating", "in_progress"), "cancelling", now_s)


def begin_finalizing(connection: Connection, batch_id: str, now_s: int) -> bool:
    """Note that all items of a batch are done."""
    return _move(connection, batch_id, ("in_progress",), "finalizing", now_s)


def next_items(connection: Connection, batch_id: str, after: int, limit: int) -> list[Item]:
    """Give the next items that aren't done, behind a position."""
    columns = [items.c[name] for name in Item.__struct_fields__]
    query = (
        select(*columns)
        .where(_of(batch_id), items.c.is_done.is_(False), items.c.position > after)
        .order_by(items.c.position)
        .limit(limit)
    )
    return [Item(**row._mapping) for row in connection.execute(query)]


def finish_item(connection: Connection, batch_id: str, result: ItemResult) -> bool:
    """Note the result of an item; False if it has one already, or its batch is gone."""
    done = connection.execute(
        update(items)
        .where(_of(batch_id), items.c.position == result.position, items.c.is_done.is_(False))
        .values(is_done=True, is_error=result.is_error, result=result.body)
    )
    if not done.rowcount:
        return False
    usage = result.usage
    connection.execute(
        update(batches)
        .where(_number(batch_id))
        .values(
            num_completed=batches.c.num_completed + (not result.is_error),
            num_failed=batches.c.num_failed + result.is_error,
            prompt_tokens=batches.c.prompt_tokens + usage.prompt_tokens,
            completion_tokens=batches.c.completion_tokens + usage.completion_tokens,
            cached_tokens=batches.c.cached_tokens + usage.cached_tokens,
        )
    )
    return True


def count_failure(connection: Connection, batch_id: str, position: int) -> int:
    """Count that the engine failed while it ran an item; give how often so far."""
    where = (_of(batch_id), items.c.position == position)
    connection.execute(update(items).where(*where).values(num_failures=items.c.num_failures + 1))
    return connection.scalar(select(items.c.num_failures).where(*where)) or 0


def results(connection: Connection, batch_id: str, after: int, limit: int) -> list[ItemResult]:
    """Give the results of the next items that are done, behind a position."""
    query = (
        select(items.c.position, items.c.is_error, items.c.result)
        .where(_of(batch_id), items.c.is_done, items.c.position > after)
        .order_by(items.c.position)
        .limit(limit)
    )
    return [
        ItemResult(position=position, is_error=is_error, body=body)
        for position, is_error, body in connection.execute(query)
    ]


def end_batch(
    connection: Connection, batch_id: str, status: Status, now_s: int, file_ids: dict[str, str]
) -> bool:
    """Let a batch end with files that hold its results, whose rows are no longer needed."""
    if not _end(connection, batch_id, UNFINISHED, status, now_s):
        return False
    connection.execute(update(batches).where(_number(batch_id)).values(**file_ids))
    connection.execute(delete(items).where(_of(batch_id)))
    return True


def end_queued(connection: Connection, batch_id: str, status: Status, now_s: int) -> bool:
    """Let a batch without files end; its results stay where they are."""
    return _end(connection, batch_id, UNFINISHED, status, now_s)


def delete_old(connection: Connection, now_s: int) -> list[str]:
    """Delete batches whose results' time is over; give the queued input files to remove."""
    old = batches.c.delete_s <= now_s
    inputs = select(batches.c.input_file_id).where(old, batches.c.wire != "openai")
    file_ids = list(connection.scalars(inputs))
    connection.execute(delete(batches).where(old))
    return file_ids


def next_deadline(connection: Connection) -> int | None:
    """Give when the first batch's deadline or deletion is due."""
    deadline = select(func.min(batches.c.deadline_s)).where(batches.c.status.in_(UNFINISHED))
    times = [connection.scalar(deadline), connection.scalar(select(func.min(batches.c.delete_s)))]
    return min((time for time in times if time is not None), default=None)


def _move(
    connection: Connection, batch_id: str, allowed: Iterable[Status], status: Status, now_s: int
) -> bool:
    moved = connection.execute(
        update(batches)
        .where(_number(batch_id), batches.c.status.in_(tuple(allowed)))
        .values(**{"status": status, f"{status}_s": now_s})
    )
    return bool(moved.rowcount)


def _end(
    connection: Connection, batch_id: str, allowed: Iterable[Status], status: Status, now_s: int
) -> bool:
    if not _move(connection, batch_id, allowed, status, now_s):
        return False
    keep = {"delete_s": now_s + batches.c.keep_results_s}
    connection.execute(update(batches).where(_number(batch_id)).values(**keep))
    return True


def _number(batch_id: str) -> ColumnElement[bool]:
    return batches.c.id == batch_id


def _of(batch_id: str) -> ColumnElement[bool]:
    return items.c.batch == select(batches.c.number).where(_number(batch_id)).scalar_subquery()


def _values(batch: Batch) -> dict[str, Any]:
    values = msgspec.structs.asdict(batch)
    values["metadata_"] = values.pop("metadata")
    values["errors"] = [msgspec.structs.asdict(error) for error in batch.errors]
    return values


def _batch(row: Row[Any]) -> Batch:
    values = dict(zip(_FIELDS, row, strict=True))
    values["errors"] = tuple(LineError(**error) for error in values["errors"])
    return Batch(**values)
