"""The streaming client: what it reads out of the bytes of a connection, and when they came."""

from __future__ import annotations

import asyncio
import importlib
import json
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@pytest.fixture
def http_stream() -> ModuleType:
    return importlib.import_module("http_stream")


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text(piece: str) -> bytes:
    return event(choices=[{"index": 0, "text": piece}])


USAGE = event(
    choices=[],
    usage={
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
)
DONE = b"data: [DONE]\n\n"


def chunked(*events: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(data), data) for data in events)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def read(parts: list[tuple[float, bytes]]) -> Any:
    module = importlib.import_module("http_stream")
    answer = module.Answer(0.0)
    module.read_answer(parts, answer)
    return answer


def test_tokens_have_the_times_of_the_bytes_that_completed_them() -> None:
    reply = chunked(text("a"), text("b"), USAGE, DONE)
    first = reply.index(text("a")) + len(text("a"))
    second = reply.index(text("b")) + 5  # in the middle of the second event
    answer = read([(1.0, reply[:first]), (2.0, reply[first:second]), (3.0, reply[second:])])
    assert answer.token_s == [1.0, 3.0]
    assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (7, 2, 4)
    assert answer.error == ""


@given(cuts=st.lists(st.integers(0, 600), max_size=8))
def test_an_answer_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    reply = chunked(text("a"), text("") + text("b"), text("c"), USAGE + DONE)
    edges = [0, *sorted(min(cut, len(reply)) for cut in cuts), len(reply)]
    parts = [(float(n), reply[a:b]) for n, (a, b) in enumerate(pairwise(edges))]
    answer = read([part for part in parts if part[1]])
    assert answer.error == ""
    assert answer.output_tokens == 2
    assert len(answer.token_s) == 3, "an event without text is no token"
    assert answer.token_s == sorted(answer.token_s)
    whole = [reply.index(piece) + len(piece) for piece in (text("a"), text("b"), text("c"))]
    for at, end in zip(answer.token_s, whole, strict=True):
        assert edges[int(at) + 1] >= end, "a token can't be there before its last byte"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\ntoo many", "503: too many"),
        (b"", "no answer"),
        (chunked(text("a"), USAGE), r"the stream ended without \[DONE\]"),
        (chunked(USAGE, DONE), "the answer has no text"),
        (chunked(text("a"), event(error={"message": "gone"})), "gone"),
        (HEAD + b"\r\n" + text("a"), r"the stream ended without \[DONE\]"),
    ],
    ids=["refused", "closed", "cut off", "empty", "error", "not chunked"],
)
def test_what_is_not_a_whole_answer_is_a_failure(reply: bytes, error: str) -> None:
    answer = read([(1.0, reply)] if reply else [])
    assert answer.error
    with pytest.raises(AssertionError, match=error):
        raise AssertionError(answer.error)


def test_a_request_is_sent_and_its_answer_read_through_a_socket(http_stream: ModuleType) -> None:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b'"include_usage":true}}'))
        writer.write(chunked(text("a"), text("b"), USAGE, DONE))
        await writer.drain()
        writer.close()

    async def talk() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            server = http_stream.Server("test", "127.0.0.1", port, "m")
            return await http_stream.Stream(server, http_stream.Work("Hello", 2)).wait()

    answer = asyncio.run(talk())
    assert answer.error == ""
    assert 0 < answer.due_s <= answer.sent_s <= answer.token_s[0] <= answer.end_s
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["prompt"] == "Hello"


def test_a_stream_that_its_reader_left_is_no_failure(http_stream: ModuleType) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'"include_usage":true}}')
        writer.write(chunked(text("a")))
        await reader.read()
        writer.close()

    async def talk() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            server = http_stream.Server("test", "127.0.0.1", port, "m")
            stream = http_stream.Stream(server, http_stream.Work("Hello", 2))
            stream.stop()  # there is nothing to leave yet
            task = asyncio.create_task(stream.wait())
            while not stream.num_events:
                await asyncio.sleep(0.001)
            stream.stop()
            return await task

    answer = asyncio.run(talk())
    assert (answer.error, len(answer.token_s)) == ("", 1)


def test_a_server_that_is_not_there_is_a_failure(http_stream: ModuleType) -> None:
    port = importlib.import_module("start").free_port()
    server = http_stream.Server("test", "127.0.0.1", port, "m")
    answer = asyncio.run(http_stream.Stream(server, http_stream.Work("Hello", 2)).wait())
    assert answer.error.startswith("can't connect")
