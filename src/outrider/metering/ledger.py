"""The ledger: rows that are added once and never changed, and their sums, in one transaction.

A row whose id is there already is left out, so what a journal has may be added again. Names and
prices are written once and referred to by number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, func, select

from outrider.ledger_types import DAY_S, HOUR_S
from outrider.metering.facets import FacetNumbers, add_facets
from outrider.metering.records import Row
from outrider.metering.upserts import add_to, number_of
from outrider.routing_types import Price
from outrider.storage.schema import (
    app_categories,
    app_days,
    apps,
    days,
    generations,
    hours,
    model_days,
    prices,
    series,
)

MAX_APPS = 10_000  # later ones are counted as none: anybody can send any referer
MAX_CATEGORIES = 10  # of an app, as on OpenRouter: the first that it named
CONTEXT_TOKENS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
# Of one statement for SQLite, whose driver gives up the interpreter's lock once per statement.
ROWS_PER_STATEMENT = 64
COLUMNS = tuple(column.name for column in generations.columns if column.name != "number")

T = TypeVar("T")


class SeriesKey(NamedTuple):
    """What requests have in common that are added up together."""

    model: str
    provider: str
    key: str
    app: int
    wire: str
    api_type: str


@dataclass
class Numbers:
    """Numbers of names and prices that are in the database; void after a transaction failed."""

    apps: dict[str, tuple[int, str]] = field(default_factory=dict)  # number and title
    categories: dict[int, set[str]] = field(default_factory=dict)  # of those that named some
    series: dict[SeriesKey, int] = field(default_factory=dict)
    prices: dict[tuple[str, str], tuple[int, Price]] = field(default_factory=dict)
    facets: FacetNumbers = field(default_factory=dict)


def add_rows(connection: Connection, rows: Iterable[Row], numbers: Numbers) -> int:
    """Add rows and their sums; give how many weren't there already."""
    wanted = {row.opened.id: row for row in rows}
    for row_id in _known_ids(connection, list(wanted)):
        del wanted[row_id]
    added = list(wanted.values())
    if not added:
        return 0
    apps_of = _find_apps(connection, added, numbers)
    app_numbers = [apps_of[row.opened.app_url] for row in added]
    keys = [_series_key(row, app) for row, app in zip(added, app_numbers, strict=True)]
    known_series = {key: _series_number(connection, key, numbers) for key in sorted(set(keys))}
    series_numbers = [known_series[key] for key in keys]
    values = [
        _generation(row, number, _price_number(connection, row, numbers))
        for row, number in zip(added, series_numbers, strict=True)
    ]
    _insert_rows(connection, values)
    _add_sums(connection, added, series_numbers)
    _add_rankings(connection, added, app_numbers)
    add_facets(connection, added, [app > 0 for app in app_numbers], numbers.facets)
    return len(added)


def _known_ids(connection: Connection, ids: list[str]) -> Iterable[str]:
    if connection.dialect.name == "sqlite":  # one parameter, however many there are
        found = "SELECT id FROM generations WHERE id IN (SELECT value FROM json_each(?))"
        result = connection.exec_driver_sql(found, (msgspec.json.encode(ids).decode(),))
        return [row_id for (row_id,) in result]
    return connection.scalars(select(generations.c.id).where(generations.c.id.in_(ids))).all()


def _generation(row: Row, series_number: int, price_number: int | None) -> tuple[Any, ...]:
    """Give the values of `COLUMNS`."""
    opened, counts, closed = row.opened, row.counts, row.closed
    return (
        opened.id,
        series_number,
        price_number,
        opened.created_ms,
        opened.request_id,
        closed.upstream_id,
        opened.session,
        opened.user_agent,
        closed.attempts,
        counts.prompt_tokens,
        counts.completion_tokens,
        counts.cached_tokens,
        opened.num_images,
        counts.cost_microusd,
        closed.status,
        closed.error_code,
        closed.finish_reason,
        closed.native_reason,
        closed.first_token_ms,
        closed.duration_ms,
        opened.is_streamed,
        closed.is_cancelled,
        closed.is_estimated,
    )


def _insert_rows(connection: Connection, values: Sequence[tuple[Any, ...]]) -> None:
    at = COLUMNS.index("attempts")
    if connection.dialect.name != "sqlite":
        plain = [(*row[:at], msgspec.to_builtins(row[at]), *row[at + 1 :]) for row in values]
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in plain]
        connection.execute(generations.insert(), rows)
        return
    encode = msgspec.json.encode
    texts = [(*row[:at], encode(row[at]).decode(), *row[at + 1 :]) for row in values]
    for begin in range(0, len(texts), ROWS_PER_STATEMENT):
        part = texts[begin : begin + ROWS_PER_STATEMENT]
        connection.exec_driver_sql(_insert_many(len(part)), tuple(chain.from_iterable(part)))


@lru_cache(maxsize=ROWS_PER_STATEMENT)
def _insert_many(num_rows: int) -> str:
    """Give SQLite's statement that inserts so many rows."""
    row = f"({', '.join('?' * len(COLUMNS))})"
    return f"INSERT INTO generations ({', '.join(COLUMNS)}) VALUES {', '.join([row] * num_rows)}"


def _find_apps(connection: Connection, rows: Sequence[Row], numbers: Numbers) -> dict[str, int]:
    """Give the numbers of apps by their URLs; titles and categories become what rows say."""
    by_url = {row.opened.app_url: row for row in rows}  # the last one has the title
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.opened.app_categories:
            named.setdefault(row.opened.app_url, []).extend(row.opened.app_categories)
    found: dict[str, int] = {}
    # In the same order on every server, else two of them could wait for each other in a circle.
    for url in sorted(by_url):
        found[url] = number = _app_number(connection, by_url[url], numbers)
        if number and url in named:
            _add_categories(connection, number, named[url], numbers.categories)
    return found


