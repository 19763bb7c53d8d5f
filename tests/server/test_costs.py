"""What answers cost and what keys may spend, over real sockets: told, written and held to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.endpoint import Endpoint, Host
from outrider.metering.key_store import add_key
from outrider.routing_types import Price
from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.keyed import bearer, database_of, secret_key
from server.scripted import MODEL, Running, ScriptedProvider, Step, serving
from server.test_ledger import ledger_of, next_row
from storage.records import run

CHAT = "/api/v1/chat/completions"
PRICE = Price(prompt=1_000_000, completion=10_000_000, cached=500_000)  # 1, 10, 0.5 per token
COST = 3 + 2 + 5 * 10  # of 7 prompt tokens, 4 of them cached, and 5 tokens


def body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x"}]
    return {"model": MODEL, "messages": messages, "max_tokens": 5, **fields}


def script(request: GenerationRequest) -> Iterator[Step]:
    yield Started(MODEL, prompt_tokens=7)
    yield TextDelta(0, "Hello", num_tokens=5)
    yield Finished(0, "stop")
    yield Completed(Usage(7, 5, 4))


@contextmanager
def priced(folder: Path, script: Any = script, **keys: int) -> Iterator[Running]:
    """Serve a model that costs; keys have a limit in microusd each."""
    folder.mkdir(exist_ok=True)
    for secret, limit in keys.items():
        key = secret_key(secret, secret, limit_microusd=limit)
        run(database_of(folder), lambda c, it=key: add_key(c, it))
    provider = ScriptedProvider(script)
    endpoint = Endpoint(host=Host(), model=MODEL, provider=provider, price=PRICE)
    catalogue = Catalogue([Entry(provider, endpoints=(endpoint,))])
    with serving(catalogue, data_dir=str(folder), auth="on") as it:
        yield it


def ask(server: Running, secret: str, **fields: Any) -> Any:
    return server.ask("POST", CHAT, body(**fields), **bearer(secret))


def test_answers_say_their_cost_whole_and_streamed_and_so_does_the_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with priced(folder, rich=10**9) as server:
        whole = ask(server, "rich").json()
        assert whole["usage"]["cost"] == COST / 10**6
        row = next_row(folder, 0)
        assert (row.cost_microusd, row.key, row.price) == (COST, secret_key("rich").id, 1)
        lines = ask(server, "rich", stream=True).body.split(b"\n")
        chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
        assert [chunk["usage"]["cost"] for chunk in chunks if "usage" in chunk] == [COST / 10**6]
        shown = server.ask("GET", "/api/v1/key", **bearer("rich")).json()["data"]
        assert (shown["usage"], shown["usage_daily"]) == (2 * COST / 10**6, 2 * COST / 10**6)


def test_what_was_spent_is_known_after_a_restart(tmp_path: Path) -> None:
    folder, limit = tmp_path / "data", 2 * COST
    with priced(folder, poor=limit) as server:
        assert ask(server, "poor").status == 200
    with priced(folder) as server:
        shown = server.ask("GET", "/api/v1/key", **bearer("poor")).json()["data"]
        assert (shown["usage"], shown["limit_remaining"]) == (COST / 10**6, COST / 10**6)
        refused = ask(server, "poor", max_tokens=100)
        assert (refused.status, refused.json()["error"]["code"]) == (402, 402)
    assert [row.status for row in ledger_of(folder)] == [200, 402]


def test_many_requests_on_the_last_cent_pass_it_by_one_reservation_at_most(tmp_path: Path) -> None:
    folder, num_requests, limit = tmp_path / "data", 60, 10 * COST
    gate = threading.Event()

    def waiting(request: GenerationRequest) -> Iterator[Step]:
        for _ in range(500):
            if gate.is_set():
                break
            yield 0.01
        yield from script(request)

    with priced(folder, waiting, poor=limit) as server:
        with ThreadPoolExecutor(num_requests) as pool:
            asked = [pool.submit(ask, server, "poor") for _ in range(num_requests)]
            while sum(each.done() for each in asked) < num_requests - 20:
                assert not any(each.done() and each.result().status == 200 for each in asked)
                time.sleep(0.01)
            gate.set()
            statuses = [each.result().status for each in asked]
        assert set(statuses) == {200, 402}
        # So much was reserved for their prompts that some of the limit is left for one at a time.
        while statuses[-1] == 200 or len(statuses) == num_requests:
            statuses.append(ask(server, "poor").status)
        shown = server.ask("GET", "/api/v1/key", **bearer("poor")).json()["data"]
    spent = sum(row.cost_microusd for row in ledger_of(folder))
    assert shown["usage"] * 10**6 == spent == statuses.count(200) * COST
    # Each sets aside what its prompt can have at most: fewer run at once than the limit pays for.
    assert limit // 2 < spent <= limit
