"""Connections to other machines, over real sockets: the same replies as aiohttp reads, bounded."""

from __future__ import annotations

import asyncio
import gzip
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from gateway.raw_server import HEAD, LENGTH, Script, post, replying, take, whole, with_server
from outrider.gateway import connections, http_connection
from outrider.gateway.connections import Connections, ConnectTimeout, head_of, target_of
from outrider.gateway.http_connection import HttpConnection, HttpError

CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n"
PACKED = gzip.compress(b"hello" * 50)
GOOD = {
    "length": LENGTH,
    "chunked": CHUNKED,
    "empty": HEAD + b"content-length: 0\r\n\r\n",
    "continue-first": b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH,
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + CHUNKED,
    "error": b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno",
    "gzip": HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(PACKED) + PACKED,
}
CLOSING = {
    "until-the-end": HEAD + b"connection: close\r\n\r\nhello",
    "http-1.0": HEAD.replace(b"1.1", b"1.0") + b"\r\nhello",
}
BAD = {
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "cut-head": HEAD,
    "cut-body": LENGTH[:-1],
    "cut-chunks": CHUNKED[:-7],
    "long-head": HEAD + b"x: " + b"y" * (70 << 10),
    "long-chunk-line": CHUNKED[:-5] + b"1;" + b"y" * (70 << 10),
    "two-lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "length-and-chunks": HEAD + b"content-length: 5\r\n" + CHUNKED[len(HEAD) :],
    "other-protocol": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "unknown-packing": HEAD + b"content-encoding: br\r\ncontent-length: 5\r\n\r\nhello",
    "cut-packing-until-the-end": HEAD + b"content-encoding: gzip\r\n\r\n" + PACKED[:9],
    "cut-packing": HEAD + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\n" + PACKED[:9],
}


def ask(script: Script, num_requests: int = 1) -> list[tuple[int, bytes]]:
    async def work(url: str, pool: Connections) -> list[tuple[int, bytes]]:
        return [await whole(pool, url) for _ in range(num_requests)]

    return asyncio.run(with_server(script, work))


@pytest.mark.parametrize("name", [*GOOD, *CLOSING])
def test_replies_are_read_as_aiohttp_reads_them(name: str) -> None:
    reply = {**GOOD, **CLOSING}[name]

    async def theirs(url: str, _: Connections) -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as session, session.post(url, data=b"{}") as response:
            return response.status, await response.read()

    expected = asyncio.run(with_server(replying(reply, is_closed=True), theirs))
    assert ask(replying(reply, is_closed=True)) == [expected]
    pieces = [reply[at : at + 1] for at in range(len(reply))]
    assert ask(replying(*pieces, is_closed=True)) == [expected]


@pytest.mark.parametrize("name", list(GOOD))
def test_a_connection_is_used_again_after_a_whole_reply(name: str) -> None:
    num_connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_connections
        num_connections += 1
        await replying(GOOD[name])(reader, writer)

    replies = ask(script, 3)
    assert (replies[1:], num_connections) == (replies[:-1], 1)


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_no_whole_reply_is_an_error(name: str) -> None:
    with pytest.raises(HttpError):
        ask(replying(BAD[name], is_closed=True))


@pytest.mark.parametrize("reply", [LENGTH + LENGTH, LENGTH + b"x", CHUNKED + LENGTH])
def test_a_connection_that_goes_on_after_its_reply_is_not_used_again(reply: bytes) -> None:
    num_connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_connections
        num_connections += 1
        await replying(reply)(reader, writer)

    async def work(url: str, pool: Connections) -> list[tuple[int, bytes]]:
        replies = []
        for _ in range(2):
            replies.append(await whole(pool, url))
            await asyncio.sleep(0.02)  # what is too much may come later
        return replies

    assert asyncio.run(with_server(script, work)) == [(200, b"hello")] * 2
    assert num_connections == 2


def test_a_kept_connection_that_the_server_has_closed_is_not_used() -> None:
    async def work(url: str, pool: Connections) -> list[tuple[int, bytes]]:
        replies = []
        for _ in range(3):
            replies.append(await whole(pool, url))
            await asyncio.sleep(0.02)
        return replies

    script = replying(LENGTH, num_replies=1)
    assert asyncio.run(with_server(script, work)) == [(200, b"hello")] * 3


def test_no_two_requests_share_a_connection_whatever_happens() -> None:
    """Requests end, fail and are given up at any moment; each gets the answer to its own."""
    chance = random.Random(7)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            number = await reader.readexactly(5)
            await asyncio.sleep(chance.random() / 500)
            writer.write(LENGTH[:-5] + number)

    async def request(pool: Connections, url: str, number: int) -> None:
        await asyncio.sleep(chance.random() / 20)
        deadline = asyncio.get_running_loop().time() + 5
        connection = await pool.post(url, b"%05d" % number, {}, deadline, 5.0)
        try:
            while not connection.is_whole:
                await asyncio.sleep(0)
            assert connection.read_nowait() == b"%05d" % number
        finally:
            pool.release(connection)

    async def work(url: str, pool: Connections) -> None:
        connect = pool._connect

        async def slowly(*target: Any) -> HttpConnection:
            await asyncio.sleep(chance.random() / 50)
            if chance.random() < 0.2:
                raise ConnectionRefusedError
            return await connect(*target)

        pool._connect = slowly  # type: ignore[method-assign]
        tasks = [asyncio.create_task(request(pool, url, number)) for number in range(400)]
        for task in chance.sample(tasks, 100):
            await asyncio.sleep(chance.random() / 2000)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = {type(result) for result in results}
        assert kinds == {type(None), asyncio.CancelledError, ConnectionRefusedError}
        assert pool._busy == set()

    asyncio.run(with_server(script, work))


