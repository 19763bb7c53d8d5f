"""Batches through OpenAI's own client: queued, run once each, cancelled, expired, deleted."""

from __future__ import annotations

import errno
import json
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from outrider.errors import EngineFailed, EngineOverloaded
from outrider.server import batch_items, batch_runner
from outrider.storage import folder as folder_module
from outrider.types import (
    Completed,
    EmbeddingRequest,
    Embeddings,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    Usage,
)
from server.scripted import MODEL, PATIENCE_S, Running, ScriptedProvider, Step, serving, wait_until

CHAT = "/v1/chat/completions"
UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")


class Vectors:
    """Embeds every text as its length."""

    name = "vectors"

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        data = b"".join(struct.pack("<2f", len(text), 1) for text in request.texts)
        return Embeddings(self.name, data, len(request.texts), "mean", Usage(5, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batches") / "data"


@pytest.fixture(scope="module")
def the_provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture(scope="module")
def server(folder: Path, the_provider: ScriptedProvider) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_items, "RETRY_S", 0.01)
        patch.setattr(batch_runner, "RETRY_S", 0.05)
        patch.setattr(batch_runner, "CLEANING_S", 0.0)
        settings = {"max_request_bytes": 100_000, "max_batch_requests": 300, "max_batches": 3}
        with serving(the_provider, Vectors(), data_dir=str(folder), **settings) as it:
            yield it


@pytest.fixture(autouse=True)
def provider(the_provider: ScriptedProvider) -> ScriptedProvider:
    the_provider.script = ScriptedProvider().script
    the_provider.requests.clear()
    return the_provider


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=os.urandom(4).hex(), max_retries=0, timeout=PATIENCE_S
    ) as it:
        yield it


def line(name: str, url: str = CHAT, **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": name}]}
    if url != CHAT:
        body = {"model": MODEL}
    return {"custom_id": name, "method": "POST", "url": url, "body": body | fields}


def submit(client: openai.OpenAI, lines: Any, endpoint: Any = CHAT, **fields: Any) -> Batch:
    if not isinstance(lines, bytes):
        lines = "\n".join(json.dumps(each) for each in lines).encode()
    file = client.files.create(file=("in.jsonl", lines), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields
    )


def finished(client: openai.OpenAI, batch: Batch) -> Batch:
    wait_until(lambda: client.batches.retrieve(batch.id).status not in UNFINISHED)
    return client.batches.retrieve(batch.id)


def results(client: openai.OpenAI, batch: Batch) -> dict[str, Any]:
    """Give all result lines by custom_id, each of which must be there once."""
    lines = []
    for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
        lines += client.files.content(file_id).text.splitlines()
    rows = [json.loads(text) for text in lines]
    by_name = {row["custom_id"]: row for row in rows}
    assert len(by_name) == len(rows)
    return by_name


def test_a_batch_of_conversations_is_answered(
    client: openai.OpenAI, provider: ScriptedProvider, server: Running
) -> None:
    names = [f"item {n}" for n in range(20)]
    batch = submit(client, [line(name, n=2) for name in names], metadata={"who": "me"})
    assert batch.status == "validating"
    assert batch.expires_at == batch.created_at + 86_400
    done = finished(client, batch)
    assert (done.status, done.metadata, done.errors) == ("completed", {"who": "me"}, None)
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 20, "completed": 20, "failed": 0}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (140, 80)
    assert done.usage.input_tokens_details.cached_tokens == 80
    assert done.error_file_id is None
    rows = results(client, done)
    assert sorted(rows) == sorted(names)
    for row in rows.values():
        answer = openai.types.chat.ChatCompletion.model_validate(row["response"]["body"])
        assert [choice.message.content for choice in answer.choices] == ["Hello", "Hello"]
        assert answer.id == "chatcmpl-" + row["response"]["request_id"]
        assert (row["response"]["status_code"], row["error"]) == (200, None)
    assert all(request.is_background for request in provider.requests)
    assert sorted(request.messages[0].text for request in provider.requests) == sorted(names)
    assert done.output_file_id is not None
    output = client.files.retrieve(done.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert output.expires_at == output.created_at + 86_400
    metrics = server.ask("GET", "/metrics").body.decode()
    assert 'outrider_requests_total{model="fake-model",status="200",wire="openai-chat"}' in metrics


def test_completions_and_embeddings_have_batches_too(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    url = "/v1/completions"
    texts = submit(client, [line("a", url, prompt="x"), line("b", url, prompt=[1])], url)
    url = "/v1/embeddings"
    body = {"model": "vectors", "input": ["ab", "abc"]}
    lines = [line("a", url, **body), line("b", url, **body, encoding_format="base64")]
    vectors = submit(client, lines, url)
    rows = results(client, finished(client, texts))
    assert [rows[n]["response"]["body"]["choices"][0]["text"] for n in "ab"] == ["Hello"] * 2
    done = finished(client, vectors)
    rows = results(client, done)
    data = rows["a"]["response"]["body"]["data"]
    assert [row["embedding"] for row in data] == [[2, 1], [3, 1]]
    assert isinstance(rows["b"]["response"]["body"]["data"][0]["embedding"], str)
    assert done.usage is not None
    assert done.usage.total_tokens == 10


def test_what_is_wrong_with_one_request_is_that_ones_result(client: openai.OpenAI) -> None:
    lines = [
        line("good"),
        line("hot", temperature=9),
        line("unknown model", model="gpt-5"),
        line("streamed", stream=True),
        line("strange", colour="red"),
    ]
    done = finished(client, submit(client, lines))
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 5, "completed": 1, "failed": 4}
    rows = results(client, done)
    params = {
        name: row["response"]["body"]["error"]["param"]
        for name, row in rows.items()
        if name != "good"
    }
    expected = {"hot": "temperature", "unknown model": "model", "streamed": "stream"}
    assert params == expected | {"strange": "colour"}
    assert rows["unknown model"]["response"]["status_code"] == 404
    assert done.error_file_id is not None
    assert len(client.files.content(done.error_file_id).text.splitlines()) == 4


def test_a_file_that_is_wrong_fails_as_a_whole_with_its_lines(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    lines = [line("a"), line("b", "/v1/completions"), line("a"), {"custom_id": "c"}]
    text = "\n\n".join(json.dumps(each) for each in lines) + "\nno json\n\n"
    failed = finished(client, submit(client, text.encode()))
    assert failed.status == "failed"
    assert failed.failed_at is not None
    assert failed.errors is not None
    assert [(e.line, e.code, e.param) for e in failed.errors.data or []] == [
        (3, "invalid_url", "url"),
        (5, "duplicate_custom_id", "custom_id"),
        (7, "missing_required_parameter", "method"),
        (8, "invalid_json_line", None),
    ]
    assert provider.requests == []
    assert failed.output_file_id is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\n \n", "empty_file"),
        (json.dumps(line("a", user="x" * 100_000)).encode(), "line_too_long"),
        (b"\n".join(json.dumps(line(str(n))).encode() for n in range(301)), "too_many_requests"),
        (b"x\n" * 5000, "invalid_json_line"),
    ],
    ids=["empty", "blank", "long line", "many", "nonsense"],
)
def test_a_file_beyond_the_limits_fails(client: openai.OpenAI, content: bytes, code: str) -> None:
    failed = finished(client, submit(client, content))
    assert failed.status == "failed"
    assert failed.errors is not None
    errors = failed.errors.data or []
    assert {error.code for error in errors} == {code}
    assert len(errors) <= 100
    if code in ("line_too_long", "too_many_requests"):
        assert "--max-" in (errors[0].message or "")


