"""An upstream on a real socket whose replies are scripted, byte by byte and fault by fault.

It runs in a thread of its own, so that tests with and without an event loop can use it. It speaks
just enough HTTP/1.1 to be misused: a reply may lie about its length, stall, or cut the connection.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

PATIENCE_S = 10
EVENT_STREAM = "text/event-stream"
JSON = "application/json"


class Cut:
    """A step of a reply: the connection breaks, with a reset."""


class Stall:
    """A step of a reply: nothing more comes until the client goes away."""


Step = bytes | float | Cut | Stall  # a number is a pause in seconds


@dataclass(frozen=True)
class Reply:
    """What is answered to one request; `length` claims a body of that size, None is chunked.

    Status 0 is no answer at all: the request is taken, and nothing comes.
    """

    steps: Sequence[Step] = ()
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Seen], Reply]


class Scripted:
    """A running upstream; `script` answers, or `replies` in turn with the last one repeated."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[Seen] = []
        self.num_connections = 0
        self.num_gone = 0  # clients that went away while a reply was under way
        self.replies: list[Reply] = []
        self.script: Script = self._next_reply
        self._begun = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        """Where servers of OpenAI's kind are."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def workers_ai_url(self) -> str:
        """Where an account of Workers AI is."""
        return f"http://127.0.0.1:{self.port}/client/v4/accounts/abc"

    def answer(self, *replies: Reply) -> None:
        """Answer the next requests so."""
        self.replies = list(replies)

    def reset(self) -> None:
        """Forget what was seen and scripted."""
        self.seen.clear()
        self.replies = []
        self.script = self._next_reply

    def start(self) -> None:
        self._thread.start()
        assert self._begun.wait(PATIENCE_S), "the upstream did not start"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the upstream did not stop"

    def _next_reply(self, seen: Seen) -> Reply:
        del seen
        assert self.replies, "a request came that no reply is scripted for"
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._converse(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=64 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self._begun.set()
        await self._stopped.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while (seen := await _read_request(reader)) is not None:
                self.seen.append(seen)
                if not await self._send(self.script(seen), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.num_gone += 1
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _send(
        self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send a reply; False if the connection can't be used again."""
        is_chunked = reply.length is None
        framing = {"transfer-encoding": "chunked"}
        if not is_chunked:
            framing = {"content-length": str(reply.length)}
        headers = {"content-type": reply.content_type, **framing, **reply.headers}
        if reply.status == 0:  # not even a head
            await reader.read()
            self.num_gone += 1
            return False
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{k}: {v}" for k, v in headers.items() if v)]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for step in reply.steps:
            match step:
                case Cut():
                    await asyncio.sleep(0.01)  # what was sent before is read before
                    writer.transport.abort()
                    return False
                case Stall():
                    await reader.read()  # ends when the client leaves
                    self.num_gone += 1
                    return False
                case bytes():
                    if step:
                        writer.write(b"%x\r\n%s\r\n" % (len(step), step) if is_chunked else step)
                    await writer.drain()
                case _:
                    await asyncio.sleep(step)
        if is_chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return is_chunked or reply.length == sum(len(s) for s in reply.steps if type(s) is bytes)


