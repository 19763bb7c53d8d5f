"""Tests of connections: bodies that are too large or too slow, clients that leave, draining."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvloop

from outrider.config import ServerConfig
from outrider.server import connection as connection_module
from outrider.server.run import copies_of, listen
from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.scripted import (
    MODEL,
    PATIENCE_S,
    Running,
    ScriptedProvider,
    Step,
    endless,
    payloads,
    raw_post,
    serving,
    silent,
    wait_until,
)

CHAT = "/v1/chat/completions"
WHOLE = b'{"model": "fake-model", "messages": [{"role": "user", "content": "x"}]}'
STREAM = WHOLE[:-1] + b', "stream": true}'
PROMPTLY_S = 0.5


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        data = connection.recv(65536)
        assert data, f"closed after {seen!r}"
        seen += data
    return seen


def read_all(connection: socket.socket) -> bytes:
    seen = b""
    while data := connection.recv(65536):
        seen += data
    return seen


def end_of(connection: socket.socket) -> bytes:
    """Read to the end, or to where the server cuts it, and give the last bytes."""
    end = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(1 << 20):
            end = (end + data)[-100:]
    return end


def unchunk(reply: bytes) -> bytes:
    """Give the body of a reply that is complete and chunked."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        if not count:
            return body
        body, rest = body + rest[:count], rest[count + 2 :]


