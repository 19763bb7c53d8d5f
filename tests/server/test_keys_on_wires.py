"""Every generating route on every wire: what it says to keys that it doesn't take."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from outrider.metering.key_store import change_key
from outrider.metering.keys import id_of
from server.keyed import bearer, database_of, keyed_server
from server.scripted import MODEL, PATIENCE_S, Running, ScriptedProvider, endless, payloads
from storage.records import run

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}
NATIVE = f"/client/v4/accounts/abc/ai/run/{MODEL}"
BARE = "/client/v4/accounts/abc/ai/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/v1/embeddings": {"model": MODEL, "input": "Hi"},
    "/api/v1/chat/completions": CHAT,
    "/api/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/api/v1/embeddings": {"model": MODEL, "input": "Hi"},
    "/api/v1": {"model": MODEL, "data": {"messages": MESSAGES}},
    NATIVE: {"messages": MESSAGES},
    BARE: CHAT,
}
ROUTES = pytest.mark.parametrize("path", list(BODIES))
# Status and code on OpenAI's wire, OpenRouter's, and Workers AI's.
Expected = tuple[tuple[int, str], tuple[int, str], tuple[int, int]]
NO_KEY: Expected = ((401, "invalid_api_key"), (401, "authentication"), (401, 10000))
REFUSED: Expected = ((403, "permission_denied"), (403, "permission_denied"), (403, 5018))
TOO_MANY: Expected = ((429, "rate_limit_exceeded"), (429, "rate_limit_exceeded"), (429, 971))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[Running]:
    with keyed_server(folder) as it:
        yield it


def found(path: str, body: bytes) -> tuple[str | int, int]:
    """Give the code in an error's body, and which of the expected ones it is to be."""
    wire = json.loads(body)
    if path in (NATIVE, "/api/v1"):
        assert wire["success"] is False
        return wire["errors"][0]["code"], 2
    if path.startswith("/api/"):
        assert wire["error"]["code"] // 100 == 4
        return wire["error"]["metadata"]["error_type"], 1
    return wire["error"]["code"], 0


@ROUTES
@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("", NO_KEY),
        ("unknown", NO_KEY),
        ("expired", NO_KEY),
        ("disabled", NO_KEY),
        ("manage", REFUSED),
    ],
)
def test_a_key_that_is_not_good_gets_the_error_of_the_wire(
    path: str, secret: str, expected: Expected, locked: Running
) -> None:
    for is_stream in (False, True):
        body = {**BODIES[path], "stream": is_stream}
        reply = locked.ask("POST", path, body, **bearer(secret))
        code, index = found(path, reply.body)
        assert (reply.status, code) == expected[index]
        assert reply.headers["content-type"] == "application/json"
        assert ("www-authenticate" in reply.headers) == (reply.status == 401)


@pytest.mark.parametrize("path", [path for path in BODIES if "embeddings" not in path])
def test_a_model_that_is_not_allowed_gets_the_error_of_the_wire(path: str, locked: Running) -> None:
    reply = locked.ask("POST", path, BODIES[path], **bearer("narrow"))
    code, index = found(path, reply.body)
    assert (reply.status, code) == REFUSED[index]


@ROUTES
def test_too_many_requests_get_the_error_of_the_wire_and_a_time(path: str, locked: Running) -> None:
    locked.ask("POST", path, BODIES[path], **bearer("slow"))
    reply = locked.ask("POST", path, BODIES[path], **bearer("slow"))
    code, index = found(path, reply.body)
    assert (reply.status, code) == TOO_MANY[index]
    assert 1 <= int(reply.headers["retry-after"]) <= 61
    limits = {name: reply.headers.get(f"x-ratelimit-{name}") for name in ("limit", "remaining")}
    is_routed = path.startswith("/api/v1/")
    assert limits == ({"limit": "1", "remaining": "0"} if is_routed else dict.fromkeys(limits))
    assert (int(reply.headers.get("x-ratelimit-reset", 0)) > 10**12) == is_routed


def last_error(path: str, stream: bytes) -> object:
    """Give the code of the error that a stream ends with."""
    last = json.loads(payloads(stream)[-1])
    if path == NATIVE:
        return last["errors"][0]["code"]
    return last["error"]["code"]


def test_what_runs_on_a_key_ends_with_it_in_the_form_of_the_wire(tmp_path: Path) -> None:
    streaming = [path for path in BODIES if "embeddings" not in path and path != "/api/v1"]
    with keyed_server(tmp_path, ScriptedProvider(endless)) as server:
        responses = {
            path: server.open("POST", path, {**BODIES[path], "stream": True}, **bearer("infer"))
            for path in streaming
        }
        for response in responses.values():
            assert response.status == 200
            assert response.read(20)
        changes = {"is_disabled": True}
        run(database_of(tmp_path), lambda c: change_key(c, id_of("infer"), changes, 5))
        codes = {path: last_error(path, response.read()) for path, response in responses.items()}
    assert codes == {
        "/v1/chat/completions": "invalid_api_key",
        "/v1/completions": "invalid_api_key",
        "/api/v1/chat/completions": 401,
        "/api/v1/completions": 401,
        NATIVE: 10000,
        BARE: "invalid_api_key",
    }


def test_a_whole_answer_is_refused_when_its_key_is_revoked_meanwhile(tmp_path: Path) -> None:
    provider = ScriptedProvider(endless)
    with keyed_server(tmp_path, provider) as server, ThreadPoolExecutor() as pool:
        path = "/v1/chat/completions"
        asking = pool.submit(server.ask, "POST", path, CHAT, **bearer("infer"))
        assert provider.started.wait(PATIENCE_S)
        changes = {"deleted_s": 5}
        run(database_of(tmp_path), lambda c: change_key(c, id_of("infer"), changes, 5))
        assert asking.result().status == 401
        assert provider.closed.wait(PATIENCE_S)


def test_no_key_gets_into_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with keyed_server(tmp_path) as server:
        for path, body in BODIES.items():
            for secret in ("hush-hush", "hush-unknown"):
                server.ask("POST", path, body, **bearer(secret))
        made = server.ask("POST", "/api/v1/keys", {"name": "x"}, **bearer("manage")).json()
    assert sum("status=401" in record.getMessage() for record in caplog.records) == len(BODIES)
    assert f"key={id_of('hush-hush')[:12]}" in caplog.text
    for word in ("hush-", made["key"].removeprefix("sk-or-v1-")):
        assert word not in caplog.text
