"""What is read out of the ledger: single requests by their id, everything else from its sums."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from outrider.ledger_types import DAY_S, Activity, AppTokens, Generation, ModelTokens
from outrider.metering.pricing import MILLION
from outrider.routing_types import Attempt
from outrider.storage.opening import Storage
from outrider.storage.schema import (
    app_categories,
    app_days,
    apps,
    days,
    generations,
    model_days,
    prices,
    series,
)


@dataclass(frozen=True)
class Days:
    """Whole days from one to another, both included; given by when they begin."""

    first_s: int
    last_s: int

    @property
    def count(self) -> int:
        """How many there are."""
        return (self.last_s - self.first_s) // DAY_S + 1

    def before(self, times: int) -> Days:
        """Give so many times as many days, just before these."""
        return Days(self.first_s - times * self.count * DAY_S, self.first_s - DAY_S)

    def hold(self, begin: ColumnElement[int]) -> ColumnElement[bool]:
        """Give the condition that a day is one of these."""
        return begin.between(self.first_s, self.last_s)


def find_generation(connection: Connection, generation_id: str) -> Generation | None:
    """Give one request; None if there is none of this id."""
    names = [series.c[name] for name in ("model", "provider", "key", "app", "wire", "api_type")]
    query = (
        select(generations, *names, apps.c.url, prices.c.prompt, prices.c.cached)
        .join(series, generations.c.series == series.c.number)
        .outerjoin(apps, series.c.app == apps.c.number)
        .outerjoin(prices, generations.c.price == prices.c.number)
        .where(generations.c.id == generation_id)
    )
    row = connection.execute(query).first()
    return None if row is None else _generation(row._mapping)


def _generation(row: RowMapping) -> Generation:
    fields = {name: row[name] for name in Generation.__struct_fields__ if name in row}
    saved = (row["prompt"] or 0) - (row["cached"] or 0)
    fields |= {
        "app": row["app"] or None,
        "app_url": row["url"] or "",
        "attempts": msgspec.convert(row["attempts"], tuple[Attempt, ...]),
        "cache_discount_microusd": row["cached_tokens"] * saved // MILLION,
    }
    return Generation(**fields)


def activity(connection: Connection, when: Days, key: str | None) -> list[Activity]:
    """Give what endpoints did, day by day and newest first, for one key or all."""
    wanted = series.c.provider != ""
    if key is not None:
        wanted &= series.c.key == key
    first = func.min(series.c.number)
    names = {
        number: (model, provider)
        for number, model, provider in connection.execute(
            select(first, series.c.model, series.c.provider)
            .where(wanted)
            .group_by(series.c.model, series.c.provider)
        )
    }
    # An endpoint is the first series of its names: numbers are added up faster than texts.
    endpoint = first.over(partition_by=[series.c.model, series.c.provider]).label("endpoint")
    numbers = select(series.c.number, endpoint).where(wanted).cte("numbers")
    sums = [
        func.sum(days.c[name]).label(name)
        for name in ("requests", "prompt_tokens", "completion_tokens", "cost_microusd")
    ]
    found = connection.execute(
        select(days.c.begin_s.label("day_s"), numbers.c.endpoint, *sums)
        .join(numbers, days.c.series == numbers.c.number)
        .where(when.hold(days.c.begin_s))
        .group_by(days.c.begin_s, numbers.c.endpoint)
    )
    rows = [
        Activity(
            day_s=day_s,
            model=names[number][0],
            provider=names[number][1],
            requests=int(requests),
            prompt_tokens=int(prompt_tokens),
            completion_tokens=int(completion_tokens),
            cost_microusd=int(cost),
        )
        for day_s, number, requests, prompt_tokens, completion_tokens, cost in found
    ]
    return sorted(rows, key=lambda row: (-row.day_s, row.model, row.provider))


def popular_apps(
    connection: Connection, when: Days, categories: Collection[str] | None = None
) -> list[AppTokens]:
    """Give the apps by the tokens they used, most first: of some categories, or all."""
    # Titles are looked up for the sums, not for each day: texts are slow to group by.
    amounts = [func.sum(app_days.c[name]).label(name) for name in ("requests", "tokens")]
    summed = select(app_days.c.app, *amounts).where(when.hold(app_days.c.begin_s))
    if categories is not None:
        named = select(app_categories.c.app).where(app_categories.c.category.in_(categories))
        summed = summed.where(app_days.c.app.in_(named))
    sums = summed.group_by(app_days.c.app).subquery()
    query = (
        select(sums.c.app, apps.c.title, sums.c.requests, sums.c.tokens)
        .join(apps, sums.c.app == apps.c.number)
        .order_by(sums.c.tokens.desc(), sums.c.app)
    )
    return [AppTokens(**_whole(row._mapping)) for row in connection.execute(query)]


def trending_apps(
    connection: Connection, when: Days, categories: Collection[str] | None = None
) -> list[AppTokens]:
    """Give the apps that grow, by how much they used beyond the mean of three times before."""
    before = popular_apps(connection, when.before(3), categories)
    earlier = {used.app: used.tokens for used in before}
    now = popular_apps(connection, when, categories)
    growth = {used.app: 3 * used.tokens - earlier.get(used.app, 0) for used in now}
    growing = [used for used in now if growth[used.app] > 0]
    return sorted(growing, key=lambda used: (-growth[used.app], used.app))


@dataclass(frozen=True)
class Slice:
    """Which requests are ranked; None: all."""

    context_tokens: int | None = None  # of this class of sizes
    has_images: bool | None = None
    has_tool_calls: bool | None = None


def model_tokens(
    connection: Connection, when: Days, part: Slice, period_of: Callable[[int], int]
) -> list[ModelTokens]:
    """Give the tokens of models in each period, oldest first and then most first.

    `period_of` gives the begin of the period that a day lies in.
    """
    query = (
        select(model_days.c.begin_s, model_days.c.model, func.sum(model_days.c.tokens))
        .where(when.hold(model_days.c.begin_s))
        .group_by(model_days.c.begin_s, model_days.c.model)
    )
    for name in ("context_tokens", "has_images", "has_tool_calls"):
        wanted = getattr(part, name)
        if wanted is not None:
            query = query.where(model_days.c[name] == wanted)
    sums: dict[tuple[int, str], int] = {}
    for begin_s, model, tokens in connection.execute(query):
        key = period_of(begin_s), model
        sums[key] = sums.get(key, 0) + int(tokens)
    rows = [ModelTokens(begin_s=at, model=name, tokens=n) for (at, name), n in sums.items()]
    return sorted(rows, key=lambda row: (row.begin_s, -row.tokens, row.model))


class LedgerSpending:
    """What keys have spent, as the ledger's days have it; see `budgets.Spending`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._since: dict[int, dict[str, int]] = {}  # one question for all keys

    async def spent(self, key: str, since_s: int) -> int:
        """Give what a key has spent since the begin of a day."""
        if since_s not in self._since:
            self._since[since_s] = await self._storage.run(_spent, since_s)
        return self._since[since_s].get(key, 0)


def _spent(connection: Connection, since_s: int) -> dict[str, int]:
    query = (
        select(series.c.key, func.sum(days.c.cost_microusd))
        .join(series, days.c.series == series.c.number)
        .where(days.c.begin_s >= since_s)
        .group_by(series.c.key)
    )
    return {key: int(cost) for key, cost in connection.execute(query)}


def _whole(row: RowMapping) -> dict[str, Any]:
    """Give a row with whole numbers: PostgreSQL's sums of them are decimals."""
    return {name: value if isinstance(value, str) else int(value) for name, value in row.items()}