def test_a_content_length_over_the_limit_is_refused_before_the_body_arrives(
    server: Running, provider: ScriptedProvider
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 20001\r\n\r\n"
    with server.connect(head.encode()) as connection:
        reply = read_until(connection, b"payload_too_large")
    assert reply.startswith(b"HTTP/1.1 413")
    assert provider.requests == []


def test_a_chunked_body_over_the_limit_is_refused_while_it_arrives(
    server: Running, provider: ScriptedProvider
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    with server.connect(head) as connection:
        for _ in range(3):  # 24,000 of the 20,000 bytes that are allowed; no last chunk
            connection.sendall(b"1f40\r\n" + b" " * 8000 + b"\r\n")
        reply = read_until(connection, b"payload_too_large")
    assert reply.startswith(b"HTTP/1.1 413")
    assert provider.requests == []


def test_a_body_at_the_limit_is_read(server: Running) -> None:
    assert server.ask("POST", CHAT, WHOLE + b" " * (20_000 - len(WHOLE))).status == 200
    assert server.ask("POST", CHAT, WHOLE + b" " * (20_001 - len(WHOLE))).status == 413


def test_a_slow_body_times_out(server: Running, provider: ScriptedProvider) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n".encode()
    begin = time.monotonic()
    with server.connect(head + b"{") as connection:
        reply = read_all(connection)  # until the server closes it
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in reply
    assert 0.9 < time.monotonic() - begin < 3  # --body-timeout-s is 1
    assert provider.requests == []


def test_a_slow_client_does_not_hold_up_another(server: Running) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n".encode()
    with server.connect(head):
        begin = time.monotonic()
        assert server.ask("POST", CHAT, WHOLE).status == 200
        assert time.monotonic() - begin < PROMPTLY_S


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_client_that_leaves_a_stream_closes_the_generator(
    is_reset: bool, server: Running, provider: ScriptedProvider
) -> None:
    provider.script = endless
    connection = server.connect(raw_post(CHAT, STREAM))
    read_until(connection, b"word")
    if is_reset:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
    assert provider.closed.wait(PROMPTLY_S)
    assert provider.num_running == 0


@pytest.mark.parametrize("body", [WHOLE, STREAM])
def test_a_client_that_leaves_before_the_first_event_closes_the_generator(
    body: bytes, server: Running, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "outrider.access")
    provider.script = silent
    connection = server.connect(raw_post(CHAT, body))
    assert provider.started.wait(PATIENCE_S)
    connection.close()
    assert provider.closed.wait(PROMPTLY_S)
    wait_until(lambda: "status=499" in caplog.text)


def test_a_client_that_leaves_without_reading_closes_the_generator(
    server: Running, provider: ScriptedProvider
) -> None:
    def flood(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL)
        for _ in range(2000):  # 64 MiB: more than the sockets buffer
            yield TextDelta(0, "x" * 32768)

    provider.script = flood
    connection = server.connect(raw_post(CHAT, STREAM))
    assert provider.started.wait(PATIENCE_S)
    time.sleep(0.3)
    assert not provider.closed.is_set(), "the stream waits for its reader"
    connection.close()
    assert provider.closed.wait(PROMPTLY_S)


def test_a_client_that_stays_and_does_not_read_is_cut_off_and_one_that_goes_on_is_not(
    server: Running, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_events = 400  # 12 MiB: more than the sockets buffer

    def flood(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL)
        for _ in range(num_events):
            yield TextDelta(0, "x" * 32768)
        yield Finished(0, "stop")
        yield Completed(Usage(1, 1))

    provider.script = flood
    monkeypatch.setattr(connection_module, "STALLED_S", 0.5)
    with server.connect(raw_post(CHAT, STREAM)) as silent_one:
        assert provider.started.wait(PATIENCE_S)
        assert provider.closed.wait(PATIENCE_S)
        assert b"[DONE]" not in end_of(silent_one)
    with server.connect(raw_post(CHAT, STREAM, "connection: close")) as slow_one:
        time.sleep(0.2)
        assert b"[DONE]" in end_of(slow_one)


def test_many_clients_that_leave_at_once_all_close_their_generators(
    server: Running, provider: ScriptedProvider
) -> None:
    provider.script = endless
    connections = [server.connect(raw_post(CHAT, STREAM)) for _ in range(20)]
    for connection in connections:
        read_until(connection, b"word")
    assert provider.num_running == 20
    for connection in connections:
        connection.close()
    assert wait_until(lambda: provider.num_running == 0) < 2 * PROMPTLY_S
    provider.script = ScriptedProvider().script
    assert server.ask("POST", CHAT, WHOLE).status == 200


def test_a_connection_is_kept_for_the_next_request(server: Running) -> None:
    with server.connect(raw_post(CHAT, WHOLE)) as connection:
        read_until(connection, b"total_tokens")
        connection.sendall(raw_post(CHAT, STREAM, "connection: close"))
        assert b"[DONE]" in read_all(connection)


def short(request: GenerationRequest) -> Iterator[Step]:
    """Talk for half a second."""
    yield Started(MODEL)
    for _ in range(10):
        yield TextDelta(0, "word ")
        yield 0.05
    yield Finished(0, "stop")
    yield Completed(Usage(1, 10))


def test_draining_lets_a_running_stream_finish_and_takes_nothing_new(
    server: Running, provider: ScriptedProvider
) -> None:
    provider.script = short
    with server.connect(raw_post(CHAT, STREAM)) as connection:
        seen = read_until(connection, b"word")
        server.server.should_exit = True
        wait_until(lambda: is_refused(server.port), 1)
        assert not provider.closed.is_set()
        seen += read_all(connection)
    events = payloads(unchunk(seen))
    assert events[-1] == b"[DONE]"
    assert sum(b"word" in event for event in events) == 10
    server.thread.join(PATIENCE_S)
    assert not server.thread.is_alive()


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("body", [WHOLE, STREAM])
def test_a_request_that_outlasts_the_drain_ends_with_an_error(body: bytes) -> None:
    def stubborn(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL)
        yield TextDelta(0, "word")
        yield 30.0

    provider = ScriptedProvider(stubborn)
    with serving(provider, drain_timeout_s=1) as server:
        with server.connect(raw_post(CHAT, body)) as connection:
            assert provider.started.wait(PATIENCE_S)
            server.server.should_exit = True
            reply = read_all(connection)
        assert provider.closed.wait(PROMPTLY_S)
    assert b"engine_failed" in reply
    assert b"[DONE]" not in reply


def test_the_provider_runs_in_the_servers_own_thread(
    server: Running, provider: ScriptedProvider
) -> None:
    threads = []

    def script(request: GenerationRequest) -> Iterator[Step]:
        threads.append(threading.get_ident())
        asyncio.get_running_loop()
        yield Started(MODEL)
        yield Finished(0, "stop")
        yield Completed(Usage(1, 0))

    provider.script = script
    assert server.ask("POST", CHAT, WHOLE).status == 200
    assert threads == [server.thread.ident]


def test_a_connection_too_many_gets_a_503_of_its_wire_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider.server.connection.SURPLUS_S", 0.05)
    ask = raw_post(CHAT, WHOLE)
    with serving(ScriptedProvider(), max_connections=1) as server, server.connect(b"") as first:
        with server.connect(raw_post("/api/v1/chat/completions", WHOLE)) as second:
            reply = read_all(second)
        assert reply.startswith(b"HTTP/1.1 503")
        assert b"retry-after: " in reply
        assert b"provider_overloaded" in reply
        with server.connect(b"") as silent_one:
            assert read_all(silent_one) == b""  # closed although it said nothing
        first.sendall(ask)
        assert read_until(first, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    with serving(ScriptedProvider(), max_connections=1) as server:
        for _ in range(3):  # a place is free once its connection is closed
            with server.connect(raw_post(CHAT, WHOLE, "connection: close")) as only:
                assert read_all(only).startswith(b"HTTP/1.1 200")


def test_small_pieces_of_an_answer_do_not_wait_for_the_ones_before() -> None:
    async def accept() -> int:
        accepted: asyncio.Queue[int] = asyncio.Queue()

        async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            accepted.put_nowait(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = listen(ServerConfig(port=0))
        async with await asyncio.start_server(take, sock=listener):
            with socket.create_connection(listener.getsockname()):
                return await accepted.get()

    assert asyncio.run(accept()), "head and body of an answer would be 40 ms apart"


def test_many_that_connect_at_once_are_accepted_in_a_few_turns_of_the_loop() -> None:
    num_accepted = 0

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal num_accepted
            num_accepted += 1

    async def num_turns() -> int:
        loop = asyncio.get_running_loop()
        listener = listen(ServerConfig(port=0))
        turns = 0
        async with contextlib.AsyncExitStack() as ends:
            for each in copies_of(listener):
                await ends.enter_async_context(await loop.create_server(Accepted, sock=each))
            with contextlib.ExitStack() as clients:
                for _ in range(64):
                    clients.enter_context(socket.create_connection(listener.getsockname()))
                while num_accepted < 64:
                    await asyncio.sleep(0)
                    turns += 1
        return turns

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(num_turns()) < 16