def test_lists_have_pages_and_belong_to_their_key(client: openai.OpenAI) -> None:
    ids = [finished(client, submit(client, [line("a")])).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]
    page = client.batches.list(limit=1, after=ids[2])
    assert ([batch.id for batch in page.data], page.has_more) == ([ids[1]], True)
    other = client.with_options(api_key="somebody else")
    assert list(other.batches.list()) == []
    with pytest.raises(openai.NotFoundError):
        other.batches.retrieve(ids[0])
    with pytest.raises(openai.NotFoundError):
        other.batches.cancel(ids[0])
    file_id = client.batches.retrieve(ids[0]).input_file_id
    with pytest.raises(openai.NotFoundError) as refused:
        other.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    assert refused.value.param == "input_file_id"


def test_a_result_cannot_be_an_input(client: openai.OpenAI) -> None:
    done = finished(client, submit(client, [line("a")]))
    with pytest.raises(openai.BadRequestError, match="purpose batch_output"):
        client.batches.create(
            input_file_id=done.output_file_id or "", endpoint=CHAT, completion_window="24h"
        )


def test_a_cancelled_batch_keeps_what_it_has(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    answers, closed = provider.script, threading.Event()

    def script(request: GenerationRequest) -> Iterator[Step]:
        if request.messages[0].text != "0":
            try:
                yield 60.0
            finally:
                closed.set()
        yield from answers(request)

    provider.script = script
    batch = submit(client, [line(str(n)) for n in range(30)])
    wait_until(lambda: len(provider.requests) == 5)  # one is done, four run
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1)  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError, match=batch.id):
        client.files.delete(batch.input_file_id)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = finished(client, batch)
    assert done.status == "cancelled"
    assert closed.wait(PATIENCE_S)
    assert provider.num_running == 0
    rows = results(client, done)
    assert sorted(rows, key=int) == [str(n) for n in range(30)]
    assert rows.pop("0")["response"]["status_code"] == 200
    assert {row["error"]["code"] for row in rows.values()} == {"batch_cancelled"}
    assert client.files.delete(batch.input_file_id).deleted


