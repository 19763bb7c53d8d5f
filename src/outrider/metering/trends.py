"""What is read out of the ledger's facets: usage, times and errors over a span.

Every query has a bound that doesn't grow with the ledger: periods of the span times what is asked
of them. One key's usage by model or app comes from the sums by series, which know both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, func, select

from outrider.ledger_types import (
    HOUR_S,
    Errors,
    FacetKind,
    Latencies,
    Percentiles,
    Span,
    Sums,
    Times,
    Usage,
    UsageGroup,
)
from outrider.metering.latency import percentile_ms
from outrider.storage.schema import (
    DURATION,
    FIRST_TOKEN,
    NUM_BUCKETS,
    apps,
    days,
    facet_days,
    facet_errors,
    facet_hours,
    facet_times,
    facets,
    hours,
    series,
)

NUM_GROUPS = 50  # in tables; the rest is one group
NUM_CHARTED = 8  # with points
NUM_TIMED = 20  # whose times are told
NUM_STATUSES = 100
NOTHING = Sums()
_AMOUNTS = Sums.__struct_fields__
_BUCKETS = tuple(f"b{number}" for number in range(NUM_BUCKETS))


def usage(connection: Connection, span: Span, kind: FacetKind, key: str | None) -> Usage:
    """Give what was used, by all keys or one."""
    if key is not None:
        return _usage_of_key(connection, span, kind, key)
    table = facet_hours if span.step_s == HOUR_S else facet_days
    whole = _facet_of(connection, None)
    points = _points(connection, table, span, [whole]).get(whole, {})
    ranked = connection.execute(_ranking(table, span, kind)).all()
    charted = _points(connection, table, span, [row[0] for row in ranked[:NUM_CHARTED]])
    names = _names(connection, [row[0] for row in ranked])
    groups = [
        UsageGroup(names[number], Sums(*map(int, amounts)), charted.get(number))
        for number, *amounts in ranked
    ]
    return _with_rest(points, groups)


def latencies(connection: Connection, span: Span, kind: FacetKind, key: str | None) -> Latencies:
    """Give how long answers took; of one key there are no groups, and its times are by days."""
    span = span if key is None else span.whole_days()
    facet = _facet_of(connection, key)
    begin = facet_times.c.begin_s - facet_times.c.begin_s % span.step_s
    query = _histograms(span, begin.label("begin_s")).where(facet_times.c.facet == facet)
    points: dict[int, dict[int, list[int]]] = {}
    whole: dict[int, list[int]] = {}
    for begin_s, what, *buckets in connection.execute(query):
        counts = list(map(int, buckets))
        points.setdefault(begin_s, {})[what] = counts
        before = whole.get(what, [0] * NUM_BUCKETS)
        whole[what] = [a + b for a, b in zip(before, counts, strict=True)]
    return Latencies(
        span,
        _times(whole),
        {begin_s: _times(histograms) for begin_s, histograms in points.items()},
        [] if key is not None else _times_of_groups(connection, span, kind),
    )


def errors(connection: Connection, span: Span, kind: FacetKind, key: str | None) -> Errors:
    """Give what went wrong, by whose fault it was; of one key there are no groups."""
    facet = _facet_of(connection, key)
    begin = facet_errors.c.begin_s - facet_errors.c.begin_s % span.step_s
    count = func.sum(facet_errors.c.requests)
    within = _within(facet_errors, span)
    found = connection.execute(
        select(begin, facet_errors.c.origin, facet_errors.c.status, count)
        .where(facet_errors.c.facet == facet, within)
        .group_by(begin, facet_errors.c.origin, facet_errors.c.status)
    )
    points: dict[int, dict[str, int]] = {}
    statuses: dict[tuple[str, int], int] = {}
    for begin_s, origin, status, requests in found:
        point = points.setdefault(begin_s, {})
        point[origin] = point.get(origin, 0) + int(requests)
        statuses[origin, status] = statuses.get((origin, status), 0) + int(requests)
    ranked = sorted(statuses.items(), key=lambda each: (-each[1], each[0]))
    listed = [(origin, status, n) for (origin, status), n in ranked[:NUM_STATUSES]]
    groups = [] if key is not None else _errors_of_groups(connection, span, kind)
    return Errors(points, listed, groups)


def app_titles(connection: Connection, urls: Iterable[str]) -> dict[str, str]:
    """Give the titles of apps."""
    found = connection.execute(select(apps.c.url, apps.c.title).where(apps.c.url.in_(list(urls))))
    return {url: title for url, title in found}


def _usage_of_key(connection: Connection, span: Span, kind: FacetKind, key: str) -> Usage:
    table = hours if span.step_s == HOUR_S else days
    name = func.coalesce(apps.c.url, "") if kind == "app" else series.c[kind]
    names = select(series.c.number, name.label("name")).where(series.c.key == key)
    if kind == "app":
        names = names.outerjoin(apps, series.c.app == apps.c.number)
    wanted = names.subquery()
    found = connection.execute(
        select(wanted.c.name, table.c.begin_s, *(func.sum(table.c[each]) for each in _AMOUNTS))
        .join(wanted, table.c.series == wanted.c.number)
        .where(_within(table, span))
        .group_by(wanted.c.name, table.c.begin_s)
    )
    by_name: dict[str, dict[int, Sums]] = {}
    points: dict[int, Sums] = {}
    for each, begin_s, *amounts in found:
        sums = Sums(*map(int, amounts))
        by_name.setdefault(each, {})[begin_s] = sums
        points[begin_s] = points.get(begin_s, NOTHING) + sums
    totals = {each: sum(its.values(), start=NOTHING) for each, its in by_name.items()}
    ranked = sorted(totals.items(), key=lambda each: (-each[1].tokens, each[0]))[:NUM_GROUPS]
    groups = [
        UsageGroup(each, sums, by_name[each] if place < NUM_CHARTED else None)
        for place, (each, sums) in enumerate(ranked)
    ]
    return _with_rest(points, groups)


def _with_rest(points: dict[int, Sums], groups: list[UsageGroup]) -> Usage:
    """Put together; what isn't in a group is the rest."""
    whole = sum(points.values(), start=NOTHING)
    listed = sum((group.sums for group in groups), start=NOTHING)
    others = dict(points)
    for group in groups:
        for begin_s, sums in (group.points or {}).items():
            others[begin_s] = others[begin_s] - sums
    others = {begin_s: sums for begin_s, sums in others.items() if sums.requests}
    return Usage(whole, points, groups, whole - listed, others)


