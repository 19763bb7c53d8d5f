"""The ledger's sums by what people ask for: everything, a model, provider, key or app.

Every request is in five facets, one of each kind, so each kind adds up to the same. Sums, errors
and histograms of times are added to in the transaction that writes the rows themselves. Only
requests that were answered are in histograms: how fast a failure was says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection

from outrider.ledger_types import DAY_S, HOUR_S
from outrider.metering.latency import bucket_of
from outrider.metering.origins import Origin, origin_of
from outrider.metering.records import Row
from outrider.metering.upserts import add_to, number_of
from outrider.storage.schema import (
    DURATION,
    FIRST_TOKEN,
    NUM_BUCKETS,
    facet_days,
    facet_errors,
    facet_hours,
    facet_times,
    facets,
)

KINDS = ("all", "model", "provider", "key", "app")

FacetNumbers = dict[tuple[str, str], int]


class Names(NamedTuple):
    """What a request is counted under, one name for each kind; see `KINDS`."""

    every: str
    model: str
    provider: str
    key: str
    app: str


def names_of(row: Row, *, has_app: bool) -> Names:
    """Give the facets of a request; an app that isn't counted is none."""
    app_url = row.opened.app_url if has_app else ""
    return Names("", row.model, row.closed.provider, row.opened.key, app_url)


@dataclass
class Fold:
    """Requests of one hour added up."""

    sums: list[int] = field(default_factory=lambda: [0] * 6)
    errors: Counter[tuple[Origin, int]] = field(default_factory=Counter)
    first_token: Counter[int] = field(default_factory=Counter)  # by bucket
    duration: Counter[int] = field(default_factory=Counter)

    def count(self, row: Row) -> None:
        """Add a request."""
        counts, closed, sums = row.counts, row.closed, self.sums
        sums[0] += 1
        sums[1] += row.is_failed
        sums[2] += counts.prompt_tokens
        sums[3] += counts.completion_tokens
        sums[4] += counts.cached_tokens
        sums[5] += counts.cost_microusd
        origin = origin_of(closed)
        if origin is not None:
            self.errors[origin, closed.status] += 1
            return
        self.duration[bucket_of(closed.duration_ms)] += 1
        if closed.first_token_ms is not None:
            self.first_token[bucket_of(closed.first_token_ms)] += 1


class _Tables:
    """What is to be added to each table, by its primary key."""

    def __init__(self) -> None:
        self.hours: dict[tuple[int, int], list[int]] = {}
        self.days: dict[tuple[int, int], list[int]] = {}
        self.errors: dict[tuple[int, int, str, int], list[int]] = {}
        self.times: dict[tuple[int, int, int], list[int]] = {}

    def add(self, facet: int, hour_s: int, fold: Fold, *, is_all: bool) -> None:
        """Add what was folded to a facet; times are by the hour for everything together only."""
        day_s = hour_s // DAY_S * DAY_S
        times_s = hour_s if is_all else day_s
        for sums in (
            self.hours.setdefault((facet, hour_s), [0] * 6),
            self.days.setdefault((facet, day_s), [0] * 6),
        ):
            for index, amount in enumerate(fold.sums):
                sums[index] += amount
        for (origin, status), count in fold.errors.items():
            self.errors.setdefault((facet, hour_s, origin, status), [0])[0] += count
        for what, histogram in ((FIRST_TOKEN, fold.first_token), (DURATION, fold.duration)):
            if histogram:
                buckets = self.times.setdefault((facet, what, times_s), [0] * NUM_BUCKETS)
                for bucket, count in histogram.items():
                    buckets[bucket] += count


def add_facets(
    connection: Connection, rows: Sequence[Row], has_app: Sequence[bool], numbers: FacetNumbers
) -> None:
    """Add rows to the sums of their facets; `has_app` says whose apps are counted."""
    folds: dict[tuple[int, Names], Fold] = {}
    for row, is_counted in zip(rows, has_app, strict=True):
        hour_s = row.opened.created_ms // 1000 // HOUR_S * HOUR_S
        key = hour_s, names_of(row, has_app=is_counted)
        fold = folds.get(key)
        if fold is None:
            fold = folds[key] = Fold()
        fold.count(row)
    add_folds(connection, folds, numbers)


def add_folds(
    connection: Connection, folds: dict[tuple[int, Names], Fold], numbers: FacetNumbers
) -> None:
    """Add what was folded by hours and names."""
    wanted = {facet for _, names in folds for facet in zip(KINDS, names, strict=True)}
    _find(connection, wanted, numbers)
    tables = _Tables()
    for (hour_s, names), fold in folds.items():
        for facet in zip(KINDS, names, strict=True):
            tables.add(numbers[facet], hour_s, fold, is_all=facet[0] == "all")
    add_to(connection, facet_hours, tables.hours)
    add_to(connection, facet_days, tables.days)
    add_to(connection, facet_errors, tables.errors)
    add_to(connection, facet_times, tables.times)


def _find(connection: Connection, wanted: Iterable[tuple[str, str]], numbers: FacetNumbers) -> None:
    """Find the numbers of facets; those that are new in one order on every server."""
    for kind, name in sorted(wanted):
        if (kind, name) not in numbers:
            names = {"kind": kind, "name": name}
            numbers[kind, name] = number_of(connection, facets, names, {})
