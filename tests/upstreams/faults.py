"""What upstreams do wrong, row by row, and what a caller has to make of each.

A row is a reply that a scripted upstream gives and the error that it means, or none: then the
answer is the one that was meant. Rows of streams say how many pieces of text come before the error.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from outrider.errors import (
    OutriderError,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
)
from upstreams import scripted
from upstreams.scripted import Cut, Reply, Stall, Step, Wire, chunk, stream, whole

WORDS = ("Hel", "lo", " the", "re!")
TEXT = "".join(WORDS)
LONG_LINE = 10 << 20


@dataclass(frozen=True)
class Fault:
    """One row; `num_words` is how much of the text comes before the error, None: all of it."""

    name: str
    reply: Reply
    error: type[OutriderError] | None
    streamed: bool
    num_words: int | None = 0

    def __str__(self) -> str:
        return f"{'stream' if self.streamed else 'whole'}-{self.name}"


def faults(wire: Wire) -> list[Fault]:
    """Give all rows in the shapes of a wire."""
    return [
        *status_faults(),
        *broken_streams(wire),
        *stream_faults(wire),
        *odd_streams(wire),
        *whole_faults(wire),
    ]


def status_faults() -> Iterator[Fault]:
    """Errors with a status of their own, to either kind of request."""
    body = {"error": {"message": "no", "code": None}}
    waits = {"none": "", "seconds": "7", "date": formatdate(4e9, usegmt=True)}
    waits |= {"garbage": "soon", "forever": "1000000000", "negative": "-3"}
    rows: list[tuple[str, Reply, type[OutriderError]]] = [
        (f"429-retry-after-{name}", whole(body, 429, **{"retry-after": wait}), ProviderRateLimited)
        for name, wait in waits.items()
    ]
    rows += [(f"{status}", whole(body, status), ProviderError) for status in (500, 502, 503, 529)]
    rows += [(f"{status}", whole(body, status), ProviderTimeout) for status in (408, 504, 524)]
    rows.append(("500-html", whole(b"<html>no</html>", 500), ProviderError))
    rows.append(("500-cut", Reply([b'{"er', Cut()], 500), ProviderError))
    rows.append(("hangs", Reply(status=0), ProviderTimeout))
    for streamed in (True, False):
        for name, reply, error in rows:
            yield Fault(name, reply, error, streamed)


def broken_streams(wire: Wire) -> Iterator[Fault]:
    """Streams that are cut, stall or have a malformed line after each number of words."""
    dribble: list[Step] = [
        step for byte in chunk({"content": "!"}, wire=wire)[:12] for step in (bytes([byte]), 0.05)
    ]
    breaks: dict[str, tuple[list[Step], type[OutriderError]]] = {
        "cut": ([Cut()], ProviderError),
        "ended": ([], ProviderError),
        "stalled": ([Stall()], ProviderTimeout),
        "commented": ([b": wait\n\n", 0.1] * 20, ProviderTimeout),
        "dribbling": (dribble, ProviderTimeout),
        "malformed": ([b"data: {\n\n", scripted.DONE], ProviderError),
        "bad-utf8": ([b'data: {"choices": [{"text": "\xff"}]}\n\n'], ProviderError),
        "cut-in-a-line": ([chunk({"content": "!"}, wire=wire)[:40], Cut()], ProviderError),
        "error": ([_error_event(wire)], ProviderError),
        "finish-reason-error": ([chunk({}, "error", wire=wire), scripted.DONE], ProviderError),
        "done-without-reason": ([scripted.usage_chunk(wire=wire), scripted.DONE], ProviderError),
    }
    words = [chunk({"content": word}, wire=wire) for word in WORDS]
    head = chunk({"role": "assistant", "content": ""}, wire=wire)
    for name, (steps, error) in breaks.items():
        for k in range(len(WORDS) + 1):
            reply = stream(head, *words[:k], *steps)
            yield Fault(f"{name}-after-{k}", reply, error, True, k)
        yield Fault(f"{name}-first", stream(*steps), error, True)


def stream_faults(wire: Wire) -> Iterator[Fault]:
    """Streams that are whole but wrong."""
    good = scripted.chat_stream(WORDS, wire=wire)
    *text, end, usage, done = good
    later = chunk({"content": "more"}, wire=wire)
    long = json.dumps({"choices": [{"delta": {"content": "x" * LONG_LINE}}]}).encode()
    html = Reply([b"<html>"], content_type="text/html")
    bad = {"prompt_tokens": -7, "completion_tokens": 3}
    rows: list[tuple[str, Reply, int | None]] = [
        ("html", html, 0),
        ("html-as-a-stream", stream(b"<html>\n<body>\n\n"), 0),
        ("nothing", stream(), 0),
        ("nothing-but-done", stream(scripted.DONE), 0),
        ("null", stream(b"data: null\n\n", scripted.DONE), 0),
        ("no-choices", stream(b"data: {}\n\n", scripted.DONE), 0),
        ("wrong-type", stream(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'), 0),
        ("long-line", stream(b"data: " + long + b"\n\n"), 0),
        ("usage-negative", stream(*text, end, scripted.usage_chunk(bad, wire=wire), done), None),
        ("text-after-the-end", stream(*text, end, later, usage, done), None),
        ("two-ends", stream(*text, end, chunk({}, "length", wire=wire), usage, done), None),
        ("other-choice", stream(*text, chunk({"content": "x"}, wire=wire, index=1), done), None),
        ("calls-without-calls", stream(*text, chunk({}, "tool_calls", wire=wire), done), None),
    ]
    for name, reply, num_words in rows:
        yield Fault(name, reply, ProviderError, True, num_words)
    for name, parts in _bad_calls().items():
        events = [chunk({"tool_calls": [part]}, wire=wire) for part in parts]
        reply = stream(*events, chunk({}, "tool_calls", wire=wire), usage, done)
        yield Fault(f"call-{name}", reply, ProviderError, True)


def native_faults() -> Iterator[Fault]:
    """The same for Workers AI's native endpoint."""
    yield from status_faults()
    words = scripted.native_stream(WORDS)[: len(WORDS)]
    error = scripted.event(scripted.native_error(5000, "it broke"))
    breaks: dict[str, tuple[list[Step], type[OutriderError]]] = {
        "cut": ([Cut()], ProviderError),
        "ended": ([], ProviderError),
        "stalled": ([Stall()], ProviderTimeout),
        "malformed": ([b"data: {\n\n", scripted.DONE], ProviderError),
        "error": ([error], ProviderError),
        "elsewhere": ([chunk({"content": "!"}), scripted.DONE], ProviderError),
    }
    for name, (steps, kind) in breaks.items():
        for k in range(1, len(WORDS) + 1):
            yield Fault(f"{name}-after-{k}", stream(*words[:k], *steps), kind, True, k)
        yield Fault(f"{name}-first", stream(*steps), kind, True)
    good = json.dumps(scripted.native_answer(TEXT)).encode()
    for name, body in {
        "cut": Reply([good[:50], Cut()], length=len(good)),
        "html": whole(b"<html>"),
        "no-response": whole({"result": {}, "success": True}),
        "failed": whole(scripted.native_error(5000, "it broke")),
        "usage-negative": whole(scripted.native_answer(TEXT, usage={"prompt_tokens": -1})),
    }.items():
        yield Fault(name, body, ProviderError, False)
    yield Fault("good", whole(good), None, False, None)
    yield Fault("good", stream(*scripted.native_stream(WORDS)), None, True, None)


