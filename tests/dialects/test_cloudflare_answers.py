"""Workers AI's answers and streams: the codec laws, exact bytes, what other servers send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.strategies import calls, filled, objects, schemas, texts, to_json, usages
from outrider.dialects.base import Answer, Choice, Decoded, join_tool_calls
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, ProviderError
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Grammar,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

WIRE = WorkersAi()
MODEL = "@cf/meta/llama-4-scout-17b-16e-instruct"
ID = "7c2f0c1e-90a4-4b1c-a7a6-1c7f3f4be6a9"
DECODED = Decoded(
    request=GenerationRequest(request_id=ID, model=MODEL, prompts=("a",)), request_id=ID
)

FLAT = WorkersAi(are_calls_flat=True)
CALLS = st.lists(calls, max_size=3).map(tuple)


@given(texts, CALLS, usages)
def test_an_answer_survives_the_wire(text: str, calls: tuple[ToolCall, ...], usage: Usage):
    choice = Choice(text, "tool_calls" if calls else "stop", (), calls)
    answer = Answer("", (choice,), usage)
    assert WIRE.decode_answer(WIRE.encode_answer(answer, DECODED)) == answer


@given(st.lists(st.tuples(texts, objects.map(to_json)), min_size=1, max_size=3))
def test_flat_calls_survive_the_wire_without_their_ids(named: list[tuple[str, str]]):
    calls = tuple(ToolCall("x", name, arguments) for name, arguments in named)
    answer = Answer("", (Choice("", "tool_calls", (), calls),), Usage(1, 1))
    again = FLAT.decode_answer(FLAT.encode_answer(answer, DECODED)).choices[0].tool_calls
    assert [(call.name, json.loads(call.arguments)) for call in again] == [
        (name, json.loads(arguments)) for name, arguments in named
    ]
    assert [call.id for call in again] == [f"{i + 1:09}" for i in range(len(again))]


@given(schemas.filter(lambda v: v is not None and not isinstance(v, str)))
def test_a_form_makes_the_response_the_value_itself(value: object):
    answer = Answer("", (Choice(json.dumps(value), "stop"),), Usage(1, 1))
    for param in ("response_format", "guided_json"):
        body = WIRE.encode_answer(answer, formed(param))
        assert json.loads(body)["result"]["response"] == value
        assert WIRE.decode_answer(body) == answer


def formed(param: str) -> Decoded:
    request = GenerationRequest(
        request_id=ID, model=MODEL, prompts=("a",), grammar=Grammar("json_schema", "{}", param)
    )
    return Decoded(request=request, request_id=ID)


def test_a_form_that_was_cut_off_is_an_error_or_text():
    cut = Answer("", (Choice('{"a":', "length"),), Usage(1, 1))
    with pytest.raises(InvalidRequest, match="JSON Mode couldn't be met") as caught:
        WIRE.encode_answer(cut, formed("response_format"))
    assert caught.value.param == "max_tokens"
    assert WIRE.encode_error(caught.value, ID)[0] == 400
    body = WIRE.encode_answer(cut, formed("guided_json"))
    assert json.loads(body)["result"]["response"] == '{"a":'


@given(st.lists(filled, max_size=6), usages)
def test_a_stream_survives_the_wire(deltas: list[str], usage: Usage):
    events = [
        Started(""),
        *(TextDelta(0, text) for text in deltas),
        Finished(0, "stop"),
        Completed(usage),
    ]
    encoder = WIRE.stream_encoder(DECODED)
    assert WIRE.decode_stream(b"".join(encoder.encode(event) for event in events)) == events


named_calls = st.builds(ToolCall, filled, filled, texts)


@given(st.lists(named_calls, min_size=1, max_size=3), st.integers(1, 3), usages)
def test_streamed_calls_survive_the_wire(whole: list[ToolCall], size: int, usage: Usage):
    events: list[Event] = [Started("")]
    for index, call in enumerate(whole):
        pieces = [call.arguments[i : i + size] for i in range(0, len(call.arguments), size)]
        events.append(ToolCallDelta(0, index, "", call.id, call.name))
        events += [ToolCallDelta(0, index, piece) for piece in pieces]
    events += [Finished(0, "tool_calls"), Completed(usage)]
    encoder = WIRE.stream_encoder(DECODED)
    again = WIRE.decode_stream(b"".join(encoder.encode(event) for event in events))
    deltas = [event for event in again if isinstance(event, ToolCallDelta)]
    assert join_tool_calls(deltas) == tuple(whole)
    assert again[-2:] == events[-2:]


CALL_EVENTS: list[Event] = [
    Started(MODEL),
    ToolCallDelta(0, 0, '{"a"', "call_1", "f"),
    ToolCallDelta(0, 0, ":1}"),
    ToolCallDelta(0, 1, "{}", "call_2", "g"),
    Finished(0, "tool_calls"),
    Completed(Usage(12, 2)),
]
USAGE = (
    '{"response":"","usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14,'
    '"prompt_tokens_details":{"cached_tokens":0}}}'
)


def chunks_of(wire: WorkersAi, events: list[Event]) -> list[str]:
    encoder = wire.stream_encoder(DECODED)
    data = b"".join(encoder.encode(event) for event in events).decode()
    return [event.removeprefix("data: ") for event in data.split("\n\n") if event]


def test_streamed_calls_have_heads_parts_and_ends_as_the_services():
    head = '{{"response":"","tool_calls":[{{"id":"{}","type":"function","index":{},{}'
    end = '{{"response":"","tool_calls":[{{"id":null,"type":null,"index":{},{}'
    nothing = '"function":{"name":null,"arguments":""}}]}'
    part = '{{"response":"","tool_calls":[{{"index":{},"function":{{"arguments":{}}}}}]}}'
    assert chunks_of(WIRE, CALL_EVENTS) == [
        head.format("call_1", 0, '"function":{"name":"f"}}]}'),
        part.format(0, json.dumps('{"a"')),
        part.format(0, json.dumps(":1}")),
        end.format(0, nothing),
        head.format("call_2", 1, '"function":{"name":"g"}}]}'),
        part.format(1, '"{}"'),
        end.format(1, nothing),
        USAGE,
        "[DONE]",
    ]


def test_flat_calls_are_streamed_whole():
    assert chunks_of(FLAT, CALL_EVENTS) == [
        '{"response":"","tool_calls":[{"name":"f","arguments":{"a":1}}]}',
        '{"response":"","tool_calls":[{"name":"g","arguments":{}}]}',
        USAGE,
        "[DONE]",
    ]


def test_an_answer_of_calls_is_nested_or_flat():
    calls = (ToolCall("call_1", "f", '{"a": 1}'),)
    answer = Answer(MODEL, (Choice("", "tool_calls", (), calls),), Usage(1, 2))
    nested = json.loads(WIRE.encode_answer(answer, DECODED))["result"]
    assert "response" not in nested
    assert nested["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    flat = json.loads(FLAT.encode_answer(answer, DECODED))["result"]
    assert flat["tool_calls"] == [{"name": "f", "arguments": {"a": 1}}]


def test_arguments_that_were_cut_off_stay_text_in_flat_calls():
    answer = Answer(
        MODEL, (Choice("", "tool_calls", (), (ToolCall("", "f", '{"a'),)),), Usage(1, 2)
    )
    flat = json.loads(FLAT.encode_answer(answer, DECODED))["result"]
    assert flat["tool_calls"] == [{"name": "f", "arguments": '{"a'}]


def test_the_bytes_of_an_answer_are_the_services():
    answer = Answer(MODEL, (Choice("Hé", "length"),), Usage(12, 2, 4))
    assert (
        WIRE.encode_answer(answer, DECODED)
        == (
            '{"result":{"response":"Hé","tool_calls":[],"usage":{"prompt_tokens":12,'
            '"completion_tokens":2,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4}}},'
            '"success":true,"errors":[],"messages":[]}'
        ).encode()
    )


def test_the_bytes_of_a_stream_are_the_services():
    encoder = WIRE.stream_encoder(DECODED)
    events = [
        Started(MODEL),
        TextDelta(0, "Hel"),
        TextDelta(0, ""),
        TextDelta(0, "lo"),
        Finished(0, "length"),
        Completed(Usage(12, 2)),
    ]
    assert b"".join(encoder.encode(event) for event in events) == (
        b'data: {"response":"Hel"}\n\n'
        b'data: {"response":"lo"}\n\n'
        b'data: {"response":"","usage":{"prompt_tokens":12,"completion_tokens":2,'
        b'"total_tokens":14,"prompt_tokens_details":{"cached_tokens":0}}}\n\n'
        b"data: [DONE]\n\n"
    )


def test_an_error_inside_a_stream_ends_it_without_done():
    encoder = WIRE.stream_encoder(DECODED)
    error = encoder.encode_error(EngineFailed("a step failed"))
    assert (
        error
        == (
            f'data: {{"errors":[{{"message":"AiError: a step failed ({ID})","code":5000}}],'
            '"success":false,"result":{},"messages":[]}\n\n'
        ).encode()
    )
    with pytest.raises(EngineFailed, match=r"^a step failed$"):
        WIRE.decode_stream(encoder.encode(TextDelta(0, "a")) + error)


def test_a_stream_without_its_end_failed():
    text = WIRE.stream_encoder(DECODED).encode(TextDelta(0, "a"))
    with pytest.raises(ProviderError, match="ended early"):
        WIRE.decode_stream(text)


def test_chunks_of_the_live_service_are_read():
    data = (
        b'data: {"response":"Hel","tool_calls":[],"p":"abdef"}\n\n'
        b'data: {"choices":[{"delta":{"content":"","role":"assistant"}}],"response":"",'
        b'"tool_calls":[]}\n\n'
        b'data: {"response":"","usage":{"prompt_tokens":1,"completion_tokens":2,'
        b'"total_tokens":3,"neurons":0.5}}\n\n'
        b"data: [DONE]\n\n"
    )
    assert WIRE.decode_stream(data) == [
        Started(""),
        TextDelta(0, "Hel"),
        Finished(0, "stop"),
        Completed(Usage(1, 2)),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff",
        b'{"result":7}',
        b'{"result":{"response":null,"tool_calls":[{"arguments":{}}]}}',
        b'{"result":{"response":null,"tool_calls":[7]}}',
    ],
)
def test_an_answer_of_another_kind_is_a_failure_of_its_server(body: bytes):
    with pytest.raises(ProviderError):
        WIRE.decode_answer(body)


def test_an_error_in_an_answer_is_raised():
    _, body = WIRE.encode_error(ContextLengthExceeded(9, 8, None), ID)
    with pytest.raises(ContextLengthExceeded):
        WIRE.decode_answer(body)
