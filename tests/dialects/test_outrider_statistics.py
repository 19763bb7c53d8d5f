"""Our own statistics: which spans a query means, and what becomes of names in CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from outrider.dialects import outrider_statistics as wire
from outrider.errors import InvalidRequest
from outrider.ledger_types import (
    DAY_S,
    HOUR_S,
    Errors,
    Latencies,
    Percentiles,
    Span,
    Sums,
    Times,
    Usage,
    UsageGroup,
)

TODAY_S = 20_000 * DAY_S  # 2024-10-04
NOW_S = TODAY_S + 5 * HOUR_S + 1234.5


def read(**query: str) -> wire.Query:
    return wire.read_query(query, "*/*", NOW_S)


@pytest.mark.parametrize(
    ("query", "span"),
    [
        ({"range": "24h"}, Span(TODAY_S - 18 * HOUR_S, TODAY_S + 5 * HOUR_S, HOUR_S)),
        ({}, Span(TODAY_S - 162 * HOUR_S, TODAY_S + 5 * HOUR_S, HOUR_S)),
        ({"range": "30d"}, Span(TODAY_S - 29 * DAY_S, TODAY_S, DAY_S)),
        ({"range": "90d"}, Span(TODAY_S - 89 * DAY_S, TODAY_S, DAY_S)),
        ({"start_date": "2024-10-03"}, Span(TODAY_S - DAY_S, TODAY_S + 23 * HOUR_S, HOUR_S)),
        (
            {"end_date": "2024-10-01"},
            Span(TODAY_S - 3 * DAY_S, TODAY_S - 2 * DAY_S - HOUR_S, HOUR_S),
        ),
        (
            {"start_date": "2024-01-01", "end_date": "2024-10-04"},
            Span(TODAY_S - 277 * DAY_S, TODAY_S, DAY_S),
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_range_is_hours_up_to_a_week_and_days_beyond(query: dict[str, str], span: Span) -> None:
    assert read(**query).span == span
    assert len(span.begins()) <= 366


@pytest.mark.parametrize(
    ("param", "query"),
    [
        ("range", {"range": "1y"}),
        ("range", {"range": "7d", "start_date": "2024-10-01"}),
        ("group_by", {"group_by": "wire"}),
        ("format", {"format": "xml"}),
        ("start_date", {"start_date": "2024-10-05"}),
        ("start_date", {"start_date": "2020-01-01"}),
        ("start_date", {"start_date": "20241001"}),
        ("end_date", {"end_date": "2024-02-30"}),
        ("end_date", {"end_date": "２024-02-3"}),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_by_name(param: str, query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**query)
    assert caught.value.param == param


def test_csv_is_asked_for_by_the_query_or_else_by_the_header() -> None:
    assert read(format="csv").is_csv
    assert wire.read_query({}, "text/csv", NOW_S).is_csv
    assert not wire.read_query({"format": "json"}, "text/csv", NOW_S).is_csv
    assert not read().is_csv


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", 'a,"b', "fine"]


def rows_of(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


def test_no_name_becomes_a_formula_in_a_spreadsheet() -> None:
    sums = Sums(2, 1, 3, 4, 1, 1_500_000)
    points = {TODAY_S: sums}
    groups = [UsageGroup(name, sums, points) for name in HOSTILE]
    usage = Usage(sums, points, groups, Sums(), points)
    query = read(range="30d", format="csv", group_by="app")
    header, *rows = rows_of(wire.encode_usage(usage, query, lambda name: name))
    assert header[:4] == ["begin_utc", "app", "label", "requests"]
    assert [row[1] for row in rows] == [
        "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", 'a,"b', "fine", "",
    ]  # fmt: skip
    assert all(row[2][0] not in "=+-@\t\r" for row in rows)
    assert rows[0][0] == "2024-10-04T00:00:00Z"
    assert rows[0][3:] == ["2", "1", "3", "4", "1", "1.5"]
    assert rows[-1][2] == "the rest"


def test_points_have_a_place_for_every_period() -> None:
    query = read(range="24h")
    usage = Usage(Sums(requests=2), {TODAY_S: Sums(requests=2)}, [], Sums(), {})
    answer: Any = json.loads(wire.encode_usage(usage, query, str))
    assert answer["begins_s"] == list(query.span.begins())
    assert answer["points"]["requests"] == [0] * 18 + [2] + [0] * 5
    assert answer["range"] == {
        "first": "2024-10-03T06:00:00Z",
        "last": "2024-10-04T05:00:00Z",
        "interval": "hour",
        "time_zone": "UTC",
    }


def test_times_and_errors_are_written_in_both_forms() -> None:
    times = Times(Percentiles(2, 10.04, 20.0, 30.0), Percentiles())
    query = read(range="24h")
    latencies = Latencies(query.span, times, {TODAY_S: times}, [("m", times)])
    answer: Any = json.loads(wire.encode_latencies(latencies, query, str.upper, 11.2))
    assert answer["groups_range"]["first"] == "2024-10-03T00:00:00Z"
    assert answer["points"]["time_to_first_token"]["p50_ms"][17:20] == [None, 10.0, None]
    assert (answer["groups"][0]["label"], answer["duration"]["p99_ms"]) == ("M", None)
    table = rows_of(wire.encode_latencies(latencies, read(format="csv"), str, 11.2))
    assert table[0][:3] == ["begin_utc", "time_to_first_token_count", "time_to_first_token_p50_ms"]
    assert ["2024-10-04T00:00:00Z", "2", "10.0", "20.0", "30.0", "0", "", "", ""] in table
    errors = Errors({TODAY_S: {"engine": 3}}, [("engine", 503, 3)], [("m", {"engine": 3})])
    answer = json.loads(wire.encode_errors(errors, read(), str))
    assert sum(answer["points"]["engine"]) == 3
    assert answer["points"]["client"] == [0] * 168
    assert answer["statuses"] == [{"origin": "engine", "status": 503, "requests": 3}]
    table = rows_of(wire.encode_errors(errors, read(format="csv"), str))
    assert ["2024-10-04T00:00:00Z", "0", "0", "0", "3"] in table
