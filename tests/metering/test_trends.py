"""What is read out of facets is what the rows add up to, whoever asks; see also `test_latency`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from metering.books import empty_database, opened
from metering.test_ledger import NOW_MS, any_row, row_of
from outrider.ledger_types import DAY_S, HOUR_S, FacetKind, Span, Sums
from outrider.metering import trends
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.origins import origin_of
from outrider.metering.records import Closed, Row
from outrider.storage import schema
from outrider.storage.migration import migrate
from outrider.storage.sqlite import SqliteFile
from storage.records import run

FIRST_S = NOW_MS // 1000 // DAY_S * DAY_S
DAYS = Span(FIRST_S, FIRST_S + 4 * DAY_S, DAY_S)
HOURS = Span(FIRST_S, FIRST_S + 5 * DAY_S - HOUR_S, HOUR_S)
NAME: dict[FacetKind, Callable[[Row], str]] = {
    "model": lambda row: row.model,
    "provider": lambda row: row.closed.provider,
    "key": lambda row: row.opened.key,
    "app": lambda row: row.opened.app_url,
}


def read(folder: Path, rows: list[Row], *works: Callable[[Connection], Any]) -> list[Any]:
    path = empty_database(folder)
    return run(path, lambda c: add_rows(c, rows, Numbers()), *works)[1:]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(any_row, max_size=25, unique_by=lambda row: row.opened.id),
    st.sampled_from(sorted(NAME)),
    st.sampled_from([DAYS, HOURS]),
    st.sampled_from([None, "k1"]),
)
def test_usage_is_what_the_rows_add_up_to(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    kind: FacetKind,
    span: Span,
    key: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("trends")
    (usage,) = read(folder, rows, lambda c: trends.usage(c, span, kind, key))
    mine = [row for row in rows if key is None or row.opened.key == key]
    tokens: Counter[str] = Counter()
    points: Counter[int] = Counter()
    for row in mine:
        begin_s = row.opened.created_ms // 1000 // span.step_s * span.step_s
        count = row.counts.prompt_tokens + row.counts.completion_tokens
        tokens[NAME[kind](row)] += count
        points[begin_s] += count
    assert {group.name: group.sums.tokens for group in usage.groups} == tokens
    assert {begin_s: sums.tokens for begin_s, sums in usage.points.items()} == points
    assert usage.sums.requests == len(mine)
    assert usage.rest == Sums()
    assert usage.rest_points == {}
    order = [group.sums.tokens for group in usage.groups]
    assert order == sorted(order, reverse=True)
    assert all(sum(p.tokens for p in g.points.values()) == g.sums.tokens for g in usage.groups)


def test_beyond_the_first_groups_there_is_one_rest(tmp_path: Path) -> None:
    rows = [row_of(n, model=f"m{n:02}", prompt_tokens=1000 - n, after_s=n) for n in range(60)]
    for key in (None, ""):
        (usage,) = read(tmp_path, rows, lambda c, key=key: trends.usage(c, DAYS, "model", key))
        assert [group.name for group in usage.groups] == [f"m{n:02}" for n in range(50)]
        assert [group.points is not None for group in usage.groups] == [True] * 8 + [False] * 42
        assert usage.rest.requests == 10
        assert sum(sums.requests for sums in usage.rest_points.values()) == 52


def test_times_are_those_of_answers_and_errors_are_counted_by_whose_fault_they_were(
    tmp_path: Path,
) -> None:
    rows = [row_of(n, duration_ms=100, first_token_ms=10, key="k1") for n in range(98)]
    rows += [row_of(n, duration_ms=60_000, first_token_ms=5000, model="n") for n in (98, 99)]
    for number, (status, code) in enumerate(
        [(400, "invalid_request"), (503, "engine_overloaded"), (502, "provider_unavailable")]
    ):
        rows.append(row_of(200 + number, status=status, error_code=code, duration_ms=1, key="k1"))
    rows.append(row_of(300, status=500, error_code="server_killed", after_s=DAY_S))
    rows.append(row_of(301, status=499, is_cancelled=True, after_s=DAY_S))
    latencies, own, errors, mine = read(
        tmp_path,
        rows,
        lambda c: trends.latencies(c, DAYS, "model", None),
        lambda c: trends.latencies(c, HOURS, "model", "k1"),
        lambda c: trends.errors(c, DAYS, "provider", None),
        lambda c: trends.errors(c, HOURS, "model", "k1"),
    )
    whole = latencies.times.duration
    assert (whole.count, latencies.times.first_token.count) == (100, 100)
    assert whole.p50_ms == pytest.approx(100, rel=0.112)
    assert whole.p99_ms == pytest.approx(60_000, rel=0.112)
    assert list(latencies.points) == [FIRST_S]
    assert [(name, times.duration.count) for name, times in latencies.groups] == [
        ("m", 98), ("n", 2),
    ]  # fmt: skip
    assert (own.times.duration.count, own.groups) == (98, [])
    second = FIRST_S + DAY_S
    assert errors.points == {
        FIRST_S: {"client": 1, "engine": 1, "provider": 1},
        second: {"gateway": 1, "client": 1},
    }
    assert ("client", 499, 1) in errors.statuses
    assert errors.groups == [("p", {"client": 2, "engine": 1, "provider": 1, "gateway": 1})]
    assert sorted(mine.statuses) == [
        ("client", 400, 1), ("engine", 503, 1), ("provider", 502, 1),
    ]  # fmt: skip


def test_a_stream_that_is_cut_is_an_error_although_it_began_well() -> None:
    cut = Closed(status=200, duration_ms=1, error_code="provider_timeout")
    assert origin_of(cut) == "provider"
    assert origin_of(Closed(status=200, duration_ms=1)) is None
    assert (
        origin_of(Closed(status=503, duration_ms=1, error_code="storage_unavailable")) == "gateway"
    )


def test_titles_of_apps_are_found_by_their_addresses(tmp_path: Path) -> None:
    row = Row(
        opened("gen-1", app_url="https://a", app_title="A"), row_of(1).counts, row_of(1).closed
    )
    (titles,) = read(tmp_path, [row], lambda c: trends.app_titles(c, ["https://a", "https://b"]))
    assert titles == {"https://a": "A"}


def facets_of(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Give the tables of facets, with names in the place of numbers."""
    facets = schema.facets
    names = {n: (kind, name) for n, kind, name in connection.execute(select(facets))}
    tables = (schema.facet_hours, schema.facet_days, schema.facet_errors, schema.facet_times)
    return {
        table.name: sorted((names[n], *rest) for n, *rest in connection.execute(select(table)))
        for table in tables
    }


def test_an_older_ledger_gets_the_facets_that_its_rows_would_have_had(tmp_path: Path) -> None:
    codes = ["", "rate_limit_exceeded", "engine_failed", "providers_unavailable", "server_killed"]
    rows = [
        row_of(
            number,
            key=f"k{number % 3}",
            app_url=["", "https://a"][number % 2],
            model=f"m{number % 4}",
            provider=["", "p", "q"][number % 3],
            status=[200, 200, 429, 500, 502][number % 5],
            error_code=codes[number % 7 % 5],
            is_cancelled=number % 11 == 0,
            prompt_tokens=number,
            completion_tokens=2,
            cost_microusd=number * 7,
            duration_ms=number * number * 37,
            first_token_ms=number * 3 if number % 4 else None,
            after_s=number * 1900,
        )
        for number in range(120)
    ]
    written, _ = read(tmp_path, rows, facets_of, lambda c: None)
    place = SqliteFile(tmp_path / "outrider.db")
    with place.connect() as connection:
        migrate(connection, place, "0005")
        migrate(connection, place)
        connection.rollback()
        assert facets_of(connection) == written
    assert all(written.values())
