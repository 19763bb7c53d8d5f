"""Outrider's own statistics: usage, times and errors over a range, as JSON or as CSV.

Times are those of UTC. Lists of points have one place for every period of the range, and nothing
is left out of them. Amounts are in US dollars. In CSV, a name that a spreadsheet would take for a
formula begins with an apostrophe: apps name themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec

from outrider.dialects.csv_table import encode_csv
from outrider.dialects.openrouter import usd
from outrider.errors import InvalidRequest
from outrider.ledger_types import (
    DAY_S,
    HOUR_S,
    Errors,
    FacetKind,
    Latencies,
    Percentiles,
    Span,
    Sums,
    Times,
    Usage,
)

RANGES = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "90d": 90 * 24}
MAX_HOURLY_HOURS = 7 * 24  # longer ranges are told by days
MAX_DAYS = 366
GROUPS: tuple[FacetKind, ...] = ("model", "provider", "key", "app")
ORIGINS = ("client", "gateway", "provider", "engine")
FORMATS = ("json", "csv")
CSV_TYPE = "text/csv; charset=utf-8"

Label = Callable[[str], str]  # what people call a group


class Range(msgspec.Struct, kw_only=True):
    """What an answer covers; both ends are when a period begins."""

    first: str
    last: str
    interval: str
    time_zone: str = "UTC"


class Total(msgspec.Struct, kw_only=True):
    """Requests added up."""

    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float


class UsagePoints(msgspec.Struct, kw_only=True):
    """The same for each period."""

    requests: list[int]
    failures: list[int]
    prompt_tokens: list[int]
    completion_tokens: list[int]
    cached_tokens: list[int]
    cost_usd: list[float]


class UsageRow(msgspec.Struct, kw_only=True):
    """One model, provider, key or app; the first have points."""

    name: str
    label: str
    total: Total
    points: UsagePoints | None


class UsageAnswer(msgspec.Struct, kw_only=True):
    """What was used; `rest` is the total of what isn't listed, `rest_points` all without points."""

    range: Range
    group_by: str
    begins_s: list[int]
    total: Total
    points: UsagePoints
    groups: list[UsageRow]
    rest: Total
    rest_points: UsagePoints


class PercentilePoints(msgspec.Struct, kw_only=True):
    """Percentiles for each period; null where nothing was answered."""

    count: list[int]
    p50_ms: list[float | None]
    p90_ms: list[float | None]
    p99_ms: list[float | None]


class TimesRow(msgspec.Struct, kw_only=True):
    """One model, provider, key or app."""

    name: str
    label: str
    time_to_first_token: Percentiles
    duration: Percentiles


class LatencyAnswer(msgspec.Struct, kw_only=True):
    """How long answers took; each percentile is off by at most `error_percent` of itself.

    What one key or a group did is known by days, so `range` and `groups_range` may be longer.
    """

    range: Range
    groups_range: Range
    group_by: str
    error_percent: float
    begins_s: list[int]
    time_to_first_token: Percentiles
    duration: Percentiles
    points: dict[str, PercentilePoints]
    groups: list[TimesRow]


class StatusRow(msgspec.Struct, kw_only=True):
    """How many requests ended with a status, by whose fault it was."""

    origin: str
    status: int
    requests: int


class ErrorsRow(msgspec.Struct, kw_only=True):
    """One model, provider, key or app."""

    name: str
    label: str
    origins: dict[str, int]


class ErrorsAnswer(msgspec.Struct, kw_only=True):
    """What went wrong."""

    range: Range
    group_by: str
    begins_s: list[int]
    points: dict[str, list[int]]
    statuses: list[StatusRow]
    groups: list[ErrorsRow]


class Query(NamedTuple):
    """What is wanted."""

    span: Span
    group_by: FacetKind
    key: str | None
    is_csv: bool


def read_query(query: Mapping[str, str], accept: str, now_s: float) -> Query:
    """Read what is wanted; raises `InvalidRequest`."""
    group_by = _one_of(query, "group_by", GROUPS, "model")
    wanted = "csv" if "text/csv" in accept.lower() else "json"
    is_csv = _one_of(query, "format", FORMATS, wanted) == "csv"
    return Query(_span(query, now_s), group_by, query.get("key"), is_csv)


def encode_usage(usage: Usage, query: Query, label: Label) -> bytes:
    """Write what was used."""
    begins = list(query.span.begins())
    if query.is_csv:
        return _usage_csv(usage, query, label)
    groups = [
        UsageRow(
            name=group.name,
            label=label(group.name),
            total=_total(group.sums),
            points=None if group.points is None else _usage_points(group.points, begins),
        )
        for group in usage.groups
    ]
    answer = UsageAnswer(
        range=_range(query.span),
        group_by=query.group_by,
        begins_s=begins,
        total=_total(usage.sums),
        points=_usage_points(usage.points, begins),
        groups=groups,
        rest=_total(usage.rest),
        rest_points=_usage_points(usage.rest_points, begins),
    )
    return msgspec.json.encode(answer)