@pytest.mark.parametrize(
    ("last_words", "is_sent_again"), [(b"", True), (b"HTTP/1.1 2", False), (b"SSH\r\n", False)]
)
def test_what_a_host_closes_on_its_next_use_is_sent_again_if_nothing_came(
    last_words: bytes, is_sent_again: bool
) -> None:
    num_connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_connections
        num_connections += 1
        await replying(LENGTH, num_replies=1)(reader, writer)
        await take(reader)
        writer.write(last_words)

    if is_sent_again:
        assert ask(script, 3) == [(200, b"hello")] * 3
        assert num_connections == 3
    else:
        with pytest.raises(HttpError):
            ask(script, 3)
        assert num_connections == 1


def test_unused_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEPT_S", 0.02)
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(LENGTH)
        assert await reader.read() == b""
        gone.set()

    async def work(url: str, pool: Connections) -> None:
        await whole(pool, url)
        await gone.wait()

    asyncio.run(with_server(script, work))


def test_waits_end_at_their_time_and_the_connection_is_cut() -> None:
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(CHUNKED[:-10])
        try:
            await reader.read()
        finally:
            gone.set()

    async def work(url: str, pool: Connections) -> None:
        connection = await post(pool, url)
        time = asyncio.get_running_loop().time
        read = b""
        with pytest.raises(TimeoutError):
            while True:
                read += await connection.read(time() + (5 if not read else 0.02))
        assert read == b"hel"
        pool.release(connection)
        await gone.wait()

    asyncio.run(with_server(script, work))


def test_what_nobody_reads_is_left_in_the_socket() -> None:
    body = bytes(8 << 20)
    reply = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body

    async def work(url: str, pool: Connections) -> None:
        connection = await post(pool, url)
        await asyncio.sleep(0.1)
        assert connection._num_waiting < 2 * http_connection.MAX_WAITING_BYTES
        num_bytes = 0
        while not connection.is_at_end:
            num_bytes += len(await connection.read(asyncio.get_running_loop().time() + 5))
        assert num_bytes == len(body)
        pool.release(connection)
        assert (await whole(pool, url))[1] == body

    asyncio.run(with_server(replying(reply), work))


def test_what_unpacks_to_far_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "MAX_UNPACKED_BYTES", 1000)
    packed = gzip.compress(bytes(10_000))
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    with pytest.raises(HttpError):
        ask(replying(head + packed, is_closed=True))


def test_an_address_that_does_not_answer_costs_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "NEXT_ADDRESS_S", 0.01)

    async def work(url: str, pool: Connections) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        look_up, connect = loop.getaddrinfo, loop.sock_connect
        dead, refusing = ("192.0.2.1", 9), ("127.0.0.1", 1)

        async def several(*names: Any, **fields: Any) -> Any:
            (found,) = await look_up(*names, **fields)
            return [(*found[:4], place) for place in (dead, refusing, found[4])]

        async def connect_or_hang(sock: socket.socket, place: Any) -> None:
            if place == dead:
                await asyncio.Event().wait()
            await connect(sock, place)

        monkeypatch.setattr(loop, "getaddrinfo", several)
        monkeypatch.setattr(loop, "sock_connect", connect_or_hang)
        return await whole(pool, url)

    assert asyncio.run(with_server(replying(LENGTH), work)) == (200, b"hello")


def test_a_connection_that_takes_too_long_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*names: Any, **fields: Any) -> Any:
        await asyncio.Event().wait()

    async def connect(limit_s: float, connect_s: float) -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", hang)
        await Connections().post("http://127.0.0.1:1/", b"", {}, loop.time() + limit_s, connect_s)

    with pytest.raises(ConnectTimeout):
        asyncio.run(connect(5, 0.01))
    with pytest.raises(TimeoutError) as caught:
        asyncio.run(connect(0.01, 5))
    assert not isinstance(caught.value, ConnectTimeout)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
def test_a_header_is_one_line(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        head_of(target_of("http://h/"), {"authorization": value}, 0)


@pytest.mark.parametrize("url", ["ftp://h/", "http:///x", "http://h/a b", "http://h/é", "h/x"])
def test_only_addresses_of_http_are_asked(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        target_of(url)


def test_addresses_are_read() -> None:
    target = target_of("https://[::1]:8443/v1/x?y=1")
    assert target[:3] == ("::1", 8443, True)
    assert target.begin == b"POST /v1/x?y=1 HTTP/1.1\r\nhost: [::1]:8443\r\n"
    assert target_of("http://host")[:3] == ("host", 80, False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give the certificate of 127.0.0.1 that nobody but itself vouches for, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl isn't installed, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_tls_is_spoken_with_whom_the_machine_trusts_and_with_nobody_else(
    certificate: tuple[Path, Path],
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))

    async def main() -> None:
        server = await asyncio.start_server(replying(LENGTH), "127.0.0.1", 0, ssl=ours)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        pool = Connections()
        with pytest.raises(ssl.SSLCertVerificationError):
            await whole(pool, url)
        monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
        trusted = Connections()
        assert [await whole(trusted, url) for _ in range(2)] == [(200, b"hello")] * 2
        with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
            await whole(trusted, url.replace("127.0.0.1", "localhost"))
        await pool.close()
        await trusted.close()
        server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