def test_a_batch_that_has_ended_cannot_be_cancelled(client: openai.OpenAI) -> None:
    done = finished(client, submit(client, [line("a")]))
    with pytest.raises(openai.BadRequestError, match="status 'completed'"):
        client.batches.cancel(done.id)


def test_more_batches_than_allowed_are_refused(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [30.0]
    running = [submit(client, [line("a")]) for _ in range(3)]
    with pytest.raises(openai.BadRequestError, match="--max-batches"):
        submit(client, [line("a")])
    for batch in running:
        client.batches.cancel(batch.id)
    assert {finished(client, batch).status for batch in running} == {"cancelled"}


def test_batches_take_turns(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.script = lambda request: [0.01, *ScriptedProvider().script(request)]
    large = submit(client, [line(f"large {n}") for n in range(200)])
    small = submit(client, [line(f"small {n}") for n in range(5)])
    assert finished(client, small).status == "completed"
    assert client.batches.retrieve(large.id).status == "in_progress"
    assert finished(client, large).status == "completed"


def test_items_wait_for_an_engine_that_is_busy_and_are_tried_again_when_it_fails(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    answers, seen = provider.script, {"busy": 0, "fails": 0, "kills": 0}

    def script(request: GenerationRequest) -> Iterator[Step]:
        name = request.messages[0].text
        seen[name] += 1
        if name == "busy" and seen[name] < 6:
            yield EngineOverloaded("full", 0)
        if name == "fails" and seen[name] < 3:
            yield EngineFailed("gone")
        if name == "kills":
            yield Started(MODEL)
            yield TextDelta(0, "Hel")
            yield EngineFailed("gone")
        yield from answers(request)

    provider.script = script
    done = finished(client, submit(client, [line(name) for name in seen]))
    assert seen == {"busy": 6, "fails": 3, "kills": 3}
    rows = results(client, done)
    statuses = {name: row["response"]["status_code"] for name, row in rows.items()}
    assert statuses == {"busy": 200, "fails": 200, "kills": 500}
    assert rows["kills"]["response"]["body"]["error"]["code"] == "engine_failed"


def test_a_bug_while_an_item_runs_is_that_items_result(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [
        Started(MODEL),
        Finished(0, "stop"),
        Finished(0, "stop"),
        Completed(Usage(1, 1)),
    ]
    done = finished(client, submit(client, [line("a")]))
    (row,) = results(client, done).values()
    assert row["response"]["status_code"] == 500
    assert "GrammarError" in row["response"]["body"]["error"]["message"]


def test_a_batch_that_is_out_of_time_expires_and_results_are_deleted_in_time(
    client: openai.OpenAI,
    provider: ScriptedProvider,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = provider.script

    def script(request: GenerationRequest) -> Iterator[Step]:
        if request.messages[0].text != "0":
            yield 60.0
        yield from answers(request)

    provider.script = script
    batch = submit(
        client,
        [line(str(n)) for n in range(9)],
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1)  # type: ignore[union-attr]
    now = batch_runner.time.time
    monkeypatch.setattr(batch_runner.time, "time", lambda: now() + 86_401)
    submit(client, [line("0")])  # wakes the runner
    done = finished(client, batch)
    assert (done.status, done.expired_at is not None) == ("expired", True)
    rows = results(client, done)
    assert rows.pop("0")["response"]["status_code"] == 200
    assert {row["error"]["code"] for row in rows.values()} == {"batch_expired"}
    assert len(rows) == 8
    monkeypatch.setattr(batch_runner.time, "time", lambda: now() + 86_401 + 3_602)
    last = submit(client, [line("0")])

    def is_gone() -> bool:
        return batch.id not in [each.id for each in client.batches.list()]

    wait_until(is_gone)
    wait_until(lambda: not (folder / "files" / (done.output_file_id or "")).exists())
    with pytest.raises(openai.NotFoundError):
        client.files.content(done.output_file_id or "")
    finished(client, last)


def test_a_disk_that_is_full_for_a_while_loses_and_doubles_nothing(
    client: openai.OpenAI, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    fsync = folder_module.os.fsync

    def fail(descriptor: int) -> None:
        if full.is_set() and provider.requests:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(folder_module.os, "fsync", fail)
    batch = submit(client, [line(str(n)) for n in range(9)])
    wait_until(lambda: client.batches.retrieve(batch.id).status == "finalizing")
    full.clear()
    done = finished(client, batch)
    assert done.status == "completed"
    assert len(results(client, done)) == 9
