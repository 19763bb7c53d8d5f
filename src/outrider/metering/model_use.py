"""What the ledger's sums say of one model: by hour, by day and by app.

Reads sums only, never requests, so it takes as long for five million of them as for five. A model's
facet has its days and hours; which apps asked it is known to the sums by series alone.
"""

from __future__ import annotations

from sqlalchemy import Connection, ScalarSelect, func, select

from outrider.ledger_types import ModelApp, ModelDay, ModelHour
from outrider.storage.schema import (
    apps,
    days,
    facet_days,
    facet_errors,
    facet_hours,
    facets,
    series,
)


def model_days(connection: Connection, model: str, first_s: int) -> list[ModelDay]:
    """Give a model's days since one, those without requests left out."""
    table = facet_days.c
    found = connection.execute(
        select(
            table.begin_s,
            table.requests,
            table.failures,
            table.prompt_tokens,
            table.completion_tokens,
        )
        .where(table.facet == _facet(model), table.begin_s >= first_s)
        .order_by(table.begin_s)
    )
    return [ModelDay(*map(int, row)) for row in found]


def model_hours(connection: Connection, model: str, first_s: int) -> list[ModelHour]:
    """Give a model's hours since one, those without requests left out."""
    asked, errors = facet_hours.c, facet_errors.c
    requests = connection.execute(
        select(asked.begin_s, asked.requests)
        .where(asked.facet == _facet(model), asked.begin_s >= first_s)
        .order_by(asked.begin_s)
    ).all()
    faults = connection.execute(
        select(errors.begin_s, errors.origin == "client", func.sum(errors.requests))
        .where(errors.facet == _facet(model), errors.begin_s >= first_s)
        .group_by(errors.begin_s, errors.origin == "client")
    )
    counted = {(begin_s, bool(is_client)): int(count) for begin_s, is_client, count in faults}
    return [
        ModelHour(
            begin_s,
            requests=int(count),
            refused=counted.get((begin_s, True), 0),
            failures=counted.get((begin_s, False), 0),
        )
        for begin_s, count in requests
    ]


def model_apps(connection: Connection, model: str, first_s: int, limit: int) -> list[ModelApp]:
    """Give the apps that used a model since a day, most tokens first."""
    tokens = func.sum(days.c.prompt_tokens + days.c.completion_tokens)
    sums = (
        select(series.c.app, func.sum(days.c.requests).label("n"), tokens.label("tokens"))
        .join(days, days.c.series == series.c.number)
        .where(series.c.model == model, series.c.app != 0, days.c.begin_s >= first_s)
        .group_by(series.c.app)
        .subquery()
    )
    found = connection.execute(
        select(apps.c.title, apps.c.url, sums.c.n, sums.c.tokens)
        .join(sums, sums.c.app == apps.c.number)
        .order_by(sums.c.tokens.desc(), apps.c.number)
        .limit(limit)
    )
    return [
        ModelApp(title=title, url=url, requests=int(requests), tokens=int(total))
        for title, url, requests, total in found
    ]


def _facet(model: str) -> ScalarSelect[int]:
    return (
        select(facets.c.number)
        .where(facets.c.kind == "model", facets.c.name == model)
        .scalar_subquery()
    )
