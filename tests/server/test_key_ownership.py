"""Files, batches and queued requests belong to a key: nobody else sees, reads or ends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from outrider.metering.key_store import add_key
from server.keyed import bearer, database_of, keyed_server, secret_key
from server.scripted import MODEL, Reply, Running, ScriptedProvider, serving, wait_until
from storage.records import run

NATIVE = f"/client/v4/accounts/abc/ai/run/{MODEL}"
LINE = {
    "custom_id": "1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]},
}
FORM = {"content-type": "multipart/form-data; boundary=B"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("owners")
    run(database_of(folder), lambda c: add_key(c, secret_key("other", "other")))
    with keyed_server(folder) as it:
        yield it


def upload(server: Running, secret: str) -> str:
    parts = [
        '--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
        '--B\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n',
        json.dumps(LINE) + "\r\n--B--\r\n",
    ]
    headers = {"content_type": FORM["content-type"], **bearer(secret)}
    return str(server.ask("POST", "/v1/files", "".join(parts).encode(), **headers).json()["id"])


def ids(reply: Reply) -> list[str]:
    return [row["id"] for row in reply.json()["data"]]


def test_what_a_key_made_is_its_own(server: Running) -> None:
    mine, theirs = bearer("infer"), bearer("other")
    file_id = upload(server, "infer")
    wanted = {
        "input_file_id": file_id,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    assert server.ask("POST", "/v1/batches", wanted, **theirs).status == 404
    batch_id = server.ask("POST", "/v1/batches", wanted, **mine).json()["id"]
    asked: list[tuple[str, str]] = [
        ("GET", f"/v1/files/{file_id}"),
        ("GET", f"/v1/files/{file_id}/content"),
        ("DELETE", f"/v1/files/{file_id}"),
        ("GET", f"/v1/batches/{batch_id}"),
        ("POST", f"/v1/batches/{batch_id}/cancel"),
    ]
    for method, path in asked:
        assert server.ask(method, path, **theirs).status == 404, path
        assert server.ask(method, path).status == 401, path
        assert server.ask(method, path, **bearer("manage")).status == 403, path
    for path in ("/v1/files", "/v1/batches"):
        assert ids(server.ask("GET", path, **theirs)) == []
        assert len(ids(server.ask("GET", path, **mine))) >= 1
    path = f"/v1/batches/{batch_id}"
    wait_until(lambda: server.ask("GET", path, **mine).json()["status"] == "completed")


def test_queued_requests_are_answered_to_their_key_only(server: Running) -> None:
    body: dict[str, Any] = {"requests": [{"messages": LINE["body"]["messages"]}]}  # type: ignore[index]
    queued = server.ask("POST", f"{NATIVE}?queueRequest=true", body, **bearer("infer"))
    poll = {"request_id": queued.json()["result"]["request_id"]}

    def answer(secret: str) -> Reply:
        return server.ask("POST", f"{NATIVE}?queueRequest=true", poll, **bearer(secret))

    assert answer("other").status == 400
    wait_until(lambda: "responses" in answer("infer").json()["result"])


def test_what_nobody_made_is_seen_without_a_key_only(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("nobody")
    run(database_of(folder), lambda c: add_key(c, secret_key("infer", "infer")))
    with serving(ScriptedProvider(), data_dir=str(folder), auth="off") as server:
        file_id = upload(server, "")
        path = f"/v1/files/{file_id}"
        assert server.ask("GET", path).status == 200
        for secret in ("infer", "unknown"):
            assert server.ask("GET", path, **bearer(secret)).status == 404
        theirs = upload(server, "unknown")
        assert server.ask("GET", f"/v1/files/{theirs}").status == 404
        assert server.ask("GET", f"/v1/files/{theirs}", **bearer("unknown")).status == 200
