"""Sums, errors and times of what people ask for: everything, a model, a provider, a key, an app.

The tables are filled from what is there, errors and times from 200,000 rows at once. What is a
bucket and whose fault an error is stands here once more, as it was then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ROWS_AT_ONCE = 200_000
HOUR_S, DAY_S = 3600, 86_400
NUM_BUCKETS, FIRST_TOKEN, DURATION = 64, 0, 1
KINDS = ("all", "model", "provider", "key", "app")
_SUMS = (
    "requests", "failures", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_microusd",
)  # fmt: skip
_BUCKETS = tuple(f"b{number}" for number in range(NUM_BUCKETS))
_KEYS = {
    "facet_hours": ("facet", "begin_s"),
    "facet_days": ("facet", "begin_s"),
    "facet_errors": ("facet", "begin_s", "origin", "status"),
    "facet_times": ("facet", "what", "begin_s"),
}
_AMOUNTS = {
    "facet_hours": _SUMS,
    "facet_days": _SUMS,
    "facet_errors": ("requests",),
    "facet_times": _BUCKETS,
}
_OF_CLIENTS = frozenset((
    "invalid_request", "unsupported_parameter", "context_length_exceeded", "model_not_found",
    "not_found", "payload_too_large", "request_timeout", "invalid_api_key", "insufficient_quota",
    "permission_denied", "rate_limit_exceeded", "no_endpoints",
))  # fmt: skip
_OF_PROVIDERS = frozenset((
    "provider_unavailable", "provider_timeout", "provider_rate_limited", "providers_unavailable",
    "provider_credentials",
))  # fmt: skip
_OF_ENGINES = frozenset(("engine_overloaded", "engine_failed"))


def upgrade() -> None:
    """Make the tables and fill them."""
    _create_tables()
    back_fill(op.get_bind())


def downgrade() -> None:
    """Drop the tables."""
    for name in (*_KEYS, "facets"):
        op.drop_table(name)


def _create_tables() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "facets",
        sa.Column("number", number, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.UniqueConstraint("kind", "name", name="facet_names"),
    )
    kinds = {"origin": sa.String, "status": sa.Integer, "what": sa.Integer}
    for name, keys in _KEYS.items():
        op.create_table(
            name,
            sa.Column("facet", sa.BigInteger, sa.ForeignKey("facets.number"), primary_key=True),
            *(
                sa.Column(key, kinds.get(key, sa.BigInteger), primary_key=True, autoincrement=False)
                for key in keys[1:]
            ),
            *(sa.Column(amount, sa.BigInteger, nullable=False) for amount in _AMOUNTS[name]),
            sqlite_with_rowid=False,
        )


def back_fill(connection: sa.Connection) -> None:
    """Fill the tables from the ledger's rows, and from the sums that it has of them."""
    facets = _make_facets(connection)
    _fill_sums(connection, facets)
    for rows in _pages(connection):
        page = _Page()
        for row in rows:
            page.count(*row)
        page.write(connection, facets)


def _make_facets(connection: sa.Connection) -> dict[int, tuple[int, ...]]:
    """Make the facets; give those of each series, of all requests first."""
    found = connection.exec_driver_sql(
        "SELECT series.number, '', model, provider, key, coalesce(url, '') FROM series "
        "LEFT JOIN apps ON apps.number = series.app"
    ).all()
    names = {facet for row in found for facet in zip(KINDS, row[1:], strict=True)}
    table = sa.table("facets", sa.column("number"), sa.column("kind"), sa.column("name"))
    if names:
        values = [{"kind": kind, "name": name} for kind, name in sorted(names)]
        connection.execute(sa.insert(table), values)
    rows = connection.execute(sa.select(table.c.kind, table.c.name, table.c.number))
    numbers = {(kind, name): number for kind, name, number in rows}
    return {
        row[0]: tuple(numbers[facet] for facet in zip(KINDS, row[1:], strict=True)) for row in found
    }


def _fill_sums(connection: sa.Connection, facets: dict[int, tuple[int, ...]]) -> None:
    pairs = [(series, facet) for series, its in sorted(facets.items()) for facet in its]
    connection.exec_driver_sql("CREATE TEMPORARY TABLE of_series (series BIGINT, facet BIGINT)")
    if pairs:
        mark = _mark(connection)
        connection.exec_driver_sql(f"INSERT INTO of_series VALUES ({mark}, {mark})", pairs)
    connection.exec_driver_sql("CREATE INDEX of_series_all ON of_series (series, facet)")
    sums = ", ".join(f"sum({name})" for name in _SUMS)
    for name, source in (("facet_hours", "hours"), ("facet_days", "days")):
        connection.exec_driver_sql(
            f"INSERT INTO {name} SELECT facet, begin_s, {sums} FROM {source} "
            f"JOIN of_series ON of_series.series = {source}.series GROUP BY facet, begin_s"
        )
    connection.exec_driver_sql("DROP TABLE of_series")


