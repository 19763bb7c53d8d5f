"""Vectors from other hosts through the server: every wire in and out, the fallbacks, the ledger.

The hosts are scripted, on real sockets, and made of the settings as a file would have them.
"""

from __future__ import annotations

import base64
import json
import struct
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from outrider.config_providers import read_providers
from outrider.gateway.embeddings import EmbeddingCatalogue
from outrider.gateway.hosts import embedding_endpoints, entries_of
from outrider.gateway.remote_hosts import RemoteHosts
from outrider.metering.key_store import add_key
from server.keyed import bearer, database_of, secret_key
from server.scripted import PATIENCE_S, Running, ScriptedProvider, serving, wait_until
from server.test_ledger import ledger_of
from storage.records import run
from upstreams.scripted import Reply, Scripted, Stall, scripted, whole
from upstreams.vectors import TOKENS, embed

RUN = "/client/v4/accounts/a/ai/run/"
PATHS = ("/v1/embeddings", "/api/v1/embeddings", "/client/v4/accounts/a/ai/v1/embeddings")
TEXTS = ["one", "second"]
VECTORS = [[0.0, 3.0, 3.0], [1.0, 6.0, 3.0]]
# Of each, a token costs what follows: the free one is asked first.
HOSTS = """
[bad]
kind = "openai"
base_url = "{bad.base_url}"
models.both = {{ {vectors} }}
models.bad-only = {{ {vectors} }}
[good]
kind = "openai"
base_url = "{good.base_url}"
display_name = "Good"
models.both = {{ {vectors}, price = {{ prompt = 2, request = 0.001 }} }}
models.openai = {{ {vectors}, price = {{ prompt = 2 }}, aliases = ["also"] }}
[routed]
kind = "openrouter"
base_url = "{good.base_url}"
models.openrouter = {{ {vectors}, price = {{ prompt = 2 }} }}
[cf]
kind = "workers-ai"
base_url = "{good.workers_ai_url}"
models.workers-ai = {{ {vectors}, price = {{ prompt = 2 }} }}
"""
MODELS = ("openai", "openrouter", "workers-ai")


@dataclass(frozen=True)
class Fleet:
    server: Running
    bad: Scripted
    good: Scripted
    folder: Path

    def ask(self, path: str, model: str, **fields: Any) -> Any:
        if path == RUN:
            return self.server.ask("POST", RUN + model, {"text": TEXTS, **fields})
        return self.server.ask("POST", path, {"model": model, "input": TEXTS, **fields})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("vectors") / "data"
    folder.mkdir()
    key = secret_key("poor", "poor", limit_microusd=30)
    run(database_of(folder), lambda c: add_key(c, key))
    with scripted() as bad, scripted() as good:
        text = HOSTS.format(bad=bad, good=good, vectors='capabilities = ["embeddings"]')
        hosts = RemoteHosts()
        named = embedding_endpoints(read_providers(tomllib.loads(text), {}), hosts.build_embedder)
        catalogue = EmbeddingCatalogue(entries_of(named))
        with serving(
            ScriptedProvider(), catalogue, close=hosts.close, data_dir=str(folder)
        ) as server:
            yield Fleet(server, bad, good, folder)


@pytest.fixture
def fleet(running: Fleet) -> Fleet:
    for host in (running.bad, running.good):
        host.reset()
        host.script = embed
    return running


def rows_of(fleet: Fleet, model: str) -> list[Any]:
    return [row for row in ledger_of(fleet.folder) if row.model == model]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("path", [*PATHS, RUN])
