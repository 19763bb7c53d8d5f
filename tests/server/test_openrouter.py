"""OpenRouter's wire over real sockets: names, headers, signs of life, errors that come late."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from outrider.dialects.openrouter import CHAT_COMPLETIONS
from outrider.errors import EngineFailed, InvalidRequest
from outrider.server import keep_alive
from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.scripted import MODEL, Running, ScriptedProvider, Step, payloads

CHAT = "/api/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
BODY = {"model": MODEL, "messages": MESSAGES}
COMMENT = b": OPENROUTER PROCESSING"


@pytest.mark.parametrize(
    "fields",
    [
        {"model": f"{MODEL}:free"},
        {"model": f"{MODEL}:nitro"},
        {"model": f"{MODEL}:floor"},
        {"model": "gpt-5", "models": ["gpt-6", "alias"]},
        {"model": None},
        {},
    ],
)
def test_the_answer_names_the_model_that_answers(fields: dict[str, Any], server: Running) -> None:
    reply = server.ask("POST", CHAT, {"messages": MESSAGES, **fields})
    assert (reply.status, reply.json()["model"]) == (200, MODEL)


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5:free", f"{MODEL}:thinking", "", ":free"])
def test_an_unknown_model_is_a_400_in_openrouters_words(model: str, server: Running) -> None:
    reply = server.ask("POST", CHAT, {**BODY, "model": model})
    assert reply.status == reply.json()["error"]["code"] == 400
    assert reply.json()["error"]["message"].startswith(f"{model} is not a valid model ID")


def test_a_variant_is_openrouters_alone(server: Running) -> None:
    reply = server.ask("POST", "/v1/chat/completions", {**BODY, "model": f"{MODEL}:free"})
    assert reply.status == 404


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_generation_id_is_that_of_the_header(is_stream: bool, server: Running) -> None:
    attribution = {"http_referer": "https://example.org", "x_title": "Example"}
    reply = server.ask("POST", CHAT, {**BODY, "stream": is_stream, "mood": 5}, **attribution)
    body = json.loads(payloads(reply.body)[0]) if is_stream else reply.json()
    assert body["id"] == reply.headers["x-generation-id"]
    assert reply.headers["x-outrider-ignored"] == "mood"


def waiting(*steps: Step) -> Any:
    def script(request: GenerationRequest) -> Iterator[Step]:
        yield from (*steps, 0.25)
        yield Finished(0, "stop")
        yield Completed(Usage(1, 1))

    return script


@pytest.fixture
def quick_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_alive, "INTERVAL_S", 0.05)


@pytest.mark.usefixtures("quick_signs")
def test_a_stream_that_waits_sends_comments(server: Running, provider: ScriptedProvider) -> None:
    provider.script = waiting(0.25, Started(MODEL), TextDelta(0, "Hel"))
    reply = server.ask("POST", CHAT, {**BODY, "stream": True})
    parts = reply.body.split(b"\n\n")
    text = next(index for index, part in enumerate(parts) if b"Hel" in part)
    assert COMMENT in parts[:text], "before the first token"
    assert COMMENT in parts[text:], "between tokens"
    kinds = [type(event) for event in CHAT_COMPLETIONS.decode_stream(reply.body)]
    assert kinds == [Started, TextDelta, Finished, Completed]


@pytest.mark.usefixtures("quick_signs")
def test_a_busy_stream_and_other_wires_send_no_comments(
    server: Running, provider: ScriptedProvider
) -> None:
    steps = [step for _ in range(20) for step in (TextDelta(0, "a"), 0.01)]
    provider.script = lambda request: [
        Started(MODEL),
        *steps,
        Finished(0, "stop"),
        Completed(Usage(1, 1)),
    ]
    assert COMMENT not in server.ask("POST", CHAT, {**BODY, "stream": True}).body
    provider.script = waiting(Started(MODEL))
    native = f"/client/v4/accounts/abc/ai/run/{MODEL}"
    for path in ("/v1/chat/completions", native):
        assert b":" not in server.ask("POST", path, {**BODY, "stream": True}).body[:1]


@pytest.mark.usefixtures("quick_signs")
@pytest.mark.parametrize("error", [EngineFailed("it died"), InvalidRequest("no", "tools")])
def test_an_error_after_a_comment_is_an_event(
    error: Exception, server: Running, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [0.25, error]
    reply = server.ask("POST", CHAT, {**BODY, "stream": True})
    assert reply.status == 200
    assert reply.body.startswith(COMMENT)
    with pytest.raises(type(error)):
        CHAT_COMPLETIONS.decode_stream(reply.body)
    whole = server.ask("POST", CHAT, BODY)
    assert whole.status == getattr(error, "status", 0)


@pytest.mark.usefixtures("quick_signs")
def test_a_client_that_leaves_while_it_waits_ends_its_request(
    server: Running, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [30.0]
    response = server.open("POST", CHAT, {**BODY, "stream": True})
    assert response.readline().startswith(COMMENT)
    response.close()
    server._connections[-1].close()
    assert provider.closed.wait(5)


def test_models_are_listed_and_shown(server: Running) -> None:
    listed = server.ask("GET", "/api/v1/models").json()
    assert [row["id"] for row in listed["data"]] == [MODEL]
    for name in (MODEL, "alias", f"{MODEL}:free"):
        assert server.ask("GET", f"/api/v1/model/{name}").json()["data"] == listed["data"][0]
    unknown = server.ask("GET", "/api/v1/model/gpt-5")
    assert (unknown.status, unknown.json()["error"]["code"]) == (404, 404)
    assert server.ask("GET", "/api/v1/models?limit=x").json()["error"]["code"] == 400


def test_the_hosts_of_a_model_and_all_hosts_are_listed(server: Running) -> None:
    assert server.ask("POST", CHAT, BODY).status == 200
    for name in (MODEL, "alias", f"{MODEL}:free"):
        data = server.ask("GET", f"/api/v1/models/{name}/endpoints").json()["data"]
        assert data["id"] == MODEL
        (endpoint,) = data["endpoints"]
        assert (endpoint["tag"], endpoint["status"]) == ("local", 0)
        assert endpoint["uptime_last_5m"] == 100
        assert endpoint["latency_last_30m"]["p50"] > 0
    assert server.ask("GET", "/api/v1/models/gpt-5/endpoints").status == 404
    (host,) = server.ask("GET", "/api/v1/providers").json()["data"]
    assert (host["slug"], host["name"]) == ("local", "Outrider")
