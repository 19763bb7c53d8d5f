"""Workers AI's answers and streams: the codec laws, exact bytes, what other servers send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import Answer, Choice, Decoded
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import ContextLengthExceeded, EngineFailed
from outrider.types import (
    Completed,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    Usage,
)

WIRE = WorkersAi()
MODEL = "@cf/meta/llama-4-scout-17b-16e-instruct"
ID = "7c2f0c1e-90a4-4b1c-a7a6-1c7f3f4be6a9"
DECODED = Decoded(
    request=GenerationRequest(request_id=ID, model=MODEL, prompts=("a",)), request_id=ID
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filled = texts.filter(bool)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, counts)


@given(texts, usages)
def test_an_answer_survives_the_wire(text: str, usage: Usage):
    answer = Answer("", (Choice(text, "stop"),), usage)
    assert WIRE.decode_answer(WIRE.encode_answer(answer, DECODED)) == answer


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
        b'data: {"response":"Hel","tool_calls":[]}\n\n'
        b'data: {"response":"lo","tool_calls":[]}\n\n'
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
    with pytest.raises(EngineFailed, match="ended early"):
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
        b'{"result":{"response":7}}',
        b'{"result":{"response":null,"tool_calls":[{"name":"f","arguments":{}}]}}',
    ],
)
def test_an_answer_of_another_kind_is_a_failure_of_its_server(body: bytes):
    with pytest.raises(EngineFailed):
        WIRE.decode_answer(body)


def test_an_error_in_an_answer_is_raised():
    _, body = WIRE.encode_error(ContextLengthExceeded(9, 8, None), ID)
    with pytest.raises(ContextLengthExceeded):
        WIRE.decode_answer(body)