def odd_streams(wire: Wire) -> Iterator[Fault]:
    """Streams that look odd and are complete."""
    good = scripted.chat_stream(WORDS, wire=wire)
    *text, end, usage, done = good
    joined = b"".join(good)
    packed = Reply([gzip.compress(joined)], content_type=scripted.EVENT_STREAM)
    packed.headers["content-encoding"] = "gzip"
    first = scripted.usage_chunk({"prompt_tokens": 7, "completion_tokens": 1}, wire=wire)
    uncounted = {"prompt_tokens": None, "completion_tokens": None, "cost": 0.1}
    again = chunk({"content": ""}, "stop", wire=wire, usage=scripted.USAGE)
    rows: dict[str, Sequence[Step] | Reply] = {
        "crlf": [joined.replace(b"\n", b"\r\n")],
        "cr": [joined.replace(b"\n", b"\r")],
        "no-space": [joined.replace(b"data: ", b"data:")],
        "comments": [b": hello\n\n", *(piece + b": wait\n\n" for piece in good)],
        "other-fields": [b"retry: 5\nevent: message\nid: 7\n" + piece for piece in good],
        "bytewise": [bytes([byte]) for byte in joined],
        "without-done": [*text, end, usage],
        "without-usage": [*text, end, done],
        "usage-empty": [*text, end, scripted.usage_chunk({}, wire=wire), done],
        "usage-without-counts": [*text, end, scripted.usage_chunk(uncounted, wire=wire), done],
        "usage-empty-after-it": [*text, end, usage, scripted.usage_chunk({}, wire=wire), done],
        "usage-twice": [first, *good],
        "end-twice": [*text, end, again, done],
        "cut-when-complete": [*text, end, usage, Cut()],
        "goes-on-after-done": [*good, b"data: nonsense\n\n"],
        "open-after-done": [*good, Stall()],
        "open-when-complete": [*text, end, usage, Stall()],
        "gzip": packed,
        "answered-whole": whole(scripted.chat_answer(TEXT, wire=wire)),
    }
    for name, steps in rows.items():
        reply = steps if isinstance(steps, Reply) else stream(*steps)
        yield Fault(name, reply, None, True, None)


