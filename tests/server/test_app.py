"""Tests of the application over real sockets: answers, errors, pages, headers and the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request

from gateway.fake_client import FakeClient, make_provider, short_answers
from outrider.errors import (
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
)
from outrider.server.app import Application, fail
from outrider.types import GenerationRequest, Started, TextDelta
from server.scripted import (
    MODEL,
    Running,
    ScriptedProvider,
    Step,
    payloads,
    serving,
)

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ROUTER, ROUTER_TEXT = "/api/v1/chat/completions", "/api/v1/completions"
NATIVE = f"/client/v4/accounts/abc/ai/run/{MODEL}"
MESSAGES = [{"role": "user", "content": "my secret question"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": MODEL, "messages": MESSAGES},
    TEXT: {"model": MODEL, "prompt": "my secret question"},
    ROUTER: {"model": MODEL, "messages": MESSAGES},
    ROUTER_TEXT: {"model": MODEL, "prompt": "my secret question"},
    NATIVE: {"messages": MESSAGES},
}
CHATS = (CHAT, ROUTER)
WIRES = pytest.mark.parametrize("path", list(BODIES))


def check_error(path: str, body: Any, code: str, native_code: int) -> str:
    """Check the error form of a wire and give its message."""
    if path.startswith("/client/"):
        assert body["success"] is False
        assert body["errors"][0]["code"] == native_code
        return str(body["errors"][0]["message"])
    if path.startswith("/api/"):
        assert set(body["error"]) == {"message", "code", "metadata"}
        assert body["error"]["metadata"].get("provider_code", code) == code
        return str(body["error"]["message"])
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    return str(body["error"]["message"])


@WIRES
def test_a_whole_answer_has_the_wires_form(path: str, server: Running) -> None:
    reply = server.ask("POST", path, BODIES[path])
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert reply.headers["x-outrider-attempts"] == "local:200"
    body = reply.json()
    if path == NATIVE:
        assert body["success"] is True
        result = body["result"]
        assert result["response"] == "Hello"
    else:
        result, (choice,) = body, body["choices"]
        text = choice["message"]["content"] if path in CHATS else choice["text"]
        assert (text, choice["finish_reason"]) == ("Hello", "stop")
        assert body["model"] == MODEL
    assert result["usage"]["prompt_tokens"] == 7
    assert result["usage"]["total_tokens"] == 9


@WIRES
def test_a_streamed_answer_has_the_wires_form(path: str, server: Running) -> None:
    reply = server.ask("POST", path, {**BODIES[path], "stream": True})
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-outrider-attempts"] == "local:200"
    *chunks, done = payloads(reply.body)
    assert done == b"[DONE]"
    texts: list[str] = []
    for chunk in map(json.loads, chunks):
        if path == NATIVE:
            texts.append(chunk["response"])
        elif chunk["choices"]:
            choice = chunk["choices"][0]
            texts.append(choice["delta"].get("content", "") if path in CHATS else choice["text"])
    assert "".join(texts) == "Hello"
    assert [text for text in texts if text] == ["Hel", "lo"]


@WIRES
def test_a_stream_is_not_held_back(path: str, server: Running, provider: ScriptedProvider) -> None:
    def script(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL)
        yield TextDelta(0, "Hel")
        yield 30.0

    provider.script = script
    response = server.open("POST", path, {**BODIES[path], "stream": True})
    seen = b""
    for _ in range(10):
        seen += response.readline()
        if b"Hel" in seen:
            break
    assert b"Hel" in seen
    response.close()


@WIRES
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "native_status", "native_code"),
    [
        (InvalidRequest("no such seed", "seed"), 400, 400, 5006),
        (ContextLengthExceeded(200, 100, "messages"), 400, 400, 3030),
        (EngineOverloaded("full", 7), 503, 429, 3040),
        (EngineFailed("it died"), 500, 500, 5000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_before_the_first_event_has_its_own_status(
    path: str,
    is_stream: bool,
    error: Any,
    status: int,
    native_status: int,
    native_code: int,
    server: Running,
    provider: ScriptedProvider,
) -> None:
    provider.script = lambda request: [error]
    reply = server.ask("POST", path, {**BODIES[path], "stream": is_stream})
    assert reply.status == (native_status if path == NATIVE else status)
    assert reply.headers["content-type"] == "application/json"
    check_error(path, reply.json(), error.code, native_code)
    retry_after = "7" if isinstance(error, EngineOverloaded) else None
    assert reply.headers.get("retry-after") == retry_after


@WIRES
@pytest.mark.parametrize("error", [EngineFailed("it died"), RuntimeError("secret detail")])
def test_an_error_inside_a_stream_is_its_last_event(
    path: str, error: Exception, server: Running, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [Started(MODEL), TextDelta(0, "Hel"), error]
    reply = server.ask("POST", path, {**BODIES[path], "stream": True})
    assert reply.status == 200
    events = payloads(reply.body)
    assert b"[DONE]" not in events
    assert b"Hel" in events[-2]
    message = check_error(path, json.loads(events[-1]), "engine_failed", 5000)
    assert "secret detail" not in message


@WIRES
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_bug_becomes_a_500_without_a_traceback(
    path: str,
    is_stream: bool,
    server: Running,
    provider: ScriptedProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider.script = lambda request: [RuntimeError("secret detail")]
    reply = server.ask("POST", path, {**BODIES[path], "stream": is_stream})
    assert reply.status == 500
    message = check_error(path, reply.json(), "engine_failed", 5000)
    assert "RuntimeError" in message
    for word in (b"Traceback", b"secret detail", b".py"):
        assert word not in reply.body
    assert any(record.exc_info for record in caplog.records), "the log has the traceback"
    provider.script = lambda request: [InvalidRequest("fine")]
    assert server.ask("POST", path, BODIES[path]).status == 400


def test_a_path_writes_nothing_else_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    scope = {"type": "http", "method": "GET", "path": "/v1/\x1b[2J\r\nok", "query_string": b""}
    http = Request({**scope, "headers": [(b"host", b"h")], "scheme": "http", "server": None})
    asyncio.run(fail(http, RuntimeError("no")))
    assert caplog.messages == ["GET /v1/?[2Jok failed"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/api/v1/nothing", 404),
        ("GET", ROUTER, 405),
        ("GET", NATIVE, 400),
        ("POST", "/client/v4/accounts/abc/ai/models", 400),
    ],
)
def test_unknown_paths_and_methods_get_the_form_of_their_wire(
    method: str, path: str, status: int, server: Running
) -> None:
    reply = server.ask(method, path)
    assert reply.status == status
    message = check_error(path, reply.json(), "invalid_request", 7000)
    assert message


@pytest.mark.parametrize("key", ["", "sk-wrong"])
@pytest.mark.parametrize("path", [path for path in BODIES if path != NATIVE])
def test_the_short_way_to_an_endpoint_answers_as_the_list_of_routes_does(
    path: str, key: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replies() -> list[tuple[int, set[str], bytes]]:
        with serving(provider, auth="on" if key else "off") as running:
            sent = [{}, BODIES[path], {**BODIES[path], "stream": True}]
            asked = [running.ask("POST", path, body, authorization=key) for body in sent]
            asked.append(running.ask("GET", path))
        return [
            (reply.status, set(reply.headers), re.sub(rb"[-\w]{20,}|\d{9,}", b"ID", reply.body))
            for reply in asked
        ]

    short = replies()
    monkeypatch.setattr(Application, "direct", property(lambda self: {}, lambda self, value: None))
    assert replies() == short


@WIRES
def test_an_unknown_model_is_refused(path: str, server: Running) -> None:
    wrong = path.replace(MODEL, "gpt-5")
    reply = server.ask(
        "POST", wrong, {**BODIES[path], **({} if path == NATIVE else {"model": "gpt-5"})}
    )
    assert reply.status == (404 if path in (CHAT, TEXT) else 400)
    assert "gpt-5" in check_error(path, reply.json(), "model_not_found", 5007)


@WIRES
@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'{"a": "\xff"}', b"[" * 15_000])
def test_what_is_not_a_json_object_is_refused(path: str, body: bytes, server: Running) -> None:
    reply = server.ask("POST", path, body)
    assert reply.status == 400
    check_error(path, reply.json(), "invalid_request", 5006 if body else 3003)


def test_a_wrong_type_is_refused_with_its_path(server: Running) -> None:
    wrong = {"model": MODEL, "messages": [*MESSAGES, {"role": "user", "content": 5}]}
    error = server.ask("POST", CHAT, wrong).json()["error"]
    assert error["param"] == "messages[1].content"
    missing = server.ask("POST", CHAT, {"model": MODEL}).json()["error"]
    assert missing["param"] == "messages"
    native = server.ask("POST", NATIVE, {"messages": [{"role": "user", "content": 5}]}).json()
    assert "'/messages/0/content'" in native["errors"][0]["message"]


@WIRES
def test_a_compressed_body_is_refused(path: str, server: Running) -> None:
    reply = server.ask("POST", path, b"\x1f\x8b", content_encoding="gzip")
    assert reply.status == 400
    assert "gzip" in check_error(path, reply.json(), "invalid_request", 5006)


def test_healthz_tells_whether_the_model_answers(
    server: Running, provider: ScriptedProvider
) -> None:
    reply = server.ask("GET", "/healthz")
    assert (reply.status, reply.json()["status"]) == (200, "ok")
    provider.is_ready = False
    reply = server.ask("GET", "/healthz")
    assert (reply.status, reply.json()["status"]) == (503, "unavailable")
    assert reply.json()["models"] == {MODEL: {"ready": False}}


def test_healthz_and_metrics_tell_of_a_local_engine() -> None:
    client = FakeClient(short_answers)
    with serving(make_provider(client)) as server:
        assert server.ask("GET", "/healthz").json()["models"]["fake"] == {
            "ready": True,
            "pid": 4321,
            "restarts": 3,
            "running": 2,
            "waiting": 1,
            "pending": 0,
            "kv_blocks": 64,
            "kv_free_blocks": 60,
        }
        body = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}]}
        assert server.ask("POST", CHAT, body).status == 200
        reply = server.ask("GET", "/metrics")
        lines = reply.body.decode().splitlines()
        client.ready, client.info = False, None
        health = server.ask("GET", "/healthz")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'outrider_requests_total{model="fake",status="200",wire="openai-chat"} 1.0',
        'outrider_tokens_total{kind="prompt",model="fake"} 5.0',
        'outrider_kv_free_blocks{model="fake"} 60.0',
        'outrider_running_sequences{model="fake"} 2.0',
        'outrider_engine_restarts_total{model="fake"} 3.0',
    ):
        assert line in lines
    assert health.status == 503
    assert health.json()["models"]["fake"]["pid"] is None


def test_metric_labels_stay_bounded(server: Running) -> None:
    for index in range(3):
        server.ask("POST", CHAT, {"model": f"guess-{index}", "messages": MESSAGES})
        server.ask("POST", f"/client/v4/accounts/x/ai/run/guess-{index}", {"prompt": "x"})
    page = server.ask("GET", "/metrics").body.decode()
    assert "guess" not in page
    assert 'outrider_requests_total{model="unknown",status="404",wire="openai-chat"} 3.0' in page


def test_models_are_listed_and_shown(server: Running) -> None:
    listed = server.ask("GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert server.ask("GET", f"/v1/models/{MODEL}").json() == listed["data"][0]
    assert server.ask("GET", "/v1/models/alias").json() == listed["data"][0]
    missing = server.ask("GET", "/v1/models/gpt-5")
    assert missing.status == 404
    check_error(CHAT, missing.json(), "model_not_found", 0)


def test_the_index_says_what_is_served(server: Running) -> None:
    reply = server.ask("GET", "/")
    assert reply.headers["content-type"].startswith("text/plain")
    assert MODEL in reply.body.decode()


@WIRES
@pytest.mark.parametrize("is_stream", [False, True])
def test_answers_carry_their_ids(
    path: str, is_stream: bool, server: Running, provider: ScriptedProvider
) -> None:
    replies = [
        server.ask("POST", path, {**BODIES[path], "stream": is_stream}),
        server.ask("POST", path, b"{"),
    ]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == 2
    assert provider.requests[0].request_id == ids[0]
    for reply, request_id in zip(replies, ids, strict=True):
        assert ("cf-ray" in reply.headers) == (path == NATIVE)
        if path == NATIVE:
            assert re.fullmatch(r"[0-9a-f]{16}-LOCAL", reply.headers["cf-ray"])
            assert reply.headers["cf-ai-req-id"] == request_id


def test_ignored_fields_are_named_in_a_header(server: Running) -> None:
    reply = server.ask("POST", NATIVE, {**BODIES[NATIVE], "zebra": 1, "apple": 2, "x\r\ny": 3})
    assert reply.status == 200
    assert reply.headers["x-outrider-ignored"] == "apple, ?, zebra"
    assert "x-outrider-ignored" not in server.ask("POST", NATIVE, BODIES[NATIVE]).headers


def test_requests_with_one_token_share_a_salt_that_others_do_not(
    server: Running, provider: ScriptedProvider
) -> None:
    for token in ("one", "one", "two", ""):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        server.ask("POST", CHAT, BODIES[CHAT], **headers)
    first, second, third, without = (request.cache_salt for request in provider.requests)
    assert first == second
    assert len({first, third, without}) == 3
    assert without == ""


def test_the_log_has_one_line_per_request_and_no_text_or_token(
    server: Running, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path, body in BODIES.items():
        for is_stream in (False, True):
            data = {**body, "stream": is_stream}
            assert server.ask("POST", path, data, authorization="Bearer hush-hush").status == 200
    server.ask("POST", CHAT, b'{"my secret question', authorization="Bearer hush-hush")
    server.close()  # a line is written after its answer
    lines = [r.getMessage() for r in caplog.records if r.name == "outrider.access"]
    assert len(lines) == 11
    assert sum("status=200" in line for line in lines) == 10
    assert sum("error=invalid_request" in line for line in lines) == 1
    for word in ("secret", "hush", "Hel", provider.requests[0].cache_salt):
        assert word not in caplog.text