def test_vectors_tokens_and_costs_arrive_on_every_wire_from_every_kind_of_host(
    fleet: Fleet, path: str, model: str
) -> None:
    num_before = len(rows_of(fleet, model))
    reply = fleet.ask(path, model)
    answer = reply.json()
    host = {"openai": "good", "openrouter": "routed", "workers-ai": "cf"}[model]
    assert reply.headers["x-outrider-attempts"] == f"{host}:200"
    if path == RUN:
        assert answer["result"] == {"shape": [2, 3], "data": VECTORS}
    else:
        assert [one["embedding"] for one in answer["data"]] == VECTORS
        assert (answer["model"], answer["usage"]["prompt_tokens"]) == (model, TOKENS)
    if path == "/api/v1/embeddings":
        assert answer["usage"]["cost"] == 2 * TOKENS / 10**6
        assert answer["provider"] == ("Good" if host == "good" else host)
    wait_until(lambda: len(rows_of(fleet, model)) > num_before)
    row = rows_of(fleet, model)[-1]
    assert (row.model, row.provider, row.api_type) == (model, host, "embeddings")
    assert (row.prompt_tokens, row.cost_microusd, row.is_estimated) == (
        TOKENS,
        2 * TOKENS,
        False,
    )
    assert row.upstream_id == "embd-up1"


@pytest.mark.parametrize("model", MODELS)
def test_base64_and_fewer_dimensions_are_what_was_asked_for(fleet: Fleet, model: str) -> None:
    data = fleet.ask("/v1/embeddings", model, encoding_format="base64").json()["data"]
    found = [base64.b64decode(one["embedding"]) for one in data]
    assert found == [struct.pack("<3f", *vector) for vector in VECTORS]
    reply = fleet.ask("/v1/embeddings", model, dimensions=2)
    if model == "workers-ai":
        assert (reply.status, reply.json()["error"]["param"]) == (400, "dimensions")
    else:
        assert [one["embedding"] for one in reply.json()["data"]] == [[0.0, 3.0], [1.0, 6.0]]


def test_token_ids_go_where_they_can(fleet: Fleet) -> None:
    reply = fleet.ask("/v1/embeddings", "openai", input=[[1, 2], [3]])
    assert [one["embedding"] for one in reply.json()["data"]] == [[0.0, 2.0, 3.0], [1.0, 1.0, 3.0]]
    reply = fleet.ask("/api/v1/embeddings", "workers-ai", input=[1, 2])
    assert reply.status == 400
    assert "takes texts, not token ids" in reply.json()["error"]["message"]


def test_a_pooling_is_honoured_or_refused_by_name(fleet: Fleet) -> None:
    reply = fleet.ask(RUN, "workers-ai", pooling="cls")
    assert reply.json()["result"]["pooling"] == "cls"
    reply = fleet.ask(RUN, "openai", pooling="cls")
    assert reply.status == 400
    assert "can't be told how to pool" in reply.json()["errors"][0]["message"]


def test_a_failure_is_hidden_and_the_row_has_every_attempt(fleet: Fleet) -> None:
    fleet.bad.script = lambda seen: whole({"error": {"message": "no"}}, 429, **{"retry-after": "1"})
    reply = fleet.ask("/v1/embeddings", "both")
    assert (reply.status, reply.headers["x-outrider-attempts"]) == (200, "bad:429,good:200")
    assert fleet.ask("/v1/embeddings", "both").headers["x-outrider-attempts"] == "good:200"
    wait_until(lambda: len(rows_of(fleet, "both")) == 2)
    row = rows_of(fleet, "both")[0]
    assert row.cost_microusd == 1000 + 2 * TOKENS
    assert [each["status"] for each in row.attempts] == [429, 200]


def test_a_failure_of_everybody_is_told_on_each_wire_and_costs_nothing(fleet: Fleet) -> None:
    fleet.bad.script = lambda seen: whole({"error": {"message": "no"}}, 504)
    replies = [fleet.ask(path, "bad-only") for path in (*PATHS, RUN)]
    assert {reply.headers["x-outrider-attempts"] for reply in replies} == {"bad:504"}
    for reply in replies:
        assert reply.status >= 400
        assert b"status 504" in reply.body or b"Request timeout" in reply.body
    wait_until(lambda: len(rows_of(fleet, "bad-only")) == len(replies))
    rows = rows_of(fleet, "bad-only")
    assert {(row.cost_microusd, row.error_code) for row in rows} == {(0, "provider_timeout")}


