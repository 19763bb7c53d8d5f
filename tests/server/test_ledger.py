"""The ledger over real sockets: every route and wire has its row, with what was handed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from metering.books import rows_of
from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.scripted import (
    MODEL,
    Running,
    ScriptedProvider,
    Step,
    raw_post,
    serving,
    wait_until,
)
from server.test_batches import Vectors

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
NATIVE = f"/client/v4/accounts/me/ai/run/{MODEL}"


def counted(request: GenerationRequest) -> Iterator[Step]:
    """Say three words of two tokens each; stop after the first one if it is asked to wait."""
    yield Started(MODEL, prompt_tokens=7)
    for number in range(3):
        yield TextDelta(0, f"word{number} ", num_tokens=2)
        if request.sampling.max_tokens == 99:
            yield 30.0
    yield Finished(0, "stop")
    yield Completed(Usage(7, 6, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger") / "data"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(ScriptedProvider(counted), Vectors(), data_dir=str(folder)) as it:
        yield it


def ledger_of(folder: Path) -> list[Any]:
    engine = create_engine(f"sqlite:///{folder / 'outrider.db'}")
    try:
        with engine.connect() as connection:
            return rows_of(connection)
    finally:
        engine.dispose()


def next_row(folder: Path, num_before: int) -> Any:
    wait_until(lambda: len(ledger_of(folder)) > num_before)
    (row,) = ledger_of(folder)[num_before:]
    return row


@pytest.mark.parametrize(
    ("path", "body", "wire"),
    [
        ("/v1/chat/completions", CHAT, "openai-chat"),
        ("/v1/completions", {"model": MODEL, "prompt": "x"}, "openai-completions"),
        ("/api/v1/chat/completions", CHAT, "openrouter-chat"),
        ("/api/v1/completions", {"model": MODEL, "prompt": "x"}, "openrouter-completions"),
        (NATIVE, {"prompt": "x"}, "workers-ai"),
        ("/client/v4/accounts/me/ai/v1/chat/completions", CHAT, "workers-ai-chat"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_of_any_wire_is_a_row(
    server: Running, folder: Path, path: str, body: dict[str, Any], wire: str, stream: bool
) -> None:
    before = len(ledger_of(folder))
    assert server.ask("POST", path, {**body, "stream": stream}).status == 200
    row = next_row(folder, before)
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (7, 6, 4)
    assert (row.wire, row.api_type, row.model, row.provider) == (
        wire,
        "completions",
        MODEL,
        "local",
    )
    assert (row.status, row.is_streamed, row.finish_reason) == (200, stream, "stop")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "vectors", "input": "a b c"}),
        ("/api/v1/embeddings", {"model": "vectors", "input": "a b c"}),
        ("/client/v4/accounts/me/ai/run/vectors", {"text": "a b c"}),
    ],
    ids=["openai", "openrouter", "workers-ai"],
)
def test_embeddings_are_rows_as_well(
    server: Running, folder: Path, path: str, body: dict[str, Any]
) -> None:
    before = len(ledger_of(folder))
    reply = server.ask("POST", path, body)
    assert reply.status == 200
    row = next_row(folder, before)
    assert (row.api_type, row.completion_tokens, row.status) == ("embeddings", 0, 200)
    assert row.prompt_tokens > 0


def test_a_client_that_leaves_pays_for_what_it_got(server: Running, folder: Path) -> None:
    before = len(ledger_of(folder))
    body = json.dumps({**CHAT, "stream": True, "max_tokens": 99}).encode()
    with server.connect(raw_post("/v1/chat/completions", body)) as connection:
        received = b""
        while b"word0" not in received:
            received += connection.recv(4096)
    row = next_row(folder, before)
    assert (row.prompt_tokens, row.completion_tokens, row.status) == (7, 2, 499)
    assert row.is_cancelled


def test_a_request_that_no_model_was_asked_for_leaves_no_row(server: Running, folder: Path) -> None:
    before = len(ledger_of(folder))
    assert server.ask("POST", "/v1/chat/completions", {**CHAT, "model": "none"}).status == 404
    assert server.ask("POST", "/v1/chat/completions", CHAT).status == 200
    next_row(folder, before)


def test_the_row_of_an_answer_has_the_id_that_the_answer_has(server: Running, folder: Path) -> None:
    before = len(ledger_of(folder))
    reply = server.ask("POST", "/api/v1/chat/completions", CHAT)
    row = next_row(folder, before)
    assert row.id == reply.json()["id"] == reply.headers["x-generation-id"]
