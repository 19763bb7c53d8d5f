"""A provider that plays scripts and a server that runs it in a thread, on a real socket.

Everything is bounded: scripts end by themselves and no wait is longer than `PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from outrider.config import ServerConfig
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.embeddings import EmbeddingCatalogue, EmbeddingProvider, own_entry
from outrider.gateway.provider import Provider
from outrider.server.app import build_app, encode_error
from outrider.server.connection import server_settings
from outrider.server.run import Server, listen
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    TokenAlternative,
    TokenLogprob,
    Usage,
)

PATIENCE_S = 10.0
MODEL = "fake-model"

Step = Event | Exception | float  # a number is a pause in seconds
Script = Callable[[GenerationRequest], Iterable[Step]]


def answer(request: GenerationRequest) -> Iterator[Step]:
    """Say Hello in two pieces, for every choice, with logprobs if they are wanted."""
    yield Started(MODEL)
    choices = range(max(1, len(request.prompts)) * request.sampling.n)
    for text in ("Hel", "lo"):
        for index in choices:
            yield TextDelta(index, text, logprobs_of(text, request.sampling.logprobs))
    for index in choices:
        yield Finished(index, "stop")
    yield Completed(Usage(7, 2 * len(choices), 4))


def logprobs_of(text: str, num_top: int | None) -> tuple[TokenLogprob, ...]:
    if num_top is None:
        return ()
    top = tuple(TokenAlternative(i, b"%d" % i, -1.0 - i) for i in range(num_top))
    return (TokenLogprob(1, text.encode(), -0.5, top),)


def endless(request: GenerationRequest) -> Iterator[Step]:
    """Talk for half a minute."""
    yield Started(MODEL)
    for _ in range(3000):
        yield TextDelta(0, "word ")
        yield 0.01


def silent(request: GenerationRequest) -> Iterator[Step]:
    """Take the request and think for half a minute."""
    yield 30.0


class ScriptedProvider:
    """Plays `script` for every request and notes when its generators are closed."""

    name = MODEL

    def __init__(self, script: Script = answer) -> None:
        self.script = script
        self.is_ready = True
        self.requests: list[GenerationRequest] = []
        self.num_running = 0
        self.started = threading.Event()
        self.closed = threading.Event()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.num_running += 1
        self.started.set()
        try:
            for step in self.script(request):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.num_running -= 1
            self.closed.set()


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that listens."""

    server: Server
    thread: threading.Thread
    port: int
    _connections: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request and give the response with its body unread."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self._connections.append(connection)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, names)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        response = self.open(method, path, body, **headers)
        reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, b"")
        reply.body = response.read()
        return reply

    def connect(self, request: bytes) -> socket.socket:
        """Send raw bytes on a socket of their own."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.sendall(request)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the server did not stop"


class ThreadServer(Server):
    """Leaves signals alone: only a main thread may handle them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def serving(
    provider: Provider | Catalogue,
    embeddings: EmbeddingProvider | EmbeddingCatalogue | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """Serve one provider, or a catalogue; `close` is called on the server's loop at the end."""
    if not isinstance(embeddings, EmbeddingCatalogue):
        embeddings = EmbeddingCatalogue([] if embeddings is None else [own_entry(embeddings)])
    catalogue = provider
    if not isinstance(catalogue, Catalogue):
        catalogue = Catalogue([Entry(catalogue, ("alias",))])
    config = ServerConfig(port=0, **settings)
    listener = listen(config)
    port = listener.getsockname()[1]
    app = build_app(config, catalogue, embeddings)
    server = ThreadServer(server_settings(app, config, encode_error))

    async def serve() -> None:
        if "data_dir" in settings:  # else it may be what another test left
            await app.state.data.start()
        await server.serve(sockets=[listener])
        await app.state.data.close()
        if app.state.tracing is not None:
            await asyncio.to_thread(app.state.tracing.close)
        if close is not None:
            await close()

    def run() -> None:
        with contextlib.closing(listener):
            asyncio.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    running = Running(server, thread, port)
    try:
        yield running
    finally:
        running.close()


def wait_until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> float:
    """Wait for a condition and give the seconds that it took."""
    begin = time.monotonic()
    for _ in itertools.count():
        if condition():
            break
        assert time.monotonic() - begin < limit_s, "waited in vain"
        time.sleep(0.005)
    return time.monotonic() - begin


def raw_post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def payloads(stream: bytes) -> list[bytes]:
    """Give the data of a stream's events."""
    return [part.removeprefix(b"data: ") for part in stream.split(b"\n\n") if part]