def _add_categories(
    connection: Connection, app: int, named: Sequence[str], known: dict[int, set[str]]
) -> None:
    """Add what an app says it is, as far as there is room; mostly that is known already."""
    before = known.get(app, set())
    if len(before) >= MAX_CATEGORIES or before.issuperset(named):
        return
    # Locked, so that servers don't add to the same app at once; not against the sums, which
    # refer to it. SQLite has one writer anyway.
    lock = select(apps.c.number).where(apps.c.number == app).with_for_update(key_share=True)
    connection.execute(lock)
    of_app = select(app_categories.c.category).where(app_categories.c.app == app)
    found = set(connection.scalars(of_app))
    new = [name for name in dict.fromkeys(named) if name not in found]
    new = new[: MAX_CATEGORIES - len(found)]
    if new:
        values = [{"app": app, "category": name} for name in new]
        connection.execute(app_categories.insert(), values)
    known[app] = found.union(new)


def _app_number(connection: Connection, row: Row, numbers: Numbers) -> int:
    url, title = row.opened.app_url, row.opened.app_title
    if not url:
        return 0
    if url not in numbers.apps:
        found = connection.execute(
            select(apps.c.number, apps.c.title).where(apps.c.url == url)
        ).first()
        if found is None:
            count = connection.scalar(select(func.count()).select_from(apps)) or 0
            if count >= MAX_APPS:
                return 0
            number = number_of(connection, apps, {"url": url}, {"title": title})
            numbers.apps[url] = number, title
        else:
            numbers.apps[url] = found.number, found.title
    number, known_title = numbers.apps[url]
    if title != known_title:
        connection.execute(apps.update().where(apps.c.number == number).values(title=title))
        numbers.apps[url] = number, title
    return number


def _series_key(row: Row, app: int) -> SeriesKey:
    opened = row.opened
    return SeriesKey(row.model, row.closed.provider, opened.key, app, opened.wire, opened.api_type)


def _series_number(connection: Connection, key: SeriesKey, numbers: Numbers) -> int:
    number = numbers.series.get(key)
    if number is None:
        number = numbers.series[key] = number_of(connection, series, key._asdict(), {})
    return number


def _price_number(connection: Connection, row: Row, numbers: Numbers) -> int | None:
    """Give the version of a row's price; one that differs from the last is a new version."""
    price, provider = row.closed.price, row.closed.provider
    if price is None:
        return None
    known = numbers.prices.get((row.model, provider))
    if known is not None and known[1] == price:
        return known[0]
    amounts = msgspec.structs.asdict(price)
    if price.cached is None:
        amounts["cached"] = price.prompt
    last = connection.execute(
        select(prices)
        .where(prices.c.model == row.model, prices.c.provider == provider)
        .order_by(prices.c.number.desc())
        .limit(1)
    ).first()
    if last is not None and all(getattr(last, name) == n for name, n in amounts.items()):
        number: int = last.number
    else:
        names = {"model": row.model, "provider": provider, "since_ms": row.opened.created_ms}
        inserted = connection.execute(prices.insert().values(**names, **amounts))
        assert inserted.inserted_primary_key is not None
        number = inserted.inserted_primary_key[0]
    numbers.prices[row.model, provider] = number, price
    return number


def _add_sums(connection: Connection, rows: Sequence[Row], series_numbers: Sequence[int]) -> None:
    by_hour: dict[tuple[int, int], list[int]] = {}
    for row, number in zip(rows, series_numbers, strict=True):
        counts = row.counts
        amounts = (
            1,
            int(row.is_failed),
            counts.prompt_tokens,
            counts.completion_tokens,
            counts.cached_tokens,
            counts.cost_microusd,
        )
        _add(by_hour, (_begin_s(row, HOUR_S), number), amounts)
    by_day: dict[tuple[int, int], list[int]] = {}
    for (begin_s, number), sums in by_hour.items():
        _add(by_day, (begin_s // DAY_S * DAY_S, number), sums)
    add_to(connection, hours, by_hour)
    add_to(connection, days, by_day)


def _add_rankings(connection: Connection, rows: Sequence[Row], app_numbers: Sequence[int]) -> None:
    by_model: dict[tuple[int, str, int, bool, bool], list[int]] = {}
    by_app: dict[tuple[int, int], list[int]] = {}
    for row, app in zip(rows, app_numbers, strict=True):
        day_s = _begin_s(row, DAY_S)
        tokens = row.counts.prompt_tokens + row.counts.completion_tokens
        has_images, has_calls = row.opened.num_images > 0, row.closed.has_tool_calls
        key = (day_s, row.model, _context_bucket(tokens), has_images, has_calls)
        _add(by_model, key, (1, tokens))
        if app:
            _add(by_app, (day_s, app), (1, tokens))
    add_to(connection, model_days, by_model)
    add_to(connection, app_days, by_app)


def _add(sums: dict[T, list[int]], key: T, amounts: Sequence[int]) -> None:
    total = sums.get(key)
    if total is None:
        sums[key] = list(amounts)
        return
    for index, amount in enumerate(amounts):
        total[index] += amount


def _begin_s(row: Row, period_s: int) -> int:
    return row.opened.created_ms // 1000 // period_s * period_s


def _context_bucket(tokens: int) -> int:
    return CONTEXT_TOKENS[min(bisect_left(CONTEXT_TOKENS, tokens), len(CONTEXT_TOKENS) - 1)]