def _times_of_groups(
    connection: Connection, span: Span, kind: FacetKind
) -> list[tuple[str, Times]]:
    table = facet_hours if span.step_s == HOUR_S else facet_days
    ranked = connection.execute(_ranking(table, span, kind).limit(NUM_TIMED)).all()
    numbers = [row[0] for row in ranked]
    days_of_it = span.whole_days()
    query = _histograms(days_of_it, facet_times.c.facet).where(facet_times.c.facet.in_(numbers))
    found: dict[int, dict[int, list[int]]] = {}
    for number, what, *buckets in connection.execute(query):
        found.setdefault(number, {})[what] = list(map(int, buckets))
    names = _names(connection, numbers)
    return [(names[number], _times(found[number])) for number in numbers if number in found]


def _errors_of_groups(
    connection: Connection, span: Span, kind: FacetKind
) -> list[tuple[str, dict[str, int]]]:
    facet, origin = facet_errors.c.facet, facet_errors.c.origin
    found = connection.execute(
        select(facet, origin, func.sum(facet_errors.c.requests))
        .where(facet.in_(_of_kind(kind)), _within(facet_errors, span))
        .group_by(facet, origin)
    )
    counts: dict[int, dict[str, int]] = {}
    for number, whose, requests in found:
        counts.setdefault(number, {})[whose] = int(requests)
    ranked = sorted(counts, key=lambda number: (-sum(counts[number].values()), number))
    names = _names(connection, ranked[:NUM_GROUPS])
    return [(names[number], counts[number]) for number in ranked[:NUM_GROUPS]]


def _histograms(span: Span, by: ColumnElement[int]) -> Select[Any]:
    """Ask for histograms, added up by something and by what they are of."""
    counts = [func.sum(facet_times.c[name]) for name in _BUCKETS]
    query = select(by, facet_times.c.what, *counts).where(_within(facet_times, span))
    return query.where(facet_times.c.what.in_((FIRST_TOKEN, DURATION))).group_by(
        by, facet_times.c.what
    )


def _ranking(table: Table, span: Span, kind: FacetKind) -> Select[Any]:
    """Ask for the facets of a kind with their sums, most tokens first."""
    amounts = [func.sum(table.c[name]) for name in _AMOUNTS]
    tokens = func.sum(table.c.prompt_tokens + table.c.completion_tokens)
    return (
        select(table.c.facet, *amounts)
        .where(table.c.facet.in_(_of_kind(kind)), _within(table, span))
        .group_by(table.c.facet)
        .order_by(tokens.desc(), table.c.facet)
        .limit(NUM_GROUPS)
    )


def _points(
    connection: Connection, table: Table, span: Span, numbers: Sequence[int]
) -> dict[int, dict[int, Sums]]:
    found = connection.execute(
        select(table.c.facet, table.c.begin_s, *(table.c[name] for name in _AMOUNTS))
        .where(table.c.facet.in_(numbers), _within(table, span))
        .order_by(table.c.facet, table.c.begin_s)
    )
    points: dict[int, dict[int, Sums]] = {}
    for number, begin_s, *amounts in found:
        points.setdefault(number, {})[begin_s] = Sums(*amounts)
    return points


def _within(table: Table, span: Span) -> ColumnElement[bool]:
    """Give the condition that a period lies in the span; hours of its last period do."""
    return table.c.begin_s.between(span.first_s, span.last_s + span.step_s - 1)


def _of_kind(kind: FacetKind) -> Select[Any]:
    return select(facets.c.number).where(facets.c.kind == kind)


def _facet_of(connection: Connection, key: str | None) -> int:
    """Give the number of a key's facet, or of everything's."""
    return _number(connection, "all", "") if key is None else _number(connection, "key", key)


def _number(connection: Connection, kind: str, name: str) -> int:
    """Give the number of a facet; -1 of one that has no requests."""
    query = select(facets.c.number).where(facets.c.kind == kind, facets.c.name == name)
    found = connection.scalar(query)
    return -1 if found is None else found


def _names(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    query = select(facets.c.number, facets.c.name).where(facets.c.number.in_(numbers))
    return {number: name for number, name in connection.execute(query)}


def _times(histograms: dict[int, list[int]]) -> Times:
    return Times(*(_percentiles(histograms.get(what, [])) for what in (FIRST_TOKEN, DURATION)))


def _percentiles(counts: Sequence[int]) -> Percentiles:
    shares = (percentile_ms(counts, share) for share in (0.5, 0.9, 0.99))
    return Percentiles(sum(counts), *shares)
