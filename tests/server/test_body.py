"""Tests of reading bodies: limits in size and time, encodings, clients that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from outrider.config import ServerConfig
from outrider.errors import InvalidRequest, PayloadTooLarge, RequestTimeout
from outrider.server.body import ClientGone, read_body, wait_for_disconnect

LIMIT = 100
DISCONNECT = {"type": "http.disconnect"}


class Receive:
    """Gives messages; hangs when there are no more."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.num_received = 0

    async def __call__(self) -> dict[str, Any]:
        if self.num_received == len(self.messages):
            await asyncio.sleep(30)
        self.num_received += 1
        return self.messages[self.num_received - 1]


def parts(*pieces: bytes) -> list[dict[str, Any]]:
    last = len(pieces) - 1
    return [
        {"type": "http.request", "body": piece, "more_body": index != last}
        for index, piece in enumerate(pieces)
    ]


def read(messages: list[dict[str, Any]], **headers: str) -> tuple[bytes, Receive]:
    receive = Receive(messages)
    named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    config = ServerConfig(max_request_bytes=LIMIT, body_timeout_s=1)
    return asyncio.run(read_body(named, receive, config)), receive


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_a_body_is_joined_or_refused_by_its_total_size(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    try:
        assert read(parts(*pieces))[0] == whole
    except PayloadTooLarge:
        assert len(whole) > LIMIT
    else:
        assert len(whole) <= LIMIT


def test_a_body_is_refused_as_soon_as_it_is_too_long() -> None:
    receive = Receive(parts(b"x" * 60, b"x" * 60, b"x" * 60))
    config = ServerConfig(max_request_bytes=LIMIT)
    with pytest.raises(PayloadTooLarge, match="--max-request-bytes"):
        asyncio.run(read_body(Headers(), receive, config))
    assert receive.num_received == 2


def test_a_content_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    receive = Receive([])
    config = ServerConfig(max_request_bytes=LIMIT)
    headers = Headers({"content-length": str(LIMIT + 1)})
    with pytest.raises(PayloadTooLarge):
        asyncio.run(read_body(headers, receive, config))
    assert receive.num_received == 0


def test_a_content_length_that_lies_does_not_help() -> None:
    with pytest.raises(PayloadTooLarge):
        read(parts(b"x" * (LIMIT + 1)), content_length="5")


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_compressed_bodies_are_refused(encoding: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(parts(b"x"), content_encoding=encoding)
    assert caught.value.param == "content-encoding"


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_an_encoding_that_changes_nothing_is_accepted(encoding: str) -> None:
    assert read(parts(b"x"), content_encoding=encoding)[0] == b"x"


def test_a_body_that_does_not_arrive_times_out() -> None:
    with pytest.raises(RequestTimeout, match="1 s"):
        read(parts(b"x", b"y")[:1])


def test_a_client_that_leaves_while_sending_is_noticed() -> None:
    with pytest.raises(ClientGone):
        read([*parts(b"x", b"y")[:1], DISCONNECT])


def test_the_watcher_returns_at_the_disconnect_only() -> None:
    receive = Receive([*parts(b"", b""), DISCONNECT])
    asyncio.run(wait_for_disconnect(receive))
    assert receive.num_received == 3
