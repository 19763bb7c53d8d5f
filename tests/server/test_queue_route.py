"""Workers AI's asynchronous batch over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.errors import ContextLengthExceeded
from outrider.server import batch_items
from outrider.types import GenerationRequest
from server.scripted import MODEL, Reply, Running, ScriptedProvider, Step, serving, wait_until
from server.test_batches import Vectors

RUN = f"/client/v4/accounts/me/ai/run/{MODEL}"
QUEUE = RUN + "?queueRequest=true"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("queue") / "data"


@pytest.fixture(scope="module")
def the_provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture(scope="module")
def server(folder: Path, the_provider: ScriptedProvider) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_items, "RETRY_S", 0.01)
        settings = {"max_request_bytes": 50_000, "max_batch_requests": 50, "max_batches": 3}
        limits = {"body_timeout_s": 1}
        data_dir = str(folder)
        with serving(the_provider, Vectors(), data_dir=data_dir, **settings, **limits) as it:
            yield it


@pytest.fixture(autouse=True)
def provider(the_provider: ScriptedProvider) -> ScriptedProvider:
    the_provider.script = ScriptedProvider().script
    the_provider.requests.clear()
    return the_provider


def submit(server: Running, requests: Any, path: str = QUEUE, **headers: str) -> str:
    reply = server.ask("POST", path, {"requests": requests}, **headers)
    assert reply.status == 200, reply.body
    result = reply.json()["result"]
    assert result["status"] == "queued"
    return str(result["request_id"])


def poll(server: Running, request_id: str, path: str = QUEUE, **headers: str) -> Reply:
    return server.ask("POST", path, {"request_id": request_id}, **headers)


def complete(server: Running, request_id: str, path: str = QUEUE) -> Any:
    wait_until(lambda: "responses" in poll(server, request_id, path).json()["result"])
    return poll(server, request_id, path).json()["result"]


def test_requests_are_queued_and_their_answers_polled(
    server: Running, provider: ScriptedProvider
) -> None:
    requests = [
        {"prompt": "one", "external_reference": "first"},
        {"messages": [{"role": "user", "content": "two"}], "max_tokens": 9},
    ]
    reply = server.ask("POST", QUEUE, {"requests": requests})
    result = reply.json()["result"]
    assert (result["status"], result["model"]) == ("queued", MODEL)
    assert reply.headers["cf-ai-req-id"]
    done = complete(server, result["request_id"])
    assert [(r["id"], r["success"], r["external_reference"]) for r in done["responses"]] == [
        (0, True, "first"),
        (1, True, None),
    ]
    assert done["responses"][0]["result"]["response"] == "Hello"
    assert done["usage"]["total_tokens"] == 18
    assert complete(server, result["request_id"]) == done  # as often as one likes
    texts = sorted(request.messages[0].text for request in provider.requests)
    assert texts == ["one", "two"]
    assert all(request.is_background for request in provider.requests)


def test_a_question_may_come_without_the_query(server: Running) -> None:
    request_id = submit(server, [{"prompt": "x"}])
    assert complete(server, request_id, RUN) == complete(server, request_id)


def test_short_requests_that_are_no_questions_run_at_once(server: Running) -> None:
    assert server.ask("POST", RUN, {"prompt": "x"}).json()["result"]["response"] == "Hello"
    assert server.ask("POST", RUN, b"{").json()["errors"][0]["code"] == 5006
    stream = server.ask("POST", RUN, {"prompt": "x", "stream": True}).body
    assert stream.endswith(b"data: [DONE]\n\n")


def test_a_pending_batch_is_queued_or_running(server: Running, provider: ScriptedProvider) -> None:
    answers = provider.script

    def script(request: GenerationRequest) -> Iterator[Step]:
        yield 0.2
        yield from answers(request)

    provider.script = script
    request_id = submit(server, [{"prompt": "x"}])
    seen = set()

    def is_complete() -> bool:
        result = poll(server, request_id).json()["result"]
        assert "responses" in result or result["request_id"] == request_id
        seen.add(result.get("status", "complete"))
        return "responses" in result

    wait_until(is_complete)
    assert {"running", "complete"} <= seen <= {"queued", "running", "complete"}


def test_vectors_are_queued_for_a_model_that_makes_them(server: Running) -> None:
    path = "/client/v4/accounts/me/ai/run/vectors?queueRequest=true"
    request_id = submit(server, [{"text": ["ab", "abc"]}, {"text": "x"}], path)
    done = complete(server, request_id, path)
    assert [r["result"]["data"] for r in done["responses"]] == [[[2, 1], [3, 1]], [[1, 1]]]
    assert done["usage"]["prompt_tokens"] == 10


def test_what_fails_has_the_errors_it_would_have_got_alone(
    server: Running, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [ContextLengthExceeded(9000, 8000, "prompt")]
    done = complete(server, submit(server, [{"prompt": "x", "external_reference": "r"}]))
    (response,) = done["responses"]
    assert (response["success"], response["external_reference"]) == (False, "r")
    assert response["result"] == {}
    assert response["errors"][0]["code"] == 3030


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ([{"prompt": "x"}, {"prompt": "x", "temperature": 9}], "requests[1]: '/temperature'"),
        ([{"prompt": "x", "messages": []}], "requests[0]"),
        ([{"prompt": "x", "stream": True}], "requests[0]: a request in a batch"),
        ([7], "'/requests/0'"),
        ([], "Length of '/requests'"),
    ],
)
def test_a_call_with_a_bad_request_queues_nothing(
    server: Running, provider: ScriptedProvider, folder: Path, requests: Any, text: str
) -> None:
    before = sorted((folder / "files").iterdir())
    reply = server.ask("POST", QUEUE, {"requests": requests})
    assert reply.status == 400
    error = reply.json()["errors"][0]
    assert error["code"] == 5006
    assert text in error["message"]
    assert provider.requests == []
    assert sorted((folder / "files").iterdir()) == before


def test_limits_models_and_keys_are_those_of_the_wire(server: Running) -> None:
    many = server.ask("POST", QUEUE, {"requests": [{"prompt": "x"}] * 51})
    assert (many.status, many.json()["errors"][0]["code"]) == (413, 3006)
    assert "--max-batch-requests" in many.json()["errors"][0]["message"]
    large = server.ask("POST", QUEUE, {"requests": [{"prompt": "x" * 50_000}]})
    assert (large.status, large.json()["errors"][0]["code"]) == (413, 3006)
    path = "/client/v4/accounts/me/ai/run/gpt-5?queueRequest=true"
    unknown = server.ask("POST", path, {"requests": [{"prompt": "x"}]})
    assert (unknown.status, unknown.json()["errors"][0]["code"]) == (400, 5007)
    request_id = submit(server, [{"prompt": "x"}], authorization="Bearer mine")
    for headers in ({}, {"authorization": "Bearer other"}):
        refused = poll(server, request_id, **headers)
        assert (refused.status, refused.json()["errors"][0]["code"]) == (400, 5006)
    assert poll(server, request_id, authorization="Bearer mine").status == 200


def test_a_short_body_that_never_comes_is_not_waited_for(server: Running) -> None:
    head = f"POST {RUN} HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n{{"
    with server.connect(head.encode()) as connection:
        reply = b""
        while data := connection.recv(65_536):
            reply += data
    assert reply.startswith(b"HTTP/1.1 408")
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["errors"][0]["code"] == 3007


def test_what_is_queued_is_no_file_and_no_batch_of_the_other_wire(server: Running) -> None:
    request_id = submit(server, [{"prompt": "x"}])
    complete(server, request_id)
    assert server.ask("GET", "/v1/files").json()["data"] == []
    assert server.ask("GET", "/v1/batches").json()["data"] == []
    assert server.ask("GET", f"/v1/batches/{request_id}").status == 404
