"""What the ledger's sums say of one model: by hour, by day and by app.

Reads sums only, never requests, so it takes as long for five million of them as for five.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from outrider.ledger_types import ModelApp, ModelPeriod
from outrider.storage.schema import apps, days, hours, series

_COUNTS = ("requests", "failures", "prompt_tokens", "completion_tokens")


def model_days(connection: Connection, model: str, first_s: int) -> list[ModelPeriod]:
    """Give a model's days since one, those without requests left out."""
    return _periods(connection, days, model, first_s)


def model_hours(connection: Connection, model: str, first_s: int) -> list[ModelPeriod]:
    """Give a model's hours since one, those without requests left out."""
    return _periods(connection, hours, model, first_s)


def model_apps(connection: Connection, model: str, first_s: int) -> list[ModelApp]:
    """Give the apps that used a model since a day, most tokens first."""
    tokens = func.sum(days.c.prompt_tokens + days.c.completion_tokens)
    chosen = _of_model(days, model, first_s).where(series.c.app != 0)
    sums = (
        chosen.add_columns(series.c.app, func.sum(days.c.requests).label("n"), tokens.label("sum"))
        .group_by(series.c.app)
        .subquery()
    )
    found = connection.execute(
        select(apps.c.title, apps.c.url, sums.c.n, sums.c.sum)
        .join(apps, sums.c.app == apps.c.number)
        .order_by(sums.c.sum.desc(), apps.c.number)
    )
    return [
        ModelApp(title=title, url=url, requests=int(requests), tokens=int(total))
        for title, url, requests, total in found
    ]


def _periods(connection: Connection, table: Table, model: str, first_s: int) -> list[ModelPeriod]:
    sums = [func.sum(table.c[name]).label(name) for name in _COUNTS]
    found = connection.execute(
        _of_model(table, model, first_s)
        .add_columns(table.c.begin_s, *sums)
        .group_by(table.c.begin_s)
        .order_by(table.c.begin_s)
    )
    return [
        ModelPeriod(**{name: int(value) for name, value in row._mapping.items()}) for row in found
    ]


def _of_model(table: Table, model: str, first_s: int) -> Select[Any]:
    """Begin a question for what one model did; no column is chosen yet."""
    return (
        select()
        .select_from(table.join(series, table.c.series == series.c.number))
        .where(series.c.model == model, table.c.begin_s >= first_s)
    )
