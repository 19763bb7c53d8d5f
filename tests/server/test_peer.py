"""Bodies and leaving clients: the same whether the server knows them or reads ASGI's messages."""

from __future__ import annotations

import gc
import json
import socket
import time
import weakref
from collections.abc import Generator
from typing import Any

import pytest
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from outrider.server.peer import Peer
from server.scripted import PATIENCE_S, Running, ScriptedProvider, endless, raw_post

CHAT = "/v1/chat/completions"
WHOLE = b'{"model": "fake-model", "messages": [{"role": "user", "content": "x"}]}'
HEAD = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % (CHAT.encode(), len(WHOLE))


@pytest.fixture(params=[True, False], ids=["known", "by-messages"])
def server(
    request: pytest.FixtureRequest, server: Running, monkeypatch: pytest.MonkeyPatch
) -> Running:
    if not request.param:
        monkeypatch.setattr(Peer, "of", lambda scope, receive: None)
    return server


def answers(connection: socket.socket) -> Generator[bytes]:
    """Give the body of each answer that comes."""
    with connection.makefile("rb") as file:
        while line := file.readline():
            assert line.startswith((b"HTTP/1.1 200", b"HTTP/1.1 100")), line
            length = 0
            while (header := file.readline()) != b"\r\n":
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if length:
                yield file.read(length)


@pytest.mark.parametrize("cuts", [(), (20,), (len(HEAD) + 2,), (len(HEAD) + 2, len(HEAD) + 30)])
def test_a_body_is_read_however_it_comes(server: Running, cuts: tuple[int, ...]) -> None:
    sent = HEAD + b"\r\n" + WHOLE
    with server.connect(b"") as connection:
        for begin, end in zip((0, *cuts), (*cuts, len(sent)), strict=True):
            connection.sendall(sent[begin:end])
            time.sleep(0.01 * bool(cuts))
        assert json.loads(next(answers(connection)))["choices"]


def test_a_body_that_waits_for_a_sign_gets_it(server: Running) -> None:
    with server.connect(b"") as connection:
        connection.sendall(HEAD + b"expect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(WHOLE)
        assert json.loads(next(answers(connection)))["choices"]


def test_requests_that_are_sent_at_once_are_answered_one_after_the_other(server: Running) -> None:
    with server.connect(b"") as connection:
        connection.sendall((HEAD + b"\r\n" + WHOLE) * 3)
        found = answers(connection)
        ids = {json.loads(next(found))["id"] for _ in range(3)}
    assert len(ids) == 3


def test_who_leaves_ends_the_answer(server: Running, provider: ScriptedProvider) -> None:
    provider.script = endless
    connection = server.connect(raw_post(CHAT, WHOLE[:-1] + b', "stream": true}'))
    assert connection.recv(1000)
    connection.close()
    assert provider.closed.wait(PATIENCE_S)
    assert provider.num_running == 0


def test_an_answered_request_leaves_nothing_to_the_garbage_collector(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycles: weakref.WeakSet[RequestResponseCycle] = weakref.WeakSet()

    class Known(RequestResponseCycle):
        def __init__(self, *arguments: Any, **fields: Any) -> None:
            super().__init__(*arguments, **fields)
            cycles.add(self)

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Known)
    gc.disable()
    try:
        with server.connect(b"") as connection:
            found = answers(connection)
            for _ in range(10):
                connection.sendall(HEAD + b"\r\n" + WHOLE)
                assert next(found)
            found.close()
            assert len(cycles) <= 2, "its connection's last, and one that is about to end"
    finally:
        gc.enable()