async def _read_request(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(first.split(" ")[1], headers, body)


@contextmanager
def scripted() -> Iterator[Scripted]:
    """Run an upstream."""
    upstream = Scripted()
    upstream.start()
    try:
        yield upstream
    finally:
        upstream.close()


def whole(body: object, status: int = 200, **headers: str) -> Reply:
    """Reply with a JSON body, or with bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply([data], status, headers=headers, length=len(data))


def stream(*steps: Step) -> Reply:
    """Reply with a stream."""
    return Reply(steps, content_type=EVENT_STREAM)


# OpenAI's shapes, and OpenRouter's, which have more around them.

ID = "chatcmpl-up1"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
Wire = Literal["openai", "openrouter"]


def chat_answer(
    text: str | None = "Hello there!",
    reason: str = "stop",
    *,
    wire: Wire = "openai",
    calls: Sequence[dict[str, Any]] = (),
    usage: dict[str, Any] | None = USAGE,
) -> dict[str, Any]:
    """Give a whole answer of a chat."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = list(calls)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {**_head(wire, "chat.completion"), "choices": [_routed(wire, choice)], "usage": usage}


def text_answer(text: str = "Hello there!", reason: str = "stop") -> dict[str, Any]:
    """Give a whole answer to a prompt."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return {**_head("openai", "text_completion"), "choices": [choice], "usage": USAGE}


def tool_call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    """Give one whole call."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def event(payload: object) -> bytes:
    """Frame one event of a stream."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def chunk(
    delta: dict[str, Any],
    reason: str | None = None,
    *,
    wire: Wire = "openai",
    index: int = 0,
    **fields: Any,
) -> bytes:
    """Give one chunk of a chat."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = _head(wire, "chat.completion.chunk")
    return event({**head, "choices": [_routed(wire, choice)], **fields})


def usage_chunk(usage: dict[str, Any] | None = USAGE, *, wire: Wire = "openai") -> bytes:
    """Give the chunk that has the usage."""
    return event({**_head(wire, "chat.completion.chunk"), "choices": [], "usage": usage})


DONE = b"data: [DONE]\n\n"


def chat_stream(
    texts: Sequence[str] = ("Hel", "lo", " there!"),
    reason: str = "stop",
    *,
    wire: Wire = "openai",
    usage: dict[str, Any] | None = USAGE,
) -> list[bytes]:
    """Give the events of a streamed chat."""
    events = [chunk({"role": "assistant", "content": ""}, wire=wire)]
    events += [chunk({"content": text}, wire=wire) for text in texts]
    events.append(chunk({}, reason, wire=wire))
    if usage is not None:
        events.append(usage_chunk(usage, wire=wire))
    return [*events, DONE]


def call_stream(
    name: str, arguments: Sequence[str], call_id: str = "call_1", *, wire: Wire = "openai"
) -> list[bytes]:
    """Give the events of a streamed call."""
    head = {"index": 0, "id": call_id, "type": "function"}
    parts: list[dict[str, Any]] = [{**head, "function": {"name": name, "arguments": ""}}]
    parts += [{"index": 0, "function": {"arguments": part}} for part in arguments]
    events = [chunk({"role": "assistant", "content": None}, wire=wire)]
    events += [chunk({"tool_calls": [part]}, wire=wire) for part in parts]
    return [*events, chunk({}, "tool_calls", wire=wire), usage_chunk(wire=wire), DONE]


def _head(wire: Wire, kind: str) -> dict[str, Any]:
    own = {"provider": "Inner"} if wire == "openrouter" else {"system_fingerprint": None}
    return {"id": ID, **own, "object": kind, "created": 1, "model": "vendor/model-up"}


def _routed(wire: Wire, choice: dict[str, Any]) -> dict[str, Any]:
    if wire == "openrouter":
        native = {"stop": "eos", "length": "max_tokens"}
        reason = choice["finish_reason"]
        choice["native_finish_reason"] = native.get(reason, reason)
    return choice


# Workers AI's shapes, whose envelope is Dataoorts', too.


def native_answer(
    response: object = "Hello there!",
    *,
    calls: Sequence[dict[str, Any]] = (),
    usage: dict[str, Any] | None = USAGE,
) -> dict[str, Any]:
    """Give a whole answer; one of calls has no response."""
    result: dict[str, Any] = {"tool_calls": list(calls)}
    if not calls:
        result["response"] = response
    if usage is not None:
        result["usage"] = usage
    return {"result": result, "success": True, "errors": [], "messages": []}


def native_stream(
    texts: Sequence[str] = ("Hel", "lo", " there!"), *, usage: dict[str, Any] | None = USAGE
) -> list[bytes]:
    """Give the events of a streamed answer."""
    events = [event({"response": text, "tool_calls": [], "p": "abc"}) for text in texts]
    if usage is not None:
        events.append(event({"response": "", "usage": usage}))
    return [*events, DONE]


def native_call_stream(name: str, arguments: Sequence[str], call_id: str = "call_1") -> list[bytes]:
    """Give the events of a streamed call."""
    head = {"id": call_id, "type": "function", "index": 0, "function": {"name": name}}
    parts = [head, *({"index": 0, "function": {"arguments": part}} for part in arguments)]
    parts.append(
        {"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}
    )
    events = [event({"response": "", "tool_calls": [part]}) for part in parts]
    return [*events, event({"response": "", "usage": USAGE}), DONE]


def native_error(code: int, message: str) -> dict[str, Any]:
    """Give the envelope of an error."""
    error = {"message": f"AiError: {message} (7c2f0c1e)", "code": code}
    return {"errors": [error], "success": False, "result": {}, "messages": []}
