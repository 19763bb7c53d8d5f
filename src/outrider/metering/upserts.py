"""Rows that are added or added to, the same way in SQLite and PostgreSQL.

Several servers may write at once: names get their numbers by whoever is first, and sums are added
in the order of their keys, so that no two transactions wait for each other.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

Values = dict[str, Any]

# SQLite's driver gives up the interpreter's lock once per statement, so a statement has many rows.
ROWS_PER_STATEMENT = 32


def number_of(connection: Connection, table: Table, names: Values, more: Values) -> int:
    """Give the number of names; another server may be writing the same ones."""
    kind = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(kind.insert(table).values(**names, **more).on_conflict_do_nothing())
    found = select(table.c.number).where(*(table.c[name] == v for name, v in names.items()))
    number: int = connection.execute(found).scalar_one()
    return number


def add_to(connection: Connection, table: Table, sums: dict[Any, list[int]]) -> None:
    """Add to the sums of a table, by its primary key."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    rows = [(*key, *amounts) for key, amounts in sorted(sums.items())]
    for first in range(0, len(rows), ROWS_PER_STATEMENT):
        some = rows[first : first + ROWS_PER_STATEMENT]
        statement = _addition(table, len(some), mark)
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(some)))


@lru_cache(256)
def _addition(table: Table, num_rows: int, mark: str) -> str:
    """Give a statement; to have SQLAlchemy build it takes longer than to run it."""
    keys = [column.name for column in table.primary_key.columns]
    amounts = [column.name for column in table.columns if not column.primary_key]
    names = [*keys, *amounts]
    row = f"({', '.join([mark] * len(names))})"
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * num_rows)} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
        + ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in amounts)
    )
