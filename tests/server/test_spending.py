"""Budgets over real sockets: the last cent, restarts, and what the wires say when it is gone."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.endpoint import Endpoint, Host
from outrider.metering.key_store import add_key
from outrider.routing_types import Price
from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.keyed import bearer, database_of, secret_key
from server.scripted import (
    MODEL,
    Running,
    ScriptedProvider,
    Step,
    raw_post,
    serving,
    silent,
    wait_until,
)
from server.test_ledger import ledger_of
from storage.records import run

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 6}
PRICE = Price(completion=100_000_000)  # 100 microusd a token
COST = 600  # of an answer
CENT = 10_000


def six_tokens(request: GenerationRequest) -> Iterator[Step]:
    """Take a moment, so that requests overlap, and answer with as many tokens as are asked for."""
    yield Started(MODEL, prompt_tokens=7)
    yield 0.02
    yield TextDelta(0, "words", num_tokens=6)
    yield Finished(0, "stop")
    yield Completed(Usage(7, 6, 0))


def serve(
    folder: Path, provider: ScriptedProvider | None = None, price: Price = PRICE, **settings: Any
) -> Any:
    provider = provider or ScriptedProvider(six_tokens)
    own = Endpoint(host=Host(), model=MODEL, provider=provider, price=price)
    catalogue = Catalogue([Entry(provider, endpoints=(own,))])
    return serving(catalogue, data_dir=str(folder), auth="on", **settings)


def own(server: Running, secret: str) -> Any:
    return server.ask("GET", "/api/v1/key", **bearer(secret)).json()["data"]


def chat(server: Running, secret: str) -> int:
    return server.ask("POST", "/v1/chat/completions", CHAT, **bearer(secret)).status


def test_many_requests_at_once_on_the_last_cent_spend_it_and_no_more(tmp_path: Path) -> None:
    mine = secret_key("s", limit_microusd=CENT, limit_reset="monthly")
    run(database_of(tmp_path), lambda c: add_key(c, mine))
    with serve(tmp_path) as server, ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(lambda _: chat(server, "s"), range(200)))
        num_answered = CENT // COST
        # What waits for its settlement may be refused for now, so fewer may have been answered.
        assert set(statuses) <= {200, 402}
        assert statuses.count(200) <= num_answered
        while chat(server, "s") == 200:
            pass
        spent = own(server, "s")
        assert round(spent["usage"] * 10**6) == num_answered * COST
        assert round(spent["limit_remaining"] * 10**6) == CENT - num_answered * COST
    with serve(tmp_path) as server:  # what was spent is in the ledger
        assert own(server, "s") == spent
        assert chat(server, "s") == 402
    rows = [row for row in ledger_of(tmp_path) if row.status == 200]
    assert [row.cost_microusd for row in rows] == [COST] * num_answered
    assert {(row.status, row.completion_tokens) for row in rows} == {(200, 6)}


def test_many_prompts_that_are_longer_than_they_look_exceed_a_budget_by_one_request(
    tmp_path: Path,
) -> None:
    """Digits have a token each, four times as many as English has in so many bytes."""
    digits = "7" * 400

    def digits_in(request: GenerationRequest) -> Iterator[Step]:
        yield from list(six_tokens(request))[:-1]
        yield Completed(Usage(420, 6, 0))

    cost = 420 * 10 + 600
    price = Price(prompt=10_000_000, completion=100_000_000)
    mine = secret_key("s", limit_microusd=5 * CENT)
    run(database_of(tmp_path), lambda c: add_key(c, mine))
    body = {**CHAT, "messages": [{"role": "user", "content": digits}]}

    def send(server: Running) -> int:
        return server.ask("POST", "/v1/chat/completions", body, **bearer("s")).status

    with serve(tmp_path, ScriptedProvider(digits_in), price) as server:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(lambda _: send(server), range(200)))
        while send(server) == 200:
            pass
    spent = sum(row.cost_microusd for row in ledger_of(tmp_path))
    assert 5 * CENT - cost < spent <= 5 * CENT + cost


def test_what_a_budget_or_a_rate_refuses_has_a_row(tmp_path: Path) -> None:
    keys = {
        "poor": secret_key("poor", limit_microusd=1),
        "fast": secret_key("fast", tokens_per_minute=20),
    }
    for key in keys.values():
        run(database_of(tmp_path), lambda c, key=key: add_key(c, key))
    with serve(tmp_path) as server:
        assert [chat(server, name) for name in ("poor", "fast", "fast")] == [402, 200, 429]
        reply = server.ask("POST", "/api/v1/chat/completions", CHAT, **bearer("poor"))
        shown = server.ask(
            "GET", f"/api/v1/generation?id={reply.headers['x-generation-id']}", **bearer("poor")
        )
        assert shown.json()["data"]["total_cost"] == 0
    rows = [(row.key, row.status, row.error_code) for row in ledger_of(tmp_path)]
    assert sorted(rows) == sorted(
        [
            *[(keys["poor"].id, 402, "insufficient_quota")] * 2,
            (keys["fast"].id, 200, ""),
            (keys["fast"].id, 429, "rate_limit_exceeded"),
        ]
    )


def test_requests_without_max_tokens_do_not_exceed_tokens_per_minute_together(
    tmp_path: Path,
) -> None:
    """They did: only their prompts were counted until they ended."""
    open_ended = {"model": MODEL, "messages": MESSAGES}
    run(database_of(tmp_path), lambda c: add_key(c, secret_key("s", tokens_per_minute=300)))
    gate = threading.Event()

    def gated(request: GenerationRequest) -> Iterator[Step]:
        for _ in range(500):
            if gate.is_set():
                break
            yield 0.01
        yield from six_tokens(request)

    def send(server: Running, **fields: Any) -> int:
        body = open_ended | fields
        return server.ask("POST", "/v1/chat/completions", body, **bearer("s")).status

    provider = ScriptedProvider(gated)
    with serve(tmp_path, provider) as server, ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(send, server) for _ in range(10)]
        wait_until(lambda: sum(each.done() for each in asked) == 9)
        assert send(server, max_tokens=1) == 429
        gate.set()
        assert Counter(each.result() for each in asked) == {200: 1, 429: 9}
        assert [send(server) for _ in range(5)] == [200] * 5  # what wasn't used is given back


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat/completions", CHAT, 402, b'"code":"insufficient_quota"'),
        ("/api/v1/chat/completions", CHAT, 402, b'"error_type":"payment_required"'),
        ("/api/v1", {"model": MODEL, "data": {"messages": MESSAGES}}, 429, b'"code":3036'),
        (f"/client/v4/accounts/a/ai/run/{MODEL}", {"messages": MESSAGES}, 429, b'"code":3036'),
    ],
)
def test_a_budget_that_is_gone_is_told_before_anything_runs(
    path: str, body: dict[str, Any], status: int, code: bytes, broke: Running
) -> None:
    for is_stream in (False, True):
        reply = broke.ask("POST", path, {**body, "stream": is_stream}, **bearer("s"))
        assert reply.status == status
        assert code in reply.body
        assert b"lower max_tokens or raise the limit" in reply.body


@pytest.fixture(scope="module")
def broke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("broke")
    poor = secret_key("s", limit_microusd=1)
    run(database_of(folder), lambda c: add_key(c, poor))
    with serve(folder) as it:
        yield it


def test_a_client_that_leaves_pays_for_what_it_got_and_frees_the_rest(tmp_path: Path) -> None:
    def slow(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL, prompt_tokens=7)
        yield TextDelta(0, "two", num_tokens=2)
        yield 30.0

    run(database_of(tmp_path), lambda c: add_key(c, secret_key("s", limit_microusd=COST)))
    provider = ScriptedProvider(slow)
    with serve(tmp_path, provider) as server:
        body = json.dumps({**CHAT, "stream": True}).encode()
        request = raw_post("/v1/chat/completions", body, "authorization: Bearer s")
        with server.connect(request) as connection:
            received = b""
            while b"two" not in received:
                received += connection.recv(1000)
            assert chat(server, "s") == 402  # all of it is reserved
        wait_until(lambda: own(server, "s")["usage"] == pytest.approx(200e-6))
        provider.script = six_tokens
        assert chat(server, "s") == 402
        assert own(server, "s")["limit_remaining"] == pytest.approx(400e-6)


def test_a_storm_of_clients_that_leave_at_every_stage_leaves_nothing_reserved(
    tmp_path: Path,
) -> None:
    run(database_of(tmp_path), lambda c: add_key(c, secret_key("s", limit_microusd=80 * COST)))
    everything = {**CHAT, "max_tokens": 80 * CHAT["max_tokens"]}

    def script(asked: GenerationRequest) -> Iterator[Step]:
        is_of_the_storm = asked.sampling.max_tokens == CHAT["max_tokens"]
        return iter(silent(asked)) if is_of_the_storm else six_tokens(asked)

    provider = ScriptedProvider(script)
    body = json.dumps({**CHAT, "stream": True}).encode()
    request = raw_post("/v1/chat/completions", body, "authorization: Bearer s")
    with serve(tmp_path, provider) as server:
        for number in range(100):
            share = number % 4 + 1  # a part of the head, of the body, or all of it
            with server.connect(request[: len(request) * share // 4]):
                if number % 16 == 3:
                    wait_until(lambda: provider.num_running > 0)
        path = "/v1/chat/completions"
        wait_until(lambda: server.ask("POST", path, everything, **bearer("s")).status == 200)
