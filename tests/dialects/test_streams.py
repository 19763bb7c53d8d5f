"""Streams of other servers as they come: the same events however their bytes are split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.dialects import openai, openrouter, sse
from outrider.dialects.base import Dialect
from outrider.errors import OutriderError, ProviderError
from outrider.types import Completed, Event, Finished, Started, TextDelta, Usage
from upstreams import scripted

WIRES: list[Dialect] = [openai.CHAT_COMPLETIONS, openrouter.CHAT_COMPLETIONS]
BY_WIRE = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


def read(wire: Dialect, pieces: list[bytes]) -> tuple[list[Event], str]:
    """Give the events of a stream that comes in pieces, and the error that ends it."""
    decoder = wire.stream_decoder()
    events: list[Event] = []
    try:
        for piece in pieces:
            for event in decoder.feed(piece):
                events.append(event)
        events += decoder.finish()
    except OutriderError as error:
        return events, f"{type(error).__name__}: {error.message}"
    return events, ""


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


TAILS = [
    b"",
    b"data: [DONE]\n\n",
    b"data: not json\n\n",
    b'data: {"error": {"message": "it broke", "code": 502}}\n\n',
    b"data: {}\n\n",
    b"data: [1]\n\n",
    b'data: {"choices": [{"index": -1}]}\n\n',
    b'data: {"choices": [{"finish_reason": "error"}]}\n\n',
    b"data: \xff\n\n",
]


@BY_WIRE
@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([*scripted.chat_stream(), b": comment\n\n", *TAILS]), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=6),
    ends,
)
def test_any_split_gives_the_same_events(
    wire: Dialect, events: list[bytes], cuts: list[int], end: bytes
) -> None:
    data = b"".join(events)
    plain = read(wire, [data])
    other = data.replace(b"\n", end)
    assert read(wire, split(other, cuts)) == plain
    assert read(wire, [bytes([byte]) for byte in other]) == plain


def test_lines_without_spaces_comments_other_fields_and_many_data_lines_are_read() -> None:
    body = json.dumps({"model": "m", "choices": [{"delta": {"content": "a"}}]})
    head, tail = body[:10], body[10:]
    data = f":c\nid: 7\nevent: x\ndata:{head}\ndata:{tail}\n\nretry: 1\n\n: OK\n\n".encode()
    end = b'data:{"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    assert read(openai.CHAT_COMPLETIONS, [data, end]) == (
        [Started("m"), TextDelta(0, "a"), Finished(0, "stop"), Completed(Usage(0, 0))],
        "",
    )


def test_a_stream_without_done_is_complete_if_it_has_a_finish_reason() -> None:
    *events, done = scripted.chat_stream()
    wire = openai.CHAT_COMPLETIONS
    assert read(wire, events) == read(wire, [*events, done])
    unfinished = events[:3]
    assert read(wire, unfinished)[1] == "ProviderError: the stream ended early: no [DONE] was sent"


def test_what_follows_done_is_not_looked_at() -> None:
    wire = openai.CHAT_COMPLETIONS
    events = scripted.chat_stream()
    assert read(wire, [*events, b"data: nonsense\n\n"]) == read(wire, events)


@pytest.mark.parametrize("kind", [b"data: ", b"data: a\ndata: ", b": "])
def test_an_event_that_has_no_end_is_refused(kind: bytes) -> None:
    reader = sse.Reader()
    with pytest.raises(ProviderError, match="longer than 4 MiB"):
        for piece in [kind, *[b"x" * 2**20] * 5]:
            assert not list(reader.feed(piece))


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        ({"prompt_tokens": -1, "completion_tokens": 1}, "usage.prompt_tokens"),
        ({"prompt_tokens": 1, "completion_tokens": 2**41}, "usage.completion_tokens"),
        ({"prompt_tokens": "7", "completion_tokens": 1}, "usage.prompt_tokens"),
    ],
)
def test_usage_that_cannot_be_is_refused(usage: dict[str, object], words: str) -> None:
    events = scripted.chat_stream(usage=usage)
    for wire in WIRES:
        assert words in read(wire, events)[1]


def test_usage_that_is_counted_up_ends_with_the_sum() -> None:
    first = scripted.usage_chunk({"prompt_tokens": 7, "completion_tokens": 1})
    events = [first, *scripted.chat_stream()]
    assert read(openai.CHAT_COMPLETIONS, events)[0][-1] == Completed(Usage(7, 3))