def _pages(connection: sa.Connection) -> Iterator[list[Any]]:
    mark = _mark(connection)
    query = (
        "SELECT number, series, created_ms, status, error_code, is_cancelled, first_token_ms, "
        f"duration_ms FROM generations WHERE number > {mark} ORDER BY number LIMIT {ROWS_AT_ONCE}"
    )
    after = -1
    while rows := connection.exec_driver_sql(query, (after,)).all():
        yield list(rows)
        after = rows[-1][0]


class _Page:
    """Errors and times of some rows: of all by the hour, of others times are by the day."""

    def __init__(self) -> None:
        self._errors: Counter[tuple[int, int, str, int]] = Counter()  # series, hour, whose, status
        self._hours: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)  # what, hour
        # Of what, of a series on a day.
        self._days: defaultdict[tuple[int, int, int], Counter[int]] = defaultdict(Counter)

    def count(
        self, number: int, series: int, created_ms: int, status: int, code: str, *times: int | None
    ) -> None:
        """Add a row of the ledger."""
        is_cancelled, first_token_ms, duration_ms = times  # the last is never null
        hour_s = created_ms // 1000 // HOUR_S * HOUR_S
        if is_cancelled or status >= 400 or code:
            origin = "client" if is_cancelled else _origin(code)
            self._errors[series, hour_s, origin, status] += 1
            return
        day_s = hour_s // DAY_S * DAY_S
        bucket = bisect_right(_EDGES_MS, max(duration_ms or 0, 0)) - 1
        self._hours[DURATION, hour_s][bucket] += 1
        self._days[DURATION, series, day_s][bucket] += 1
        if first_token_ms is not None:
            bucket = bisect_right(_EDGES_MS, max(first_token_ms, 0)) - 1
            self._hours[FIRST_TOKEN, hour_s][bucket] += 1
            self._days[FIRST_TOKEN, series, day_s][bucket] += 1

    def write(self, connection: sa.Connection, facets: dict[int, tuple[int, ...]]) -> None:
        """Add what was counted to the tables."""
        errors: Counter[tuple[int, int, str, int]] = Counter()
        for (series, hour_s, origin, status), count in self._errors.items():
            for facet in facets[series]:
                errors[facet, hour_s, origin, status] += count
        times: dict[tuple[int, int, int], list[int]] = {}
        for (what, series, day_s), histogram in self._days.items():
            for facet in facets[series][1:]:
                _merge(times, (facet, what, day_s), histogram)
        whole = next((its[0] for its in facets.values()), 0)
        for (what, hour_s), histogram in self._hours.items():
            _merge(times, (whole, what, hour_s), histogram)
        mark = _mark(connection)
        for name, rows in (
            ("facet_errors", [(*key, count) for key, count in sorted(errors.items())]),
            ("facet_times", [(*key, *counts) for key, counts in sorted(times.items())]),
        ):
            if rows:
                connection.exec_driver_sql(_addition(name, mark), rows)


def _merge(
    times: dict[tuple[int, int, int], list[int]], key: tuple[int, int, int], counts: Counter[int]
) -> None:
    buckets = times.get(key)
    if buckets is None:
        buckets = times[key] = [0] * NUM_BUCKETS
    for bucket, count in counts.items():
        buckets[bucket] += count


def _mark(connection: sa.Connection) -> str:
    return "?" if connection.dialect.name == "sqlite" else "%s"


def _addition(name: str, mark: str) -> str:
    columns = (*_KEYS[name], *_AMOUNTS[name])
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))}) "
        f"ON CONFLICT ({', '.join(_KEYS[name])}) DO UPDATE SET "
        + ", ".join(f"{column} = {name}.{column} + excluded.{column}" for column in _AMOUNTS[name])
    )


def _origin(code: str) -> str:
    if code in _OF_CLIENTS:
        return "client"
    if code in _OF_PROVIDERS:
        return "provider"
    return "engine" if code in _OF_ENGINES else "gateway"


def _edges() -> tuple[int, ...]:
    edges = [0]
    while len(edges) < NUM_BUCKETS:
        edges.append(max(edges[-1] + 1, edges[-1] * 5 // 4))
    return tuple(edges)


_EDGES_MS = _edges()
