"""Prompts and answers over real sockets: nothing of them is kept unless their key asked for it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dialects.openrouter_schemas import check
from outrider.errors import ProviderError
from outrider.metering.key_store import add_key
from outrider.metering.keys import id_of
from outrider.server import recording
from outrider.server.openapi_operations import openapi_json
from outrider.types import (
    Completed,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from server.keyed import bearer, database_of, keyed_server, secret_key
from server.scripted import (
    MODEL,
    Reply,
    Running,
    ScriptedProvider,
    Step,
    raw_post,
    serving,
    wait_until,
)
from storage.records import run

ASKED, ANSWERED = "canary-that-was-asked", "canary-that-was-answered"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": ASKED}]}
PATH, NATIVE = "/api/v1/chat/completions", f"/client/v4/accounts/me/ai/run/{MODEL}"
DOCUMENT = json.loads(openapi_json())
PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def told(request: GenerationRequest) -> Iterator[Step]:
    """Answer in two pieces; max_tokens says how it ends."""
    yield Started(MODEL, prompt_tokens=7)
    yield TextDelta(0, f"{ANSWERED} ", num_tokens=2)
    if request.sampling.max_tokens == 98:
        yield ProviderError("the host cut it")
    if request.sampling.max_tokens == 99:
        yield 30.0
    yield TextDelta(0, "to its end", num_tokens=2)
    if request.tools:
        yield ToolCallDelta(0, 0, '{"x":', "call-1", "look")
        yield ToolCallDelta(0, 0, "1}")
    for index in range(max(1, len(request.prompts))):
        yield Finished(index, "tool_calls" if request.tools else "stop")
    yield Completed(Usage(7, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contents")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with logging_server(folder) as it:
        yield it


def logging_server(folder: Path) -> Any:
    for name in ("kept", "other"):
        made = secret_key(name, name, io_logging=True)
        run(database_of(folder), lambda c, it=made: add_key(c, it))
    return keyed_server(folder, ScriptedProvider(told))


def ask(server: Running, secret: str = "kept", **fields: Any) -> str:
    reply = server.ask("POST", PATH, {**CHAT, **fields}, **bearer(secret))
    return reply.headers["x-generation-id"]


def read(server: Running, generation_id: str, secret: str = "kept") -> Reply:
    path = "/api/v1/generation/content"
    reply = server.ask("GET", f"{path}?id={generation_id}", **bearer(secret))
    checked(reply, "get", path)
    return reply


def delete(server: Running, rest: str, secret: str) -> Reply:
    path = "/outrider/v1/contents"
    reply = server.ask("DELETE", path + rest, **bearer(secret))
    checked(reply, "delete", path + ("/{id}" if rest.startswith("/") else ""))
    return reply


def checked(reply: Reply, method: str, path: str) -> None:
    """Hold an answer to our own OpenAPI document."""
    answers = DOCUMENT["paths"][path][method]["responses"]
    schema = answers[str(reply.status)]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(reply.json())


def test_not_a_byte_of_prompt_or_answer_is_left_by_a_key_that_did_not_ask(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with logging_server(tmp_path) as server:
        for stream in (False, True):
            for path, body in (
                (PATH, CHAT),
                ("/v1/chat/completions", CHAT),
                ("/v1/completions", {"model": MODEL, "prompt": ASKED}),
                (NATIVE, {"prompt": ASKED}),
                (PATH, {**CHAT, "max_tokens": 98}),
                (PATH, {**CHAT, "tools": [TOOL]}),
                (PATH, {**CHAT, "temperature": 9}),
            ):
                server.ask("POST", path, {**body, "stream": stream}, **bearer("infer"))
        assert found_in(tmp_path) == set()
        assert "canary" not in caplog.text
        assert read(server, ask(server)).status == 200  # reading waits for what is written
        assert any(name.startswith("outrider.db") for name in found_in(tmp_path))
        assert "journal" not in found_in(tmp_path)
        assert "canary" not in caplog.text
    assert found_in(tmp_path) == {"outrider.db"}


def found_in(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"outrider.db", "journal"} <= {path.name for path in files}
    return {path.name for path in files if b"canary" in path.read_bytes()}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_key_that_asked_reads_back_what_it_sent_and_got(server: Running, stream: bool) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
    ]
    generation_id = ask(server, messages=messages, stream=stream)
    body = read(server, generation_id).json()
    check(body, "GenerationContentResponse")
    data = body["data"]
    assert data["input"] == {"messages": messages}
    assert (data["output"]["completion"], data["error"]) == (f"{ANSWERED} to its end", None)
    assert data["output"]["reasoning"] is None


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        ("/v1/completions", {"model": MODEL, "prompt": ASKED}, {"prompt": ASKED}),
        ("/v1/completions", {"model": MODEL, "prompt": ["a", "b"]}, {"prompt": '["a","b"]'}),
        ("/v1/completions", {"model": MODEL, "prompt": [1, 2]}, {"prompt": "[1,2]"}),
        (NATIVE, {"messages": CHAT["messages"]}, {"messages": CHAT["messages"]}),
        ("/api/v1", {"model": MODEL, "data": {"prompt": ASKED}}, None),
    ],
    ids=["text", "texts", "token ids", "workers-ai", "dataoorts"],
)
def test_what_came_on_any_wire_is_kept(
    server: Running, folder: Path, path: str, body: Any, kept: Any
) -> None:
    reply = server.ask("POST", path, body, **bearer("kept"))
    assert reply.status == 200, reply.body
    found = latest(server, folder)
    assert found["output"]["completion"].startswith(ANSWERED)
    assert ASKED in json.dumps(found["input"]) if kept is None else found["input"] == kept


def latest(server: Running, folder: Path) -> Any:
    """Read what was kept last: other wires don't say what the ledger calls a request."""
    read(server, "gen-none")  # waits for what ended just now
    with contextlib.closing(sqlite3.connect(database_of(folder))) as connection:
        query = "SELECT id FROM contents ORDER BY rowid DESC LIMIT 1"
        ((content_id,),) = connection.execute(query).fetchall()
    return read(server, content_id).json()["data"]


