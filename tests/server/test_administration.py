"""Administration over real sockets: the log of requests, everybody's batches, and providers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.remote_hosts import SECRET, Asked
from outrider.errors import EngineFailed
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.connections import Connections
from outrider.gateway.endpoint import Endpoint, Host
from outrider.types import GenerationRequest
from server.keyed import bearer, keyed_server
from server.scripted import MODEL, Running, ScriptedProvider, answer, serving, silent, wait_until
from upstreams.scripted import Scripted, chat_answer, chat_stream, scripted, stream, whole

REQUESTS, BATCHES = "/outrider/v1/requests", "/outrider/v1/batches"
PROVIDERS = "/outrider/v1/providers"
CHAT = "/api/v1/chat/completions"
MANAGER = bearer("manage")
HOSTILE = "=HYPERLINK(1)<img src=x onerror=alert(1)>"
CHOICE = {"provider": "far", "model": "m"}


def play(request: GenerationRequest) -> Any:
    text = request.messages[0].text
    if text == "slow":
        return silent(request)
    return [EngineFailed("it broke")] if text == "break" else answer(request)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("administration") / "data"
    folder.mkdir()
    with keyed_server(folder, ScriptedProvider(play)) as it:
        for text, secret in (("a", "infer"), ("break", "infer"), ("b", "hush-hush")):
            it.ask("POST", CHAT, chat(text), **bearer(secret), http_referer="https://a.example",
                   x_title=HOSTILE)  # fmt: skip
        yield it


def chat(text: str, model: str = MODEL) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def get(server: Running, path: str) -> Any:
    reply = server.ask("GET", path, **MANAGER)
    assert reply.status == 200, reply.body
    return reply.json()


def test_the_last_requests_are_listed_without_their_contents(server: Running) -> None:
    page = get(server, REQUESTS)
    assert [row["key_name"] for row in page["data"]] == ["hush-hush", "infer", "infer"]
    assert [row["status"] for row in page["data"]] == [200, 500, 200]
    newest, broken, _ = page["data"]
    assert page["next"] is None
    assert newest["id"].startswith("gen-")
    assert (newest["model"], newest["provider"]) == (MODEL, "local")
    assert newest["wire"] == "openrouter-chat"
    assert (newest["prompt_tokens"], newest["completion_tokens"]) == (7, 2)
    assert newest["app_title"] == HOSTILE
    assert broken["error_code"] == "engine_failed"
    assert broken["attempts"][0]["error_code"] == "engine_failed"
    assert "Hello" not in json.dumps(page)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("status=ok", 2),
        ("status=failed", 1),
        ("status=refused", 0),
        ("status=500", 1),
        ("model=other", 0),
        (f"model={MODEL}&provider=local", 3),
        ("since=2001-01-01", 3),
        ("since=2001-01-01T00:00:00Z&until=2002-01-01", 0),
        ("limit=2", 2),
    ],
)
def test_requests_are_filtered(server: Running, query: str, count: int) -> None:
    assert len(get(server, f"{REQUESTS}?{query}")["data"]) == count


def test_requests_of_one_key_and_page_by_page(server: Running) -> None:
    rows = get(server, REQUESTS)["data"]
    own = get(server, f"{REQUESTS}?key={rows[0]['key']}")["data"]
    assert own == rows[:1]
    first = get(server, f"{REQUESTS}?limit=2")
    rest = get(server, f"{REQUESTS}?limit=2&before={first['next']}")
    assert first["data"] + rest["data"] == rows
    assert rest["next"] is None


@pytest.mark.parametrize(
    "query", ["status=bad", "status=2xx", "limit=0", "before=x", "since=soon", "format=xml"]
)
def test_a_filter_that_means_nothing_is_refused_by_name(server: Running, query: str) -> None:
    reply = server.ask("GET", f"{REQUESTS}?{query}", **MANAGER)
    assert reply.status == 400
    assert reply.json()["error"]["param"] == query.partition("=")[0]


def test_a_table_for_spreadsheets_holds_no_formula(server: Running) -> None:
    reply = server.ask("GET", f"{REQUESTS}?format=csv", **MANAGER)
    assert reply.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
    assert len(rows) == 3
    assert rows[0]["app_title"] == f"'{HOSTILE}"
    assert rows[1]["num_attempts"] == "1"


def test_a_manager_sees_and_cancels_the_batches_of_others(server: Running) -> None:
    line = {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": chat("slow")}
    form = (
        '--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\n'
        'content-disposition: form-data; name="file"; filename="f"\r\n\r\n'
        f"{json.dumps(line)}\r\n--x--\r\n"
    )
    file = server.ask(
        "POST", "/v1/files", form.encode(), content_type="multipart/form-data; boundary=x",
        **bearer("infer"),
    ).json()  # fmt: skip
    made = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    body = {"input_file_id": file["id"], **made}
    batch = server.ask("POST", "/v1/batches", body, **bearer("infer")).json()
    wait_until(lambda: get(server, BATCHES)["data"][0]["status"] == "in_progress")
    row = get(server, f"{BATCHES}?state=unfinished&limit=1")["data"][0]
    assert (row["id"], row["key_name"], row["num_requests"]) == (batch["id"], "infer", 1)
    path = f"{BATCHES}/{batch['id']}/cancel"
    assert server.ask("POST", path, **bearer("infer")).status == 403
    assert server.ask("POST", path, **MANAGER).json()["status"] in ("cancelling", "cancelled")
    wait_until(lambda: get(server, BATCHES)["data"][0]["status"] == "cancelled")
    assert get(server, f"{BATCHES}?state=unfinished") == {"data": [], "has_more": False}
    assert get(server, f"{BATCHES}?after={batch['id']}")["data"] == []
    assert server.ask("POST", f"{BATCHES}/batch_x/cancel", **MANAGER).status == 404


@pytest.fixture
def far() -> Iterator[Scripted]:
    with scripted() as it:
        yield it


@pytest.fixture
def gateway(far: Scripted, tmp_path: Path) -> Iterator[Running]:
    connections = Connections()
    host = Host(name="far", display_name="Far", is_local=False, max_concurrent=9)
    endpoint = Endpoint(
        host=host, model="m", provider=Asked(far).provider(connections), reads_images=False,
        supported_parameters=frozenset({"tools", "tool_choice"}), has_choices=False,
    )  # fmt: skip
    catalogue = Catalogue([Entry(endpoint.provider, endpoints=(endpoint,))])
    with serving(catalogue, close=connections.close, data_dir=str(tmp_path / "data")) as it:
        yield it


def state(server: Running) -> Any:
    return server.ask("GET", PROVIDERS).json()["data"][0]


def test_a_provider_that_breaks_is_shown_and_can_be_reset(gateway: Running, far: Scripted) -> None:
    assert state(gateway)["breaker"] == "closed"
    far.answer(whole({"error": {"message": f"no {SECRET}"}}, 500))
    for _ in range(5):
        gateway.ask("POST", CHAT, chat("x", "m"))
    shown = state(gateway)
    assert shown["breaker"] == "open"
    assert 0 < shown["wait_s"] <= 5
    assert (shown["running"], shown["max_concurrent"]) == (0, 9)
    assert shown["results_30s"] == {"good": 0, "failed": 5}
    error = shown["last_error"]
    assert (error["code"], error["upstream_status"]) == ("provider_unavailable", 500)
    assert SECRET not in json.dumps(shown)
    num_seen = len(far.seen)
    gateway.ask("POST", CHAT, chat("x", "m"))
    assert len(far.seen) == num_seen
    reset = gateway.ask("POST", f"{PROVIDERS}/reset", CHOICE).json()
    assert (reset["breaker"], reset["wait_s"]) == ("closed", 0)
    far.answer(whole(chat_answer("Hi")))
    assert gateway.ask("POST", CHAT, chat("x", "m")).status == 200


def test_a_check_asks_for_what_the_provider_is_said_to_do(gateway: Running, far: Scripted) -> None:
    far.answer(stream(*chat_stream()), whole(chat_answer("no call")))
    found = gateway.ask("POST", f"{PROVIDERS}/check", CHOICE).json()
    assert found["is_answering"]
    assert (found["proven"], found["failed"]) == ([], {"tools": "the answer has none"})
    far.answer(whole({"error": {"message": "down"}}, 503))
    found = gateway.ask("POST", f"{PROVIDERS}/check", CHOICE).json()
    assert not found["is_answering"]
    assert found["problem"]
    assert state(gateway)["results_30s"] == {"good": 0, "failed": 0}  # a check isn't counted


def test_a_provider_that_is_not_there_is_refused(gateway: Running) -> None:
    for what in ("check", "reset"):
        body = {"provider": "near", "model": "m"}
        assert gateway.ask("POST", f"{PROVIDERS}/{what}", body).status == 404
        assert gateway.ask("POST", f"{PROVIDERS}/{what}", {"provider": 1}).status == 400
