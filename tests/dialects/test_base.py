"""What all wires share: adding up a stream, reading JSON, and server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import chain

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects import base, sse
from outrider.dialects.base import Answer, Choice, collect, convert, decode_json
from outrider.errors import EngineFailed, InvalidRequest
from outrider.types import (
    Completed,
    Event,
    Finished,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)


class Inner(msgspec.Struct):
    number: int


class Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    items: list[Inner] = []
    anything: object = None


async def stream_of(events: list[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


def added_up(events: list[Event]) -> Answer:
    return asyncio.run(collect(stream_of(events)))


values = st.recursive(
    st.none() | st.text(st.sampled_from('{[]}"\\a'), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{"', max_size=2), inner),
)


def num_containers(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(num_containers, value.values()))
    return 1 + sum(map(num_containers, value)) if isinstance(value, list) else 0


@given(values, st.integers(1, 9))
def test_objects_and_lists_of_a_body_are_counted_without_those_of_its_texts(
    value: object, chunk: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CHUNK_BYTES", chunk)
        count = num_containers({"name": "a", "anything": value})
        body = msgspec.json.encode({"name": "a", "anything": value})
        patch.setattr(base, "MAX_CONTAINERS", count)
        assert decode_json(body, Body).anything == value
        patch.setattr(base, "MAX_CONTAINERS", count - 1)
        with pytest.raises(InvalidRequest, match=f"has {count} objects and lists"):
            decode_json(body, Body)


def test_a_stream_adds_up_by_choice():
    first, second = TokenLogprob(1, b"a", -0.5), TokenLogprob(2, b"c", -1.5)
    events: list[Event] = [
        Started("m"),
        TextDelta(1, "x"),
        TextDelta(0, "a", (first,)),
        Finished(1, "length"),
        TextDelta(0, "b"),
        TextDelta(0, "c", (second,)),
        Finished(0, "stop"),
        Completed(Usage(3, 4, 2)),
    ]
    choices = (Choice("abc", "stop", (first, second)), Choice("x", "length"))
    assert added_up(events) == Answer("m", choices, Usage(3, 4, 2))


def test_parts_of_calls_add_up_by_choice_and_call():
    events: list[Event] = [
        Started("m"),
        TextDelta(0, "Look"),
        ToolCallDelta(0, 0, "{", "c1", "f"),
        ToolCallDelta(1, 0, "{}", "c3", "f"),
        ToolCallDelta(0, 1, "{}", "c2", "g"),
        ToolCallDelta(0, 0, "}"),
        Finished(0, "tool_calls"),
        Finished(1, "tool_calls"),
        Completed(Usage(3, 4)),
    ]
    first = (ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}"))
    choices = (
        Choice("Look", "tool_calls", (), first),
        Choice("", "tool_calls", (), (ToolCall("c3", "f", "{}"),)),
    )
    assert added_up(events) == Answer("m", choices, Usage(3, 4))


@pytest.mark.parametrize(
    ("value", "path", "param"),
    [
        ({}, "", "name"),
        ({}, "messages[2]", "messages[2].name"),
        ({"name": 1}, "messages[2]", "messages[2].name"),
        ({"name": "a", "items": [{"number": "x"}]}, "b", "b.items[0].number"),
        ({"name": "a", "mood": 1}, "b", "b.mood"),
        (3, "b", "b"),
        (3, "", None),
    ],
)
def test_plain_values_are_refused_by_their_path(value: object, path: str, param: str | None):
    with pytest.raises(InvalidRequest) as caught:
        convert(value, Body, path)
    assert caught.value.param == param
    assert (param or "") in caught.value.message
    assert convert({"name": "a"}, Body, path) == Body("a")


def test_a_choice_without_text_is_still_a_choice():
    events: list[Event] = [Started("m"), Finished(0, "stop"), Completed(Usage(1, 1))]
    assert added_up(events) == Answer("m", (Choice("", "stop"),), Usage(1, 1))


def test_an_error_in_a_stream_reaches_the_caller():
    async def broken() -> AsyncIterator[Event]:
        yield Started("m")
        raise EngineFailed("gone")

    with pytest.raises(EngineFailed, match="gone"):
        asyncio.run(collect(broken()))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"items": []}', "name"),
        (b'{"name": 1}', "name"),
        (b'{"name": "a", "items": [{"number": 1}, {}]}', "items[1].number"),
        (b'{"name": "a", "items": [{"number": "1"}]}', "items[0].number"),
        (b'{"name": "a", "items": [3]}', "items[0]"),
        (b"[]", None),
    ],
)
def test_a_wrong_field_is_named_by_its_path(body: bytes, param: str | None):
    with pytest.raises(InvalidRequest) as caught:
        decode_json(body, Body)
    assert caught.value.param == param
    assert param is None or caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "isn't valid JSON"),
        (b"{", "isn't valid JSON"),
        (b'{"name": "a"} {}', "isn't valid JSON"),
        (b'{"name": NaN}', "isn't valid JSON"),
        (b'{"name": "\\ud800"}', "isn't valid JSON"),
        (b'\xef\xbb\xbf{"name": "a"}', "isn't valid JSON"),
        (b'{"name": "\xff"}', "isn't valid UTF-8"),
        (b'{"name": "a", "anything": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"name": "a", "anything": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"name": "a", "anything": ' + b"9" * 100_000 + b"}", "out of range"),
        (b'{"name": "a", "anything": 1e400}', "out of range"),
    ],
)
def test_what_is_not_json_is_the_callers_error(body: bytes, words: str):
    with pytest.raises(InvalidRequest, match=words):
        decode_json(body, Body)


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused(body: bytes):
    with contextlib.suppress(InvalidRequest):
        decode_json(body, Body)


payloads = st.binary(min_size=1, max_size=30).filter(lambda data: not {10, 13} & set(data))


@given(st.lists(payloads))
def test_data_survives_its_framing(data: list[bytes]):
    assert list(sse.decode_data(b"".join(sse.encode_data(each) for each in data))) == data


def test_streams_of_other_servers_are_read():
    stream = b": comment\r\nevent: x\r\ndata:a\r\ndata: b\r\n\r\n\r\ndata:  c\r\rdata: cut off"
    assert list(sse.decode_data(stream)) == [b"a\nb", b" c"]


def test_a_byte_order_mark_hides_no_event_however_it_is_split():
    stream = b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n"
    for size in range(1, len(stream)):
        reader = sse.Reader()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [*chain.from_iterable(map(reader.feed, pieces))] == [b"a", b"\xef\xbb\xbfb"]


def test_an_event_without_data_is_none():
    assert list(sse.decode_data(b"data:\n\ndata\n\ndata: a\n\ndata: \n\ndata:\n")) == [b"a"]