def test_images_are_kept_as_their_hash_and_calls_as_they_were(server: Running) -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": ASKED}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "seen"},
    ]
    data = read(server, ask(server, messages=messages, tools=[TOOL])).json()["data"]
    url = data["input"]["messages"][0]["content"][1]["image_url"]["url"]
    assert url == f"sha256:{hashlib.sha256(base64.b64decode(PIXEL.partition(',')[2])).hexdigest()}"
    assert data["input"]["messages"][1:] == messages[1:]
    (choice,) = data["output"]["choices"]
    assert choice["tool_calls"] == [{"id": "call-1", "name": "look", "arguments": '{"x":1}'}]


def test_a_text_that_is_too_long_is_kept_in_part(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_PROMPT_CHARS", 15)
    monkeypatch.setattr(recording, "MAX_ANSWER_CHARS", 6)
    messages = [
        {"role": "user", "content": text} for text in ("older", "old message", "the new one")
    ]
    data = read(server, ask(server, messages=messages)).json()["data"]
    assert [message["content"] for message in data["input"]["messages"]] == [
        "[5 characters left out]",
        "old [7 characters left out]",
        "the new one",
    ]
    assert data["output"]["completion"].startswith("canary[")


def test_a_stream_that_a_host_cuts_is_kept_as_far_as_it_came(server: Running, folder: Path) -> None:
    body = {**CHAT, "stream": True, "max_tokens": 98}
    assert server.ask("POST", PATH, body, **bearer("kept")).status == 200
    data = latest(server, folder)
    assert data["output"]["completion"] == f"{ANSWERED} "
    assert data["error"]["message"] == "the host cut it"
    assert data["error"]["status"] == 502
    check({"data": data}, "GenerationContentResponse")


def test_a_stream_that_its_client_leaves_is_kept_as_far_as_it_came(
    server: Running, folder: Path
) -> None:
    body = json.dumps({**CHAT, "stream": True, "max_tokens": 99}).encode()
    with server.connect(raw_post(PATH, body, "authorization: Bearer kept")) as connection:
        received = b""
        while ANSWERED.encode() not in received:
            received += connection.recv(65536)
        generation_id = received.partition(b"x-generation-id: ")[2].split(b"\r\n")[0].decode()
    wait_until(lambda: read(server, generation_id).status == 200)
    data = read(server, generation_id).json()["data"]
    assert (data["output"]["completion"], data["error"]) == (f"{ANSWERED} ", None)
    assert data["output"]["choices"][0]["finish_reason"] is None


def test_a_content_is_for_its_key_and_management_keys_alone(server: Running) -> None:
    generation_id = ask(server)
    statuses = {"kept": 200, "manage": 200, "other": 404, "infer": 404, "": 401, "unknown": 401}
    for secret, status in statuses.items():
        assert read(server, generation_id, secret).status == status, secret
    nothing = read(server, ask(server, "infer"), "infer")
    assert nothing.status == 404
    assert nothing.json() == read(server, generation_id, "other").json()
    for secret, status in {"other": 404, "infer": 404, "": 401}.items():
        assert delete(server, f"/{generation_id}", secret).status == status, secret
    assert delete(server, f"/{generation_id}", "kept").json() == {
        "id": generation_id,
        "deleted": True,
    }
    assert read(server, generation_id).status == 404
    assert delete(server, f"/{generation_id}", "kept").status == 404


def test_all_that_was_kept_for_a_key_is_deleted_at_once(server: Running) -> None:
    generation_ids = [ask(server, "other") for _ in range(2)]
    mine = ask(server)
    other = id_of("other")
    assert delete(server, f"?key={other}", "kept").status == 403
    assert delete(server, "", "manage").status == 400
    assert delete(server, "", "").status == 401
    assert delete(server, f"?key={other}", "manage").json() == {"key": other, "deleted": 2}
    assert [read(server, one, "manage").status for one in generation_ids] == [404, 404]
    assert read(server, mine).status == 200
    assert delete(server, "", "kept").json()["deleted"] >= 1
    assert read(server, mine).status == 404


def test_what_a_key_asks_for_changes_at_once_and_ends_with_it(server: Running) -> None:
    def manage(method: str, path: str, body: Any = None) -> Any:
        return server.ask(method, f"/api/v1/keys{path}", body, **bearer("manage")).json()

    made = manage("POST", "", {"name": "changing"})
    secret, path = made["key"], f"/{made['data']['hash']}"
    assert made["data"]["io_logging"] is False
    assert read(server, ask(server, secret), secret).status == 404
    assert manage("PATCH", path, {"io_logging": True})["data"]["io_logging"] is True
    kept = ask(server, secret)
    assert read(server, kept, secret).status == 200
    manage("PATCH", path, {"io_logging": False})
    assert read(server, ask(server, secret), secret).status == 404
    assert read(server, kept, secret).status == 200
    manage("DELETE", path)
    assert read(server, kept, "manage").status == 404


def test_where_no_keys_are_needed_contents_are_still_those_of_keys(tmp_path: Path) -> None:
    with serving(ScriptedProvider(told), data_dir=str(tmp_path), auth="off") as server:
        assert read(server, ask(server, ""), "").status == 404
        assert delete(server, "", "").status == 401
        assert found_in(tmp_path) == set()
