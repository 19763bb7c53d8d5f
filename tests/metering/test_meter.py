"""Accounts: what is counted of answers that end, fail, are cut or left, and what it costs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from metering.books import PRICE, Books, opened, played, routed, with_books
from outrider.errors import ProviderError
from outrider.metering.meter import MAX_COUNT, STATUS_CANCELLED, Estimate, Meter
from outrider.metering.pricing import cost_of
from outrider.metering.records import Counts, app_of
from outrider.routing_types import Attempt, Caller, Price
from outrider.types import (
    Completed,
    Embeddings,
    Event,
    Finished,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

ANSWER: tuple[Event, ...] = (
    Started("m", prompt_tokens=10),
    TextDelta(0, "a", num_tokens=2),
    TextDelta(0, "b", num_tokens=1),
    Finished(0, "stop", num_tokens=1, native_reason="eos"),
    Completed(Usage(10, 4, 6)),
)


def account_of(meter: Meter, row_id: str = "gen-1"):
    return meter.open(opened(row_id), Caller(), routed())


def test_an_answer_that_ends_is_counted_at_its_usage_and_says_its_cost(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        trace = routed(attempts=[Attempt(provider="p", model="m", status=200, upstream_id="u")])
        account = books.meter.open(opened(user_agent="me"), Caller(), trace)
        events = [event async for event in account.watch(played(ANSWER))]
        assert events[:-1] == list(ANSWER[:-1])
        cost = 4 * 2 + 6 * 1 + 4 * 6
        assert events[-1] == Completed(Usage(10, 4, 6), cost)
        account.close(200)
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (10, 4, 6)
        assert (row.cost_microusd, row.status, row.error_code) == (cost, 200, "")
        assert (row.finish_reason, row.native_reason) == ("stop", "eos")
        assert (row.provider, row.user_agent, row.is_estimated) == ("p", "me", False)
        assert row.attempts[0]["upstream_id"] == "u"
        assert row.first_token_ms is not None

    with_books(tmp_path, work)


def test_a_stream_that_its_caller_leaves_is_charged_for_what_was_handed_on(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = account_of(books.meter)
        async with aclosing(account.watch(played(ANSWER))) as events:
            await anext(events)
            await anext(events)
        account.close(STATUS_CANCELLED)
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens) == (10, 2)
        assert (row.cost_microusd, row.is_cancelled, row.is_estimated) == (32, True, False)

    with_books(tmp_path, work)


def test_a_stream_that_its_host_cuts_is_counted_and_costs_nothing(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = account_of(books.meter)
        with pytest.raises(ProviderError):
            async for _ in account.watch(played([*ANSWER[:3], ProviderError("cut")])):
                pass
        account.close(200, "provider_unavailable")
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens, row.cost_microusd) == (10, 3, 0)
        assert (row.error_code, row.finish_reason) == ("provider_unavailable", "")

    with_books(tmp_path, work)


def test_a_whole_answer_that_fails_has_no_completion_and_one_that_is_left_what_was_computed(
    tmp_path: Path,
) -> None:
    async def work(books: Books) -> None:
        for row_id, status, code in (("failed", 502, "x"), ("left", STATUS_CANCELLED, "")):
            account = books.meter.open(opened(row_id, is_streamed=False), Caller(), routed())
            with pytest.raises(ProviderError):
                async for _ in account.watch(played([*ANSWER[:3], ProviderError("cut")])):
                    pass
            account.close(status, code)
        failed, left = await books.rows()
        assert (failed.prompt_tokens, failed.completion_tokens, failed.cost_microusd) == (10, 0, 0)
        assert (left.completion_tokens, left.cost_microusd) == (3, 10 * 2 + 3 * 6)

    with_books(tmp_path, work)


def test_what_a_host_does_not_count_is_one_token_per_event_and_marked(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = books.meter.open(opened(), Caller(), routed(prompt_tokens_estimate=9))
        silent = [Started("m"), TextDelta(0, "a"), ToolCallDelta(0, 0, "{", "id", "f")]
        async with aclosing(account.watch(played(silent))) as events:
            async for _ in events:
                pass
        account.close(STATUS_CANCELLED)
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens) == (9, 2)
        assert row.is_estimated

    with_books(tmp_path, work)


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [(("Hel", "lo"), 2), (("a whole answer of 32 characters.",), 8)],
    ids=["streamed", "whole"],
)
def test_an_answer_whose_host_states_no_usage_is_counted_and_told_so(
    tmp_path: Path, texts: tuple[str, ...], tokens: int
) -> None:
    async def work(books: Books) -> None:
        account = books.meter.open(opened(), Caller(), routed(prompt_tokens_estimate=5))
        parts = (*(TextDelta(0, text) for text in texts), Finished(0, "stop"))
        script = (Started("m"), *parts, Completed(Usage(0, 0)))
        events = [event async for event in account.watch(played(script))]
        cost = 5 * 2 + tokens * 6
        assert events[-1] == Completed(Usage(5, tokens), cost)
        account.close(200)
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens) == (5, tokens)
        assert (row.cost_microusd, row.is_estimated) == (cost, True)

    with_books(tmp_path, work)


def test_a_usage_that_nobody_can_mean_is_brought_to_what_the_ledger_holds(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = account_of(books.meter)
        bad = [*ANSWER[:-1], Completed(Usage(-5, 10**30, 10**30))]
        async for _ in account.watch(played(bad)):
            pass
        account.close(200)
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens) == (0, MAX_COUNT)

    with_books(tmp_path, work)


def test_rounds_of_one_request_are_one_row_with_their_sum(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = account_of(books.meter)
        for _ in range(2):
            async for _ in account.watch(played(ANSWER)):
                pass
        async with aclosing(account.watch(played(ANSWER))) as events:
            await anext(events)
            await anext(events)
        account.close(STATUS_CANCELLED)
        (row,) = await books.rows()
        assert (row.prompt_tokens, row.completion_tokens) == (30, 10)
        assert row.cost_microusd == 2 * 38 + 20 + 12

    with_books(tmp_path, work)


def test_an_account_is_settled_once(tmp_path: Path) -> None:
    settled = []

    class Reservation:
        def settle(self, cost_microusd: int, tokens: int) -> None:
            settled.append((cost_microusd, tokens))

    class Budgets:
        def reserve(self, caller: Caller, estimate: Estimate) -> Reservation:
            assert estimate == (99, 12, 120, 40)
            return Reservation()

    async def work(books: Books) -> None:
        books.meter.budgets = Budgets()
        account = books.meter.open(opened(), Caller(), routed(), Estimate(99, 12, 120, 40))
        async for _ in account.watch(played(ANSWER)):
            pass
        account.close(200)
        account.close(500, "internal_error")
        account.abandon()
        assert [row.status for row in await books.rows()] == [200]
        assert settled == [(38, 14)]

    with_books(tmp_path, work)


def test_a_request_that_is_begun_again_counts_its_last_run_only(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = books.meter.open(opened(), Caller(), routed(), is_repeatable=True)
        with pytest.raises(ProviderError):
            async for _ in account.watch(played([*ANSWER[:3], ProviderError("gone")])):
                pass
        account.restart()
        async for _ in account.watch(played(ANSWER)):
            pass
        account.close(200)
        (row,) = await books.rows()
        assert (row.completion_tokens, row.cost_microusd, row.is_estimated) == (4, 38, False)

    with_books(tmp_path, work)


def test_embeddings_cost_their_prompt_and_failures_nothing(tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        account = account_of(books.meter)
        assert account.count_vectors(Embeddings("m", b"", 1, "", Usage(7, 0))) == 14
        account.close(200)
        account_of(books.meter, "gen-2").close(502, "provider_unavailable")
        rows = await books.rows()
        assert [(row.prompt_tokens, row.cost_microusd) for row in rows] == [(7, 14), (0, 0)]

    with_books(tmp_path, work)


def test_what_ends_before_there_is_a_ledger_is_written_when_there_is_one(tmp_path: Path) -> None:
    meter = Meter()
    account_of(meter).close(503, "engine_overloaded")

    async def work(books: Books) -> None:
        meter.start(books.writer)
        assert [row.status for row in await books.rows()] == [503]

    with_books(tmp_path, work)


def test_costs_are_rounded_to_the_nearest_microusd_and_requests_and_images_have_theirs() -> None:
    price = Price(prompt=500_000, completion=0, request=3, image=10)
    assert cost_of(price, Counts(prompt_tokens=1)) == 1 + 3
    assert cost_of(price, Counts(prompt_tokens=2), num_images=2) == 1 + 3 + 20
    assert cost_of(Price(prompt=499_999), Counts(prompt_tokens=1)) == 0
    assert cost_of(PRICE, Counts(prompt_tokens=3, cached_tokens=9)) == 3


@pytest.mark.parametrize(
    ("url", "title", "app"),
    [
        ("https://Example.com/chat?token=secret", "", ("https://example.com", "example.com")),
        ("https://example.com:8443/", "My App", ("https://example.com:8443", "My App")),
        ("http://localhost:3000/x", "", ("", "")),
        ("http://localhost:3000/x", "Mine", ("http://localhost:3000", "Mine")),
        ("http://[::1]:3000/x", "Mine", ("http://[::1]:3000", "Mine")),
        ("javascript:alert(1)", "Mine", ("", "")),
        ("https://host:port/", "Mine", ("", "")),
        ("", "Mine", ("", "")),
    ],
)
def test_an_app_is_the_origin_of_its_referer(url: str, title: str, app: tuple[str, str]) -> None:
    assert app_of(url, title) == app


def test_a_watched_stream_closes_what_it_watches() -> None:
    closed = []

    async def endless():
        try:
            while True:
                yield Started("m")
        finally:
            closed.append(True)

    async def main() -> None:
        account = account_of(Meter())
        async with aclosing(account.watch(endless())) as events:
            await anext(events)
        assert closed == [True]

    asyncio.run(main())
