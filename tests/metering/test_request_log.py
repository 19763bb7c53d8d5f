"""The log of requests looks through a bounded number of rows at a time and leaves none out."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from metering.test_ledger import NOW_MS, row_of
from outrider.ledger_types import DAY_S, LogFilter
from outrider.metering import request_log
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.request_log import last_requests
from storage.records import run


def filled(path: Path) -> None:
    rows = [row_of(n, after_s=n * DAY_S, key="rare" if n in (2, 19) else "") for n in range(20)]
    run(path, lambda connection: add_rows(connection, rows, Numbers()))


def read(path: Path, wanted: LogFilter, limit: int = 3) -> tuple[list[str], int]:
    """Give what all pages have, and how many there were."""
    found: list[str] = []
    before, count = None, 0

    def work(connection: Connection) -> request_log.LogPage:
        return last_requests(connection, wanted, before, limit)

    while count < 50:
        (page,) = run(path, work)
        count += 1
        found += [entry.id for entry in page.entries]
        before = page.next_before
        if before is None:
            break
    return found, count


def test_a_rare_request_is_found_over_several_bounded_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db"
    filled(path)
    monkeypatch.setattr(request_log, "ROWS_PER_PAGE", 5)
    everything = [f"gen-{n}" for n in reversed(range(20))]
    assert read(path, LogFilter()) == (everything, 7)
    assert read(path, LogFilter(key="rare")) == (["gen-19", "gen-2"], 4)
    assert read(path, LogFilter(provider="nobody")) == ([], 4)


def test_what_lies_before_a_time_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db"
    filled(path)
    monkeypatch.setattr(request_log, "ROWS_PER_PAGE", 5)
    since = LogFilter(since_ms=NOW_MS + 18 * DAY_S * 1000)
    assert read(path, since) == (["gen-19", "gen-18"], 1)
    until = LogFilter(until_ms=NOW_MS + 2 * DAY_S * 1000)
    assert read(path, until)[0] == ["gen-1", "gen-0"]


def test_a_ledger_without_rows_has_one_empty_page(tmp_path: Path) -> None:
    run(tmp_path / "db", lambda connection: None)
    assert read(tmp_path / "db", LogFilter()) == ([], 1)
