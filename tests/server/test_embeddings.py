"""The routes of embeddings over a socket, with a provider that plays and with the real model."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from outrider.errors import EngineOverloaded, InvalidRequest
from outrider.types import EmbeddingRequest, Embeddings, Usage
from server.scripted import Running, ScriptedProvider, serving

MODEL = "fake-embeddings"
RUN = f"/client/v4/accounts/a/ai/run/{MODEL}"


class ScriptedEmbeddings:
    """Gives (number of the text, its length) for every text."""

    name = MODEL

    def __init__(self) -> None:
        self.requests: list[EmbeddingRequest] = []
        self.error: Exception | None = None

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        values = [value for i, text in enumerate(request.texts) for value in (i, len(text))]
        data = struct.pack(f"<{len(values)}f", *values)
        usage = Usage(sum(map(len, request.texts)), 0)
        return Embeddings(MODEL, data, len(request.texts), request.pooling or "mean", usage)


@pytest.fixture
def provider() -> ScriptedEmbeddings:
    return ScriptedEmbeddings()


@pytest.fixture
def server(provider: ScriptedEmbeddings) -> Iterator[Running]:
    with serving(ScriptedProvider(), provider) as running:
        yield running


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/client/v4/accounts/0123456789abcdef/ai/v1/embeddings"]
)
def test_openais_form_is_answered_on_both_wires(server: Running, path: str) -> None:
    body = {"model": MODEL, "input": ["abc", "de"]}
    reply = server.ask("POST", path, body)
    assert reply.status == 200
    assert reply.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0, 3.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 2.0]},
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    encoded = server.ask("POST", path, body | {"encoding_format": "base64"}).json()
    assert base64.b64decode(encoded["data"][1]["embedding"]) == struct.pack("<2f", 1, 2)


def test_native_form_is_answered_where_text_is_generated_too(
    server: Running, provider: ScriptedEmbeddings
) -> None:
    reply = server.ask("POST", RUN, {"text": "abc", "pooling": "cls", "extra": 1})
    assert reply.json() == {
        "result": {"shape": [1, 2], "data": [[0.0, 3.0]], "pooling": "cls"},
        "success": True,
        "errors": [],
        "messages": [],
    }
    assert reply.headers["x-outrider-ignored"] == "extra"
    assert "cf-ray" in reply.headers
    generated = server.ask("POST", RUN.replace(MODEL, "fake-model"), {"prompt": "Hi"})
    assert generated.json()["result"]["response"] == "Hello"
    assert provider.requests[0].param == "text"


def test_openrouters_form_has_an_id_and_a_cost(server: Running) -> None:
    body = {"model": f"{MODEL}:free", "input": "abc", "input_type": "query", "mood": 1}
    reply = server.ask("POST", "/api/v1/embeddings", body | {"provider": {"only": ["local"]}})
    answer = reply.json()
    assert answer["id"] == reply.headers["x-generation-id"]
    assert answer["data"] == [{"object": "embedding", "index": 0, "embedding": [0.0, 3.0]}]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "cost": 0, "is_byok": False}
    assert reply.headers["x-outrider-ignored"] == "mood"


def test_many_vectors_are_all_there(server: Running) -> None:
    reply = server.ask("POST", "/v1/embeddings", {"model": MODEL, "input": ["a"] * 500})
    assert [one["embedding"][0] for one in reply.json()["data"]] == list(range(500))


def test_embedding_models_are_listed_and_shown(server: Running) -> None:
    names = [model["id"] for model in server.ask("GET", "/v1/models").json()["data"]]
    assert names == ["fake-model", MODEL]
    assert server.ask("GET", f"/v1/models/{MODEL}").json()["id"] == MODEL
    (row,) = server.ask("GET", "/api/v1/embeddings/models").json()["data"]
    assert (row["id"], row["supported_parameters"]) == (MODEL, [])
    assert row["architecture"]["output_modalities"] == ["embeddings"]
    assert server.ask("GET", f"/api/v1/model/{MODEL}").json()["data"] == row
    (text,) = server.ask("GET", "/api/v1/models").json()["data"]
    assert text["id"] == "fake-model"
    (host,) = server.ask("GET", f"/api/v1/models/{MODEL}/endpoints").json()["data"]["endpoints"]
    assert host["provider_name"] == "Outrider"
    assert server.ask("GET", f"/outrider/v1/models/{MODEL}").json()["id"] == MODEL


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/v1/embeddings", {"model": "fake-model", "input": "a"}, 404, b"'fake-model' makes emb"),
        ("/v1/embeddings", {"model": MODEL}, 400, b'"param":"input"'),
        ("/v1/embeddings", b"{", 400, b"isn't valid JSON"),
        ("/api/v1/embeddings", {"model": MODEL}, 400, b'"error_type":"invalid_request"'),
        ("/api/v1/embeddings", {"model": MODEL, "input": [{"type": "text"}]}, 400, b"input[0]"),
        (RUN, {"text": [1]}, 400, b"Type mismatch of '/text/0'"),
        (RUN + "?queueRequest=true", {"text": "a"}, 400, b"required properties at '/'"),
        (RUN, {"requests": [{"text": "a"}]}, 400, b"needs ?queueRequest=true"),
        ("/v1/chat/completions", {"model": MODEL, "messages": []}, 400, b"messages"),
    ],
)
def test_error_has_the_form_of_its_wire(
    server: Running, path: str, body: Any, status: int, part: bytes
) -> None:
    reply = server.ask("POST", path, body)
    assert (reply.status, part in reply.body) == (status, True)
    assert ("success" in reply.json()) == path.startswith("/client")


def test_failure_of_the_provider_is_answered(server: Running, provider: ScriptedEmbeddings) -> None:
    provider.error = InvalidRequest("the text is empty", "input[3]")
    reply = server.ask("POST", "/v1/embeddings", {"model": MODEL, "input": "a"})
    assert (reply.status, reply.json()["error"]["param"]) == (400, "input[3]")
    provider.error = EngineOverloaded("full", 7)
    reply = server.ask("POST", "/v1/embeddings", {"model": MODEL, "input": "a"})
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")


def test_server_without_an_embedding_model_says_how_to_have_one() -> None:
    with serving(ScriptedProvider()) as server:
        reply = server.ask("POST", "/v1/embeddings", {"model": MODEL, "input": "a"})
        assert (reply.status, b"--embedding-model" in reply.body) == (404, True)
