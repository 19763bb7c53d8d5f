"""What is read out of the ledger: the same from its sums as from its rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from metering.books import PRICE, empty_database, opened
from outrider.ledger_types import DAY_S, AppTokens
from outrider.metering import statistics
from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.records import Closed, Counts, Row
from outrider.metering.statistics import Days, LedgerSpending, Slice
from outrider.routing_types import Attempt
from storage.records import run

FIRST_S = 20_000 * DAY_S


def row_on(day: int, tokens: int, **fields: Any) -> Row:
    """Give a request of a day whose prompt has so many tokens."""
    names = ("model", "key", "app_url", "app_categories", "num_images")
    begun = {k: fields.pop(k) for k in names if k in fields}
    title = {"app_title": begun["app_url"].upper()} if "app_url" in begun else {}
    cost = fields.pop("cost_microusd", 0)
    number = fields.pop("number", f"{day}-{tokens}-{begun}-{fields}")
    return Row(
        opened(f"gen-{number}", created_ms=(FIRST_S + day * DAY_S + 5) * 1000, **begun, **title),
        Counts(prompt_tokens=tokens, cost_microusd=cost),
        Closed(**{"status": 200, "duration_ms": 1, "provider": "p", **fields}),
    )


def ask(folder: Path, rows: list[Row], *works: Any) -> list[Any]:
    path = empty_database(folder)
    return run(path, lambda c: add_rows(c, rows, Numbers()), *works)[1:]


def days(first: int, last: int) -> Days:
    return Days(FIRST_S + first * DAY_S, FIRST_S + last * DAY_S)


def test_a_request_is_found_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    attempt = Attempt(provider="p", model="m", status=200, duration_ms=3, upstream_id="u")
    row = Row(
        opened("gen-x", key="k", app_url="https://a", app_title="A", session="s", num_images=2),
        Counts(prompt_tokens=10, completion_tokens=3, cached_tokens=4, cost_microusd=9),
        Closed(
            status=200, duration_ms=8, provider="p", price=PRICE, attempts=(attempt,),
            finish_reason="stop", first_token_ms=2,
        ),
    )  # fmt: skip
    found, nothing = ask(
        tmp_path,
        [row],
        lambda c: statistics.find_generation(c, "gen-x"),
        lambda c: statistics.find_generation(c, "gen-y"),
    )
    assert nothing is None
    assert (found.key, found.app_url, found.session, found.num_images) == ("k", "https://a", "s", 2)
    assert (found.attempts, found.finish_reason, found.first_token_ms) == ((attempt,), "stop", 2)
    assert found.cache_discount_microusd == 4 * (2 - 1)
    assert found.app == 1


def test_activity_is_added_up_by_day_model_and_host_for_one_key_or_all(tmp_path: Path) -> None:
    rows = [
        row_on(0, 10, key="k1", cost_microusd=1),
        row_on(1, 20, key="k1", cost_microusd=2),
        row_on(1, 30, key="k2", cost_microusd=4),
        row_on(1, 40, key="k2", model="other"),
        row_on(1, 50, provider="", status=502),
        row_on(2, 60, key="k1"),
    ]
    every, mine = ask(
        tmp_path,
        rows,
        lambda c: statistics.activity(c, days(0, 1), None),
        lambda c: statistics.activity(c, days(0, 1), "k1"),
    )
    shown = [(row.day_s, row.model, row.prompt_tokens, row.cost_microusd) for row in every]
    assert shown == [
        (FIRST_S + DAY_S, "m", 50, 6),
        (FIRST_S + DAY_S, "other", 40, 0),
        (FIRST_S, "m", 10, 1),
    ]
    assert [row.prompt_tokens for row in mine] == [20, 10]


def test_apps_are_ranked_by_tokens_and_by_growth_over_three_times_before(tmp_path: Path) -> None:
    rows = [row_on(day, 100, app_url="https://even") for day in range(8)]
    rows += [row_on(day, 10, app_url="https://new") for day in (6, 7)]
    rows += [row_on(day, 500, app_url="https://old") for day in (0, 1, 2, 3)]
    rows += [row_on(6, 5, app_url="https://old"), row_on(6, 7_000)]
    popular, trending = ask(
        tmp_path,
        rows,
        lambda c: statistics.popular_apps(c, days(6, 7)),
        lambda c: statistics.trending_apps(c, days(6, 7)),
    )
    assert popular[0] == AppTokens(app=1, title="HTTPS://EVEN", requests=2, tokens=200)
    assert [app.title for app in popular] == ["HTTPS://EVEN", "HTTPS://NEW", "HTTPS://OLD"]
    assert [app.title for app in trending] == ["HTTPS://NEW"]


def test_apps_of_some_categories_are_ranked_with_all_of_their_requests(tmp_path: Path) -> None:
    named = {"https://cli": ("cli-agent",), "https://both": ("cli-agent", "game"), "https://x": ()}
    rows = [row_on(0, 50, app_url=url) for url in named]
    rows += [row_on(6, 9, app_url=url, app_categories=of) for url, of in named.items()]
    rows += [row_on(7, 1, app_url="https://both"), row_on(7, 1_000)]

    def ranked(rank: Any, categories: tuple[str, ...] | None) -> Any:
        return lambda c: [(a.title[8:], a.tokens) for a in rank(c, days(6, 7), categories)]

    popular, trending = statistics.popular_apps, statistics.trending_apps
    every, agents, either, games, nobody = ask(
        tmp_path,
        rows,
        ranked(popular, None),
        ranked(popular, ("cli-agent",)),
        ranked(popular, ("cli-agent", "game")),
        ranked(trending, ("game",)),
        ranked(popular, ("legal",)),
    )
    assert every == [("BOTH", 10), ("CLI", 9), ("X", 9)]
    assert agents == either == [("BOTH", 10), ("CLI", 9)]
    assert (games, nobody) == ([], [])  # it used more before


@pytest.mark.parametrize(
    ("part", "total"),
    [
        (Slice(), 900 + 9_000 + 90_000 + 20),
        (Slice(context_tokens=1_000), 900 + 20),
        (Slice(context_tokens=10_000), 9_000),
        (Slice(has_images=True), 9_000),
        (Slice(has_tool_calls=True), 90_000),
    ],
    ids=lambda value: str(value).removeprefix("Slice"),
)
def test_models_are_ranked_by_the_tokens_of_a_slice(
    tmp_path: Path, part: Slice, total: int
) -> None:
    rows = [
        row_on(0, 900),
        row_on(1, 9_000, num_images=1),
        row_on(2, 90_000, has_tool_calls=True, model="tools"),
        row_on(2, 20, model="small"),
        row_on(9, 5),
    ]

    def rank(connection: Connection) -> list[Any]:
        when = days(0, 2)
        daily = statistics.model_tokens(connection, when, part, lambda day_s: day_s)
        whole = statistics.model_tokens(connection, when, part, lambda _: 0)
        return [daily, whole]

    ((daily, whole),) = ask(tmp_path, rows, rank)
    assert sum(row.tokens for row in daily) == sum(row.tokens for row in whole) == total
    assert [row.begin_s for row in daily] == sorted(row.begin_s for row in daily)
    assert [row.tokens for row in whole] == sorted((row.tokens for row in whole), reverse=True)
    by_model = Counter[str]()
    for row in daily:
        by_model[row.model] += row.tokens
    assert by_model == {row.model: row.tokens for row in whole}


def test_what_keys_have_spent_is_that_of_their_days(tmp_path: Path) -> None:
    rows = [
        row_on(0, 1, key="k1", cost_microusd=5),
        row_on(3, 1, key="k1", cost_microusd=7),
        row_on(3, 1, key="k2", cost_microusd=11),
    ]
    ask(tmp_path, rows)

    class Reader:
        async def run(self, work: Any, *args: Any) -> Any:
            (result,) = await asyncio.to_thread(
                run, tmp_path / "outrider.db", lambda c: work(c, *args)
            )
            return result

    async def main() -> list[int]:
        spending = LedgerSpending(Reader())  # type: ignore[arg-type]
        since = (0, FIRST_S + 3 * DAY_S, FIRST_S + 4 * DAY_S)
        return [await spending.spent("k1", each) for each in since]

    assert asyncio.run(main()) == [12, 7, 0]