def encode_latencies(
    latencies: Latencies, query: Query, label: Label, error_percent: float
) -> bytes:
    """Write how long answers took."""
    begins = list(latencies.span.begins())
    points = [latencies.points.get(begin, Times()) for begin in begins]
    if query.is_csv:
        rows = (
            (_time(begin), *_cells(times.first_token), *_cells(times.duration))
            for begin, times in zip(begins, points, strict=True)
        )
        whats = ("time_to_first_token", "duration")
        columns = [f"{what}_{name}" for what in whats for name in Percentiles.__struct_fields__]
        return encode_csv(("begin_utc", *columns), rows)
    answer = LatencyAnswer(
        range=_range(latencies.span),
        groups_range=_range(latencies.span.whole_days()),
        group_by=query.group_by,
        error_percent=error_percent,
        begins_s=begins,
        time_to_first_token=_rounded(latencies.times.first_token),
        duration=_rounded(latencies.times.duration),
        points={
            "time_to_first_token": _percentile_points([times.first_token for times in points]),
            "duration": _percentile_points([times.duration for times in points]),
        },
        groups=[
            TimesRow(
                name=name,
                label=label(name),
                time_to_first_token=_rounded(times.first_token),
                duration=_rounded(times.duration),
            )
            for name, times in latencies.groups
        ],
    )
    return msgspec.json.encode(answer)


def encode_errors(errors: Errors, query: Query, label: Label) -> bytes:
    """Write what went wrong."""
    begins = list(query.span.begins())
    points = {
        origin: [errors.points.get(begin, {}).get(origin, 0) for begin in begins]
        for origin in ORIGINS
    }
    if query.is_csv:
        columns = zip(*points.values(), strict=True)
        rows = ((_time(begin), *counts) for begin, counts in zip(begins, columns, strict=True))
        return encode_csv(("begin_utc", *ORIGINS), rows)
    answer = ErrorsAnswer(
        range=_range(query.span),
        group_by=query.group_by,
        begins_s=begins,
        points=points,
        statuses=[StatusRow(origin=o, status=s, requests=n) for o, s, n in errors.statuses],
        groups=[
            ErrorsRow(
                name=name,
                label=label(name),
                origins={origin: origins.get(origin, 0) for origin in ORIGINS},
            )
            for name, origins in errors.groups
        ],
    )
    return msgspec.json.encode(answer)


def _span(query: Mapping[str, str], now_s: float) -> Span:
    hour_s = int(now_s) // HOUR_S * HOUR_S
    today_s = int(now_s) // DAY_S * DAY_S
    if "start_date" not in query and "end_date" not in query:
        num_hours = RANGES[_one_of(query, "range", tuple(RANGES), "7d")]
        if num_hours <= MAX_HOURLY_HOURS:
            return Span(hour_s - (num_hours - 1) * HOUR_S, hour_s, HOUR_S)
        return Span(today_s - (num_hours // 24 - 1) * DAY_S, today_s, DAY_S)
    if "range" in query:
        raise InvalidRequest("range or start_date and end_date, not both", "range")
    last_s = _day_s(query, "end_date", today_s)
    first_s = _day_s(query, "start_date", last_s)
    num_days = (last_s - first_s) // DAY_S + 1
    if not 1 <= num_days <= MAX_DAYS:
        raise InvalidRequest(
            f"start_date to end_date has to be 1 to {MAX_DAYS} days, and is {num_days}",
            "start_date",
        )
    if num_days * 24 <= MAX_HOURLY_HOURS:
        return Span(first_s, last_s + DAY_S - HOUR_S, HOUR_S)
    return Span(first_s, last_s, DAY_S)


def _day_s(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        if len(text) != len("2026-05-11"):
            raise ValueError
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be a day such as 2026-05-11", name) from None
    return (day - date(1970, 1, 1)).days * DAY_S


def _one_of(query: Mapping[str, str], name: str, allowed: Sequence[Any], default: str) -> Any:  # noqa: ANN401
    text = query.get(name, default)
    if text not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}", name)
    return text


def _range(span: Span) -> Range:
    interval = "hour" if span.step_s == HOUR_S else "day"
    return Range(first=_time(span.first_s), last=_time(span.last_s), interval=interval)


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _total(sums: Sums) -> Total:
    counts = msgspec.structs.asdict(sums)
    return Total(cost_usd=usd(counts.pop("cost_microusd")), **counts)


def _usage_points(points: Mapping[int, Sums], begins: Sequence[int]) -> UsagePoints:
    totals = [_total(points.get(begin, Sums())) for begin in begins]
    names = UsagePoints.__struct_fields__
    return UsagePoints(**{name: [getattr(total, name) for total in totals] for name in names})


def _rounded(times: Percentiles) -> Percentiles:
    return Percentiles(*_cells(times))


def _cells(times: Percentiles) -> tuple[Any, ...]:
    count, *percentiles = msgspec.structs.astuple(times)
    return (count, *(None if each is None else round(each, 1) for each in percentiles))


def _percentile_points(points: Sequence[Percentiles]) -> PercentilePoints:
    names = PercentilePoints.__struct_fields__
    columns = zip(*map(_cells, points), strict=True)
    return PercentilePoints(**dict(zip(names, map(list, columns), strict=True)))


def _usage_csv(usage: Usage, query: Query, label: Label) -> bytes:
    """Write a row for each period and group, and the rest where there is any."""
    named = [
        (group.name, label(group.name), group.points)
        for group in usage.groups
        if group.points is not None
    ]
    if usage.rest_points:
        named.append(("", "the rest", usage.rest_points))
    rows = (
        (
            _time(begin),
            name,
            shown,
            *msgspec.structs.astuple(_total(points[begin])),
        )
        for begin in query.span.begins()
        for name, shown, points in named
        if begin in points
    )
    return encode_csv(("begin_utc", query.group_by, "label", *Total.__struct_fields__), rows)
