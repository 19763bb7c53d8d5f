"""What the codecs of OpenAI's and OpenRouter's wires write is of the types that documents show."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.strategies import ERRORS, ID, calls, logprobs, reasons, texts, usages
from outrider.dialects import openai, openai_answers, openrouter, openrouter_answers, sse
from outrider.dialects.base import Answer, Choice, Dialect, Envelope
from outrider.errors import OutriderError
from outrider.types import Completed, Finished, Started, TextDelta, ToolCallDelta, Usage

CHAT = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true}'
TEXT = b'{"model": "m", "prompt": "Hi", "stream": true}'
ERROR, ROUTED_ERROR = openai_answers.ErrorBody, openrouter_answers.RoutedError
# codec, body, type of a whole answer, of a chunk, of an error and of one inside a stream
ROWS: list[tuple[Dialect, bytes, Any, Any, Any, Any]] = [
    (
        openai.CHAT_COMPLETIONS,
        CHAT,
        openai_answers.ChatCompletion,
        openai_answers.ChatChunk,
        ERROR,
        ERROR,
    ),
    (
        openai.COMPLETIONS,
        TEXT,
        openai_answers.TextCompletion,
        openai_answers.TextCompletion,
        ERROR,
        ERROR,
    ),
    (
        openrouter.CHAT_COMPLETIONS,
        CHAT,
        openrouter_answers.RoutedCompletion,
        openrouter_answers.RoutedChunk,
        ROUTED_ERROR,
        openrouter_answers.RoutedChunk,
    ),
    (
        openrouter.COMPLETIONS,
        TEXT,
        openrouter_answers.RoutedTextCompletion,
        openrouter_answers.RoutedTextCompletion,
        ROUTED_ERROR,
        openrouter_answers.RoutedTextCompletion,
    ),
]
BY_WIRE = pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].name)


def check(body: bytes, kind: Any) -> None:
    msgspec.json.decode(body, type=kind)


@BY_WIRE
@given(st.data(), texts, usages)
def test_whole_answers_are_of_their_type(
    row: Any, data: st.DataObject, model: str, usage: Usage
) -> None:
    wire, body, kind, *_ = row
    tool_calls = st.lists(calls, max_size=2 if body is CHAT else 0).map(tuple)
    choices = st.builds(Choice, texts, reasons, logprobs(body is CHAT), tool_calls)
    answer = Answer(model, tuple(data.draw(st.lists(choices, min_size=1, max_size=3))), usage)
    check(wire.encode_answer(answer, wire.decode_request(body, Envelope(request_id=ID))), kind)


@BY_WIRE
@given(st.data(), texts, usages)
def test_chunks_are_of_their_type(row: Any, data: st.DataObject, model: str, usage: Usage) -> None:
    wire, body, _, kind, *_ = row
    events: list[Any] = [
        Started(model),
        TextDelta(0, data.draw(texts), data.draw(logprobs(body is CHAT))),
    ]
    if body is CHAT:
        events += [ToolCallDelta(0, 0, "{", "id", "f"), ToolCallDelta(0, 0, "}")]
    events += [Finished(0, data.draw(reasons)), Completed(usage)]
    encoder = wire.stream_encoder(wire.decode_request(body, Envelope(request_id=ID)))
    for payload in sse.decode_data(b"".join(encoder.encode(event) for event in events)):
        if payload != b"[DONE]":
            check(payload, kind)


@BY_WIRE
@given(st.one_of(ERRORS))
def test_errors_are_of_their_type(row: Any, error: OutriderError) -> None:
    wire, body, _, _, kind, chunk_kind = row
    check(wire.encode_error(error, ID)[1], kind)
    encoder = wire.stream_encoder(wire.decode_request(body, Envelope(request_id=ID)))
    encoder.encode(Started("m"))
    for payload in sse.decode_data(encoder.encode_error(error)):
        check(payload, chunk_kind)
