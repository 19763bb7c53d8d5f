"""Connections and pictures that are wrong: refused in their wire's form, in bounded time.

The stream that runs beside them all must give the same text every time.
"""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from PIL import Image

from server.bad_input import BODY_TIMEOUT_S, CHATS, HELLO, WIRES, Target, target
from server.processes import PATIENCE_S

pytestmark = pytest.mark.slow

ALL = pytest.mark.parametrize("wire", list(WIRES))
CHAT = WIRES["openai"]
MEMORY_LIMIT = 400 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("sockets")) as it:
        yield it


def connect(server: Target) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: test", *lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """Read until the server closes the connection, which it may do without grace."""
    seen = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            seen += part
    return seen


def exchange(server: Target, data: bytes) -> bytes:
    with connect(server) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        return answer(connection)


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


@ALL
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "gzip, gzip"])
def test_compressed_bodies_are_refused(wire: str, encoding: str, server: Target) -> None:
    bomb = zlib.compress(bytes(1 << 20))
    assert "content-encoding" in server.ask(wire, bomb, content_encoding=encoding).error(wire)


@ALL
def test_a_gigabyte_is_refused_before_it_is_sent(wire: str, server: Target) -> None:
    with connect(server) as connection:
        connection.sendall(head(WIRES[wire].path, "content-length: 1400000000"))
        assert status_of(connection.recv(65536)) == 413


def test_a_body_that_is_shorter_than_it_says_harms_nobody(server: Target) -> None:
    with connect(server) as connection:
        connection.sendall(head(CHAT.path, "content-length: 1000") + CHAT.body())
    assert server.is_well()


def test_what_follows_a_body_is_not_part_of_it(server: Target) -> None:
    body = CHAT.body()
    data = head(CHAT.path, f"content-length: {len(body)}") + body + b"garbage\r\n\r\n"
    reply = exchange(server, data)
    assert status_of(reply) == 200
    assert reply.count(b"HTTP/1.1 ") <= 2


def test_a_body_in_chunks_of_a_byte_is_read(server: Target) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in CHAT.body())
    lines = ("transfer-encoding: chunked", "connection: close")
    assert status_of(exchange(server, head(CHAT.path, *lines) + chunks + b"0\r\n\r\n")) == 200


@ALL
@pytest.mark.parametrize(
    "lines",
    [
        ["x: " + "y" * 1_000_000],
        [f"x{i}: y" for i in range(10_000)],
        [f"x{i}: y" for i in range(200)],
    ],
    ids=["a megabyte", "ten thousand", "two hundred"],
)
def test_a_head_that_is_too_large_is_refused(wire: str, lines: list[str], server: Target) -> None:
    body = WIRES[wire].body()
    data = head(WIRES[wire].path, *lines, f"content-length: {len(body)}", "connection: close")
    reply = exchange(server, data + body)
    if not reply:  # closed while it was still being sent: the answer was lost with it
        assert server.is_well()
        return
    assert status_of(reply) == 413
    assert b"headers" in reply
    assert json.loads(reply.partition(b"\r\n\r\n")[2])


ENDLESS = {
    "header": (head(CHAT.path)[:-2] + b"x: ", b"y" * 65536),
    "headers": (head(CHAT.path)[:-2], b"x: y\r\n" * 10_000),
    "URL": (b"POST /v1/", b"x" * 65536),
    "chunk's extension": (head(CHAT.path, "transfer-encoding: chunked") + b"1;", b"x" * 65536),
    "trailer": (head(CHAT.path, "transfer-encoding: chunked") + b"0\r\nx: ", b"y" * 65536),
    "method": (b"P", b"P" * 65536),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_cut_off_early(name: str, server: Target) -> None:
    begin, more = ENDLESS[name]
    num_sent = 0
    with connect(server) as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(begin)
        while num_sent < 64 << 20:
            connection.sendall(more)
            num_sent += len(more)
    assert num_sent < 16 << 20  # what the sockets hold


def test_slow_heads_and_slow_bodies_time_out(server: Target) -> None:
    begin = time.monotonic()
    with ExitStack() as stack:
        connections = []
        for wire in WIRES.values():
            for data in (head(wire.path)[:-4], head(wire.path, "content-length: 100") + b"{"):
                connections.append(stack.enter_context(connect(server)))
                connections[-1].sendall(data)
        replies = [answer(connection) for connection in connections]
    assert 0.9 * BODY_TIMEOUT_S < time.monotonic() - begin < 10
    for reply in replies:
        assert status_of(reply) == 408
        assert json.loads(reply.partition(b"\r\n\r\n")[2])


def test_a_head_that_drips_times_out(server: Target) -> None:
    begin = time.monotonic()
    with connect(server) as connection, suppress(ConnectionResetError, BrokenPipeError):
        for byte in head(CHAT.path, *(f"x{i}: y" for i in range(90))):
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
    assert time.monotonic() - begin < 5


def test_connections_that_say_nothing_are_closed_and_hold_up_nobody(server: Target) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(200)]
        assert server.is_well()
        assert [answer(connection) for connection in connections] == [b""] * 200


def test_a_head_may_begin_before_the_last_answer_ends(server: Target) -> None:
    with connect(server) as connection:
        body = CHAT.body()
        first = head(CHAT.path, f"content-length: {len(body)}") + body
        last = head(CHAT.path, f"content-length: {len(body)}", "connection: close") + body
        connection.sendall(first + last[:20])  # the next head begins early and ends late
        time.sleep(0.3)
        connection.sendall(last[20:])
        assert answer(connection).count(b"HTTP/1.1 200") == 2


SMUGGLED = b"0\r\n\r\nPOST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
BOTH_WAYS = {
    "length and chunks": ("content-length: 5", "transfer-encoding: chunked"),
    "chunks and length": ("transfer-encoding: chunked", "content-length: 5"),
    "two lengths": ("content-length: 5", "content-length: 6"),
    "a list of lengths": ("content-length: 5, 6",),
    "a length with a sign": ("content-length: +5",),
    "a negative length": ("content-length: -1",),
    "a huge length": ("content-length: 99999999999999999999999",),
    "an unknown coding": ("transfer-encoding: xchunked",),
    "chunks that aren't last": ("transfer-encoding: chunked, identity",),
    "a blank before the colon": ("transfer-encoding : chunked",),
    "a folded line": ("x: a", " transfer-encoding: chunked", "content-length: 5"),
    "a zero byte": ("x: a\x00b",),
    "a name with a blank": ("x y: a",),
}


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_requests_that_can_be_read_in_two_ways_are_refused(name: str, server: Target) -> None:
    reply = exchange(server, head(CHAT.path, *BOTH_WAYS[name]) + SMUGGLED)
    assert status_of(reply) in (400, 413)
    assert b"HTTP/1.1 200" not in reply
    assert reply.count(b"HTTP/1.1 ") == 1
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"get / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n\r\n\r\nhello\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["TLS", "a version", "a method", "text", "SSH", "HTTP/2"],
)
def test_what_is_no_http_is_refused(data: bytes, server: Target) -> None:
    assert 400 <= status_of(exchange(server, data)) < 500


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/v1/../../etc/passwd",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%00",
        "/v1/" + "a" * 60_000,
        "/v1/" + "a" * 64_000 + "?b=" + "c" * 64_000,
        "//v1/chat/completions",
        "/v1/files/..%2f..%2foutrider.db",
    ],
    ids=lambda path: path[:30],
)
def test_paths_lead_nowhere_else(path: str, server: Target) -> None:
    reply = server.ask_path(path, b"", "GET")
    assert 400 <= reply.status < 500
    assert json.loads(reply.body)["error"]["message"]
    assert b"root:" not in reply.body


@ALL
def test_other_types_of_content_are_read_as_json_or_refused(wire: str, server: Target) -> None:
    body = WIRES[wire].body()
    form = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\ntiny-llama4\r\n--x--\r\n'
    assert server.ask(wire, body, content_type="application/x-www-form-urlencoded").status == 200
    assert server.ask(wire, form, content_type="multipart/form-data; boundary=x").error(wire)


def test_an_upgrade_to_another_protocol_is_not_made(server: Target) -> None:
    lines = ("connection: upgrade", "upgrade: websocket", "sec-websocket-key: eA==")
    with connect(server) as connection:
        connection.sendall(head("/v1/models", *lines, "sec-websocket-version: 13"))
        assert 400 <= status_of(connection.recv(65536)) < 500


# Pictures.


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def png_bomb(side: int) -> bytes:
    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels)


NOISE = Image.frombytes("RGB", (60, 40), random.Random(0).randbytes(7200))
PNG, JPEG = encoded(NOISE, "PNG"), encoded(NOISE, "JPEG")
WEBP = encoded(NOISE, "WEBP")
FRAMES = [Image.new("RGB", (2, 2), (i % 2 * 200, 99, i % 250)) for i in range(400)]
GIF_BOMB = encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:])
WRONG_IMAGES = {
    "a PNG bomb": uri(png_bomb(65_535)),
    "a larger PNG bomb": uri(png_bomb(2**31 - 1)),
    "a JPEG bomb": uri(JPEG.replace(struct.pack(">HH", 40, 60), b"\xff\xdc\xff\xdc", 1)),
    "a GIF of many frames": uri(GIF_BOMB, "image/gif"),
    "a PNG cut off": uri(PNG[: len(PNG) // 2]),
    "a JPEG cut off": uri(JPEG[:30]),
    "a WebP cut off": uri(WEBP[:20]),
    "SVG": uri(
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "image/svg+xml"
    ),
    "SVG called PNG": uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "a page called PNG": uri(b"<html><script>alert(1)</script>"),
    "a ZIP called PNG": uri(b"PK\x03\x04" + bytes(100)),
    "nothing": uri(b""),
    "no base64": "data:image/png;base64,!!!!",
    "no comma": "data:image/png;base64",
    "fifty parameters": "data:image/png;" + ";".join(f"a{i}={'b' * 20}" for i in range(50)) + ",x",
    "a text": "hello",
    "no text": 5,
    "null": None,
    "file:": "file:///etc/passwd",
    "ftp:": "ftp://127.0.0.1/a.png",
    "gopher:": "gopher://127.0.0.1:6379/_FLUSHALL",
    "this machine": "http://127.0.0.1/a.png",
    "this machine's name": "http://localhost:8000/a.png",
    "a cloud's credentials": "http://169.254.169.254/latest/meta-data/",
    "IPv4 in IPv6": "http://[::ffff:127.0.0.1]/a.png",
    "a decimal address": "http://2130706433/a.png",
    "an octal address": "http://0177.0.0.1/a.png",
    "a hexadecimal address": "http://0x7f000001/a.png",
    "a name that leads here": "http://127.0.0.1.nip.io/a.png",
    "a user": "http://a.example@127.0.0.1/a.png",
}


ROTATED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def look(url: Any) -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "See:"}, part]}]


@pytest.mark.parametrize("wire", CHATS)
@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_a_wrong_image_is_named(wire: str, name: str, server: Target) -> None:
    begin = time.monotonic()
    error = server.ask(wire, WIRES[wire].body(messages=look(WRONG_IMAGES[name]))).error(wire)
    assert "messages" in error
    assert "content" in error
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("wire", CHATS)
@pytest.mark.parametrize(
    "data",
    [
        encoded(NOISE.convert("CMYK"), "JPEG"),
        encoded(
            NOISE,
            "JPEG",
            exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
        ),
        encoded(NOISE.convert("1"), "PNG"),
        PNG + b"<script>alert(1)</script>",
    ],
    ids=["CMYK", "rotated", "one bit", "with a page behind it"],
)
def test_an_odd_image_is_read(wire: str, data: bytes, server: Target) -> None:
    reply = server.ask(wire, WIRES[wire].body(messages=look(uri(data))))
    assert reply.status == 200, reply.body


def test_more_images_than_allowed_are_refused(server: Target) -> None:
    tiny = uri(encoded(Image.new("RGB", (2, 2)), "PNG"))
    parts = [{"type": "image_url", "image_url": {"url": tiny}}] * 65
    body = CHAT.body(messages=[*HELLO, {"role": "user", "content": parts}])
    assert "messages" in server.ask("openai", body).error("openai")


@ALL
def test_the_server_is_well_after_all_this(wire: str, server: Target) -> None:
    assert server.is_well(wire)


def test_memory_stayed_bounded_and_streams_undisturbed(server: Target) -> None:
    assert server.memory() - server.memory_at_start < MEMORY_LIMIT
    assert server.num_streams
    assert not server.differences