def whole_faults(wire: Wire) -> Iterator[Fault]:
    """Whole answers that are cut, lie or aren't any."""
    good = json.dumps(scripted.chat_answer(TEXT, wire=wire)).encode()
    packed = whole(gzip.compress(good), **{"content-encoding": "gzip"})
    rows: dict[str, tuple[Reply, type[OutriderError] | None]] = {
        "cut": (Reply([good[:50], Cut()], length=len(good)), ProviderError),
        "short": (Reply([good[:50]], length=len(good)), ProviderError),
        "cut-in-a-chunk": (Reply([good[:50], Cut()]), ProviderError),
        "truncated": (whole(good[:-1]), ProviderError),
        "html": (Reply([b"<html>"], content_type="text/html"), ProviderError),
        "html-as-json": (whole(b"<html>"), ProviderError),
        "empty": (whole(b""), ProviderError),
        "null": (whole(b"null"), ProviderError),
        "bad-utf8": (whole(good.replace(b"Hel", b"H\xff")), ProviderError),
        "nested": (whole(b"[" * 100_000), ProviderError),
        "error-with-200": (whole({"error": {"message": "it broke", "code": 502}}), ProviderError),
        "long": (Reply([b" " * LONG_LINE] * 4, length=4 * LONG_LINE), ProviderError),
        "stream": (stream(*scripted.chat_stream(wire=wire)), ProviderError),
        "gzip": (packed, None),
        "dribbles": (Reply([good[:10], 0.01, good[10:20], 0.01, good[20:]]), None),
    }
    for name, (reply, error) in rows.items():
        yield Fault(name, reply, error, False, 0 if error else None)
    for k in range(len(WORDS) + 1):
        end = good.index(TEXT.encode()) + len("".join(WORDS[:k]))
        cut = Reply([good[:end], Cut()], length=len(good))
        yield Fault(f"cut-after-{k}", cut, ProviderError, False)
        stalled = Reply([good[:end], Stall()], length=len(good))
        yield Fault(f"stalled-after-{k}", stalled, ProviderTimeout, False)
    for name, change in _CHANGES.items():
        answer = scripted.chat_answer(TEXT, wire=wire)
        change(answer)
        yield Fault(name, whole(answer), ProviderError, False)


def _error_event(wire: Wire) -> bytes:
    error = {"message": "it broke", "code": 502}
    if wire == "openrouter":
        return chunk({"content": ""}, "error", wire=wire, error=error)
    return scripted.event({"error": error})


def _bad_calls() -> dict[str, list[dict[str, Any]]]:
    """Parts of calls that aren't in order."""
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f"}}
    parts = [{"index": 0, "function": {"arguments": text}} for text in ('{"a": ', "[1, 2", "]}")]
    return {
        "reordered": [head, parts[2], parts[1], parts[0]],
        "cut": [head, *parts[:2]],
        "without-head": parts,
        "head-last": [*parts, head],
        "without-name": [{**head, "function": {"arguments": "{}"}}],
        "without-id": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}],
        "same-index": [head, {**head, "id": "call_2"}],
        "index-skipped": [head, *parts, {**head, "index": 2, "id": "call_2"}],
        "not-an-object": [head, {"index": 0, "function": {"arguments": "[1]"}}],
    }


def _choice(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda answer: change(answer["choices"][0])


_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no-choices": lambda answer: answer.pop("choices"),
    "zero-choices": lambda answer: answer["choices"].clear(),
    "duplicate-index": lambda answer: answer["choices"].append(answer["choices"][0]),
    "usage-negative": lambda answer: answer.update(usage={"prompt_tokens": -1}),
    "usage-of-texts": lambda answer: answer.update(usage={"prompt_tokens": "7"}),
    "finish-reason-null": _choice(lambda choice: choice.update(finish_reason=None)),
    "finish-reason-error": _choice(lambda choice: choice.update(finish_reason="error")),
    "finish-reason-unknown": _choice(lambda choice: choice.update(finish_reason="tired")),
    "calls-without-calls": _choice(lambda choice: choice.update(finish_reason="tool_calls")),
    "no-message": _choice(lambda choice: choice.pop("message")),
    "content-of-a-list": _choice(lambda choice: choice["message"].update(content=["a"])),
    "other-index": _choice(lambda choice: choice.update(index=1)),
    "huge-index": _choice(lambda choice: choice.update(index=2**70)),
}
