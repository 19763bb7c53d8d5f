"""Batches of keys with limits: what is full for the moment is waited for, what is spent isn't."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from outrider.errors import RateLimited
from outrider.metering.key_store import add_key
from outrider.server import batch_items
from outrider.types import GenerationRequest
from server.keyed import bearer, database_of, secret_key
from server.scripted import PATIENCE_S, Running, ScriptedProvider, Step, raw_post, wait_until
from server.test_batches import finished, line, results, submit
from server.test_spending import CENT, CHAT, serve, six_tokens
from storage.records import run

CHAT_PATH = "/v1/chat/completions"
SLOW = {"tokens_per_minute": 1000}  # for one request of 500 tokens at a time
KEYS: dict[str, dict[str, Any]] = {
    "manage": {"kind": "management"},
    "free": {},
    "slow": SLOW,
    "turns": SLOW,
    "disabled": SLOW,
    "cancelled": SLOW,
    "rich": {"limit_microusd": CENT},
    "poor": {"limit_microusd": CENT},
}


def held(request: GenerationRequest) -> Iterator[Step]:
    """Answer batches; requests that come alone think until their clients leave."""
    return six_tokens(request) if request.is_background else iter([30.0])


PROVIDER = ScriptedProvider(held)


@pytest.fixture(scope="module")
def refused() -> Iterator[Counter[str]]:
    """Count by keys how often items had to wait for tokens."""
    counts: Counter[str] = Counter()
    opened = batch_items.open_repeatable

    def open_counted(*args: Any, **kwargs: Any) -> Any:
        try:
            return opened(*args, **kwargs)
        except RateLimited:
            counts[args[1].caller.name] += 1
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_items, "open_repeatable", open_counted)
        patch.setattr(batch_items, "FULL_S", 0.01)
        yield counts


def add_keys(folder: Path) -> None:
    for secret, fields in KEYS.items():
        made = secret_key(secret, secret, **fields)
        run(database_of(folder), lambda c, it=made: add_key(c, it))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, refused: Counter[str]) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("limits")
    add_keys(folder)
    with serve(folder, PROVIDER) as it:
        yield it


@contextmanager
def client_of(server: Running, secret: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=secret, max_retries=0, timeout=PATIENCE_S
    ) as it:
        yield it


def items(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [line(str(number), **fields) for number in range(count)]


@contextmanager
def live(server: Running, secret: str) -> Iterator[None]:
    """Let a request of a slow key run that has set aside more than half of its tokens."""
    body = json.dumps({**CHAT, "max_tokens": 500, "stream": True}).encode()
    request = raw_post(CHAT_PATH, body, f"authorization: Bearer {secret}")
    before = num_live()
    with server.connect(request):
        wait_until(lambda: num_live() > before)
        yield


def num_live() -> int:
    return sum(not request.is_background for request in PROVIDER.requests)


def statuses(client: openai.OpenAI, batch: openai.types.Batch) -> Counter[int]:
    rows = results(client, finished(client, batch)).values()
    return Counter(row["response"]["status_code"] for row in rows)


def test_items_wait_for_tokens_that_others_of_their_key_have_set_aside(
    server: Running, refused: Counter[str]
) -> None:
    with client_of(server, "slow") as client:
        batch = submit(client, items(12, max_tokens=500))
        assert statuses(client, batch) == {200: 12}
    assert refused["slow"] > 0


def test_items_wait_for_money_that_others_of_their_key_have_set_aside(server: Running) -> None:
    with client_of(server, "rich") as client:
        batch = submit(client, items(6, max_tokens=60))
        assert statuses(client, batch) == {200: 6}


def test_items_fail_once_the_money_is_spent(server: Running) -> None:
    with client_of(server, "poor") as client:
        batch = submit(client, items(12, max_tokens=60))  # each sets 6,000 of 10,000 aside
        assert statuses(client, batch) == {200: 7, 402: 5}


def test_a_key_that_waits_leaves_its_places_to_others(
    server: Running, refused: Counter[str]
) -> None:
    with client_of(server, "turns") as client, client_of(server, "free") as other:
        with live(server, "turns"):
            waiting = submit(client, items(9, max_tokens=500))
            wait_until(lambda: refused["turns"] > 8)
            assert statuses(other, submit(other, items(9))) == {200: 9}
            assert client.batches.retrieve(waiting.id).status == "in_progress"
        assert statuses(client, waiting) == {200: 9}


def test_a_key_that_ends_ends_the_items_that_wait_for_it(
    server: Running, refused: Counter[str]
) -> None:
    path = f"/api/v1/keys/{secret_key('disabled').id}"
    with client_of(server, "disabled") as client, live(server, "disabled"):
        batch = submit(client, items(1, max_tokens=500))
        wait_until(lambda: refused["disabled"] > 0)
        server.ask("PATCH", path, {"disabled": True}, **bearer("manage"))

        def is_over() -> bool:
            rows = server.ask("GET", "/outrider/v1/batches", **bearer("manage")).json()["data"]
            (status,) = (row["status"] for row in rows if row["id"] == batch.id)
            return bool(status == "completed")

        wait_until(is_over)
        server.ask("PATCH", path, {"disabled": False}, **bearer("manage"))
        assert statuses(client, batch) == {401: 1}


def test_a_batch_that_waits_can_be_cancelled(server: Running, refused: Counter[str]) -> None:
    with client_of(server, "cancelled") as client, live(server, "cancelled"):
        batch = submit(client, items(2, max_tokens=500))
        wait_until(lambda: refused["cancelled"] > 0)
        client.batches.cancel(batch.id)
        done = finished(client, batch)
        assert done.status == "cancelled"
        errors = {row["error"]["code"] for row in results(client, done).values()}
        assert errors == {"batch_cancelled"}


def test_a_batch_that_waits_is_gone_on_with_after_a_restart(
    tmp_path: Path, refused: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_keys(tmp_path)
    refused.clear()
    with (
        serve(tmp_path, PROVIDER) as server,
        client_of(server, "slow") as client,
        live(server, "slow"),
    ):
        monkeypatch.setattr(batch_items, "FULL_S", 60.0)  # no wait ends by itself
        batch = submit(client, items(1, max_tokens=500))
        wait_until(lambda: refused["slow"] > 0)
    monkeypatch.undo()
    with serve(tmp_path, PROVIDER) as server, client_of(server, "slow") as client:
        assert statuses(client, batch) == {200: 1}