def test_openrouters_wishes_say_who_answers(fleet: Fleet) -> None:
    reply = fleet.ask("/api/v1/embeddings", "both", provider={"only": ["good"], "mood": 1})
    assert reply.headers["x-outrider-attempts"] == "good:200"
    assert reply.headers["x-outrider-ignored"] == "provider.mood"
    reply = fleet.ask("/api/v1/embeddings", "both", provider={"only": ["elsewhere"]})
    assert reply.status == 404
    assert "bad is out by only; good is out by only" in reply.json()["error"]["message"]


def test_a_key_spends_what_vectors_cost_and_no_more(fleet: Fleet) -> None:
    body = {"model": "openai", "input": TEXTS}
    assert fleet.server.ask("POST", "/v1/embeddings", body, **bearer("poor")).status == 200
    long = body | {"input": "word " * 20}
    refused = fleet.server.ask("POST", "/v1/embeddings", long, **bearer("poor"))
    assert (refused.status, len(fleet.good.seen)) == (402, 1)


def test_models_are_listed_and_their_breakers_shown(fleet: Fleet) -> None:
    listed = [model["id"] for model in fleet.server.ask("GET", "/v1/models").json()["data"]]
    assert listed == ["fake-model", "both", "bad-only", *MODELS]
    assert fleet.server.ask("GET", "/v1/models/also").json()["id"] == "openai"
    metrics = fleet.server.ask("GET", "/metrics").body.decode()
    assert 'outrider_provider_breaker{model="openrouter",provider="routed"} 0.0' in metrics


def test_a_client_that_leaves_takes_its_request_with_it(fleet: Fleet) -> None:
    fleet.good.script = lambda seen: Reply([b"{", Stall()])
    num_gone = fleet.good.num_gone
    body = json.dumps({"model": "openai", "input": "a"}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n\r\n"
    with fleet.server.connect(head.encode() + body):
        wait_until(lambda: bool(fleet.good.seen))
    wait_until(lambda: any(row.is_cancelled for row in rows_of(fleet, "openai")))
    (row,) = [row for row in rows_of(fleet, "openai") if row.is_cancelled]
    assert (row.status, row.cost_microusd) == (499, 0)
    wait_until(lambda: fleet.good.num_gone > num_gone)


def test_a_batch_of_vectors_has_an_exact_row_for_each_item(fleet: Fleet) -> None:
    lines = [
        {"custom_id": f"i{i}", "method": "POST", "url": "/v1/embeddings", "body": {
            "model": "both", "input": ["x" * i, "y"]}}
        for i in range(1, 6)
    ]  # fmt: skip
    with openai.OpenAI(base_url=f"{fleet.server.url}/v1", api_key="k", max_retries=0) as client:
        data = "\n".join(map(json.dumps, lines)).encode()
        file = client.files.create(file=("in.jsonl", data), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        done = ("completed", "failed")
        wait_until(lambda: client.batches.retrieve(batch.id).status in done, PATIENCE_S)
        ended = client.batches.retrieve(batch.id)
        assert ended.status == "completed" and ended.output_file_id
        results = [
            json.loads(line) for line in client.files.content(ended.output_file_id).iter_lines()
        ]
    lengths = {
        one["custom_id"]: one["response"]["body"]["data"][0]["embedding"][1] for one in results
    }
    assert lengths == {f"i{i}": float(i) for i in range(1, 6)}
    ids = {one["response"]["request_id"] for one in results}

    def rows_of_batch() -> list[Any]:  # rows of tests before this one may still be written
        return [row for row in rows_of(fleet, "both") if row.request_id in ids]

    wait_until(lambda: len(rows_of_batch()) == 5)
    rows = rows_of_batch()
    assert {row.prompt_tokens for row in rows} == {TOKENS}
    assert {(row.provider, row.cost_microusd) for row in rows} <= {
        ("bad", 0),
        ("good", 1000 + 2 * TOKENS),
    }
