"""OpenAI's wire: the codec laws, exact bytes, every field of both endpoints and its borders."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.strategies import (
    ERRORS,
    GRAMMARS,
    ID,
    OUTPUTS,
    SAMPLING,
    calls,
    filled,
    logprobs,
    reasons,
    requests,
    texts,
    usages_of_predictions,
)
from outrider.dialects.base import Answer, Choice, Decoded, Envelope
from outrider.dialects.openai import CHAT_COMPLETIONS, COMPLETIONS, OpenAi
from outrider.errors import (
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    PayloadTooLarge,
    ProviderError,
    ProviderRateLimited,
    RequestTimeout,
    Unauthorized,
)
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    SamplingParams,
    Started,
    TextDelta,
    TokenAlternative,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

ENVELOPE = Envelope(request_id=ID, created_s=5, cache_salt="s")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "m", "prompt": "Hello"}
BODIES: dict[str, dict[str, Any]] = {CHAT_COMPLETIONS.name: CHAT, COMPLETIONS.name: TEXT}
BOTH = pytest.mark.parametrize("wire", [CHAT_COMPLETIONS, COMPLETIONS], ids=lambda wire: wire.name)

wires = st.sampled_from([CHAT_COMPLETIONS, COMPLETIONS])


def decode(wire: OpenAi, **fields: Any) -> Decoded:
    body = BODIES[wire.name] | fields
    return wire.decode_request(json.dumps(body).encode(), ENVELOPE)


def own_id(wire: OpenAi) -> str:
    return wire.id_prefix + ID


def test_the_table_of_sampling_fields_is_complete():
    assert set(SAMPLING) == set(SamplingParams.__struct_fields__)


# The laws: what is written is read back.


@given(requests(is_chat=True, forms=GRAMMARS | OUTPUTS))
def test_a_conversation_survives_the_wire(request: GenerationRequest):
    body = CHAT_COMPLETIONS.encode_request(request)
    assert CHAT_COMPLETIONS.decode_request(body, ENVELOPE).request == request


@given(requests(is_chat=False, forms=st.none() | OUTPUTS))
def test_a_prompt_survives_the_wire(request: GenerationRequest):
    body = COMPLETIONS.encode_request(request)
    assert COMPLETIONS.decode_request(body, ENVELOPE).request == request


def test_ids_and_salts_come_from_the_envelope_and_not_from_the_body():
    request = decode(CHAT_COMPLETIONS).request
    other = Envelope(request_id="other", cache_salt="t")
    again = CHAT_COMPLETIONS.decode_request(CHAT_COMPLETIONS.encode_request(request), other)
    assert (again.request_id, again.request.request_id) == ("other", "other")
    assert again.request.cache_salt == "t"


@given(st.data(), wires, texts, usages_of_predictions)
def test_an_answer_survives_the_wire(data: st.DataObject, wire: OpenAi, model: str, usage: Usage):
    tool_calls = st.lists(calls, max_size=2 if wire is CHAT_COMPLETIONS else 0).map(tuple)
    choices = st.builds(Choice, texts, reasons, logprobs(wire is CHAT_COMPLETIONS), tool_calls)
    answer = Answer(model, tuple(data.draw(st.lists(choices, max_size=3))), usage, "", own_id(wire))
    assert wire.decode_answer(wire.encode_answer(answer, decode(wire))) == answer


@given(st.data(), wires, texts, usages_of_predictions)
def test_a_stream_survives_the_wire(data: st.DataObject, wire: OpenAi, model: str, usage: Usage):
    n = data.draw(st.integers(1, 3))
    index = st.integers(0, n - 1)
    deltas: st.SearchStrategy[Event] = st.builds(
        TextDelta, index, filled, logprobs(wire is CHAT_COMPLETIONS)
    )
    if wire is CHAT_COMPLETIONS:
        deltas |= st.builds(ToolCallDelta, index, st.integers(0, 3), texts, filled, texts)
        deltas |= st.builds(ToolCallDelta, index, st.integers(0, 3), texts)
    events: list[Event] = [Started(model, "", own_id(wire))]
    events += data.draw(st.lists(deltas, max_size=6))
    events += [Finished(index, data.draw(reasons)) for index in range(n)]
    events.append(Completed(usage))
    decoded = decode(wire, n=n, stream=True, stream_options={"include_usage": True})
    encoder = wire.stream_encoder(decoded)
    assert wire.decode_stream(b"".join(encoder.encode(event) for event in events)) == events


def facts(error: OutriderError) -> tuple[Any, ...]:
    return type(error), error.message, {k: v for k, v in vars(error).items() if k != "message"}


@given(wires, st.one_of(ERRORS))
def test_an_error_survives_the_wire(wire: OpenAi, error: OutriderError):
    status, body = wire.encode_error(error, ID)
    assert status == error.status
    assert facts(wire.decode_error(status, body)) == facts(error)


@given(wires, st.one_of(ERRORS))
def test_an_error_in_a_stream_survives_the_wire(wire: OpenAi, error: OutriderError):
    encoder = wire.stream_encoder(decode(wire, stream=True))
    data = encoder.encode(Started("m")) + encoder.encode_error(error)
    with pytest.raises(type(error)) as caught:
        wire.decode_stream(data)
    assert facts(caught.value) == facts(error)


# Errors of other servers.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (404, ModelNotFound),
        (408, RequestTimeout),
        (413, PayloadTooLarge),
        (422, InvalidRequest),
        (429, ProviderRateLimited),
        (500, EngineFailed),
        (502, ProviderError),
        (503, EngineOverloaded),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"\xff",
        b'{"error": {"message": "\xff"}}',
        b"[" * 100_000,
        b"[]",
        b'{"error": "text"}',
        b'{"error": {"message": "m", "code": ["a"]}}',
        b'{"error": {"message": "m", "code": "rate_limit"}}',
    ],
)
def test_a_foreign_error_is_read_by_its_status(status: int, kind: type, body: bytes):
    assert type(CHAT_COMPLETIONS.decode_error(status, body)) is kind


def test_a_foreign_context_length_error_without_counts_is_an_invalid_request():
    body = b'{"error": {"message": "too long", "code": "context_length_exceeded", "param": "p"}}'
    error = CHAT_COMPLETIONS.decode_error(400, body)
    assert facts(error) == facts(InvalidRequest("too long", "p"))


@BOTH
def test_a_stream_that_just_ends_has_failed(wire: OpenAi):
    encoder = wire.stream_encoder(decode(wire, stream=True))
    data = b"".join(encoder.encode(event) for event in (Started("m"), TextDelta(0, "a")))
    with pytest.raises(ProviderError, match=r"no \[DONE\]"):
        wire.decode_stream(data)


# Exact bytes.

EVENTS: list[Event] = [
    Started("m"),
    TextDelta(0, "Hé"),
    Finished(0, "stop"),
    Completed(Usage(3, 2, 1)),
]
USAGE = (
    '"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,'
    '"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":'
    '{"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
)
CHAT_HEAD = (
    'data: {"id":"chatcmpl-7c2f0c1e","object":"chat.completion.chunk","created":5,"model":"m",'
    '"system_fingerprint":null,"choices":['
)
CHAT_CHUNKS = (
    '{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,'
    '"finish_reason":null}',
    '{"index":0,"delta":{"content":"Hé"},"logprobs":null,"finish_reason":null}',
    '{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}',
)
TEXT_HEAD = (
    'data: {"id":"cmpl-7c2f0c1e","object":"text_completion","created":5,"model":"m",'
    '"system_fingerprint":null,"choices":['
)
TEXT_CHUNKS = (
    '{"index":0,"text":"Hé","logprobs":null,"finish_reason":null}',
    '{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}',
)
STREAMS = pytest.mark.parametrize(
    ("wire", "head", "chunks"),
    [(CHAT_COMPLETIONS, CHAT_HEAD, CHAT_CHUNKS), (COMPLETIONS, TEXT_HEAD, TEXT_CHUNKS)],
)


def streamed(decoded: Decoded, wire: OpenAi) -> str:
    encoder = wire.stream_encoder(decoded)
    return b"".join(encoder.encode(event) for event in EVENTS).decode()


@STREAMS
def test_a_stream_without_usage_has_exactly_these_bytes(
    wire: OpenAi, head: str, chunks: tuple[str, ...]
):
    wanted = "".join(f"{head}{chunk}]}}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    for options in (None, {}, {"include_usage": False}):
        assert streamed(decode(wire, stream=True, stream_options=options), wire) == wanted


@STREAMS
def test_a_stream_with_usage_has_exactly_these_bytes(
    wire: OpenAi, head: str, chunks: tuple[str, ...]
):
    wanted = "".join(f'{head}{chunk}],"usage":null}}\n\n' for chunk in chunks)
    wanted += f"{head}],{USAGE}}}\n\ndata: [DONE]\n\n"
    decoded = decode(wire, stream=True, stream_options={"include_usage": True})
    assert streamed(decoded, wire) == wanted


def test_every_choice_of_a_chat_begins_with_its_role():
    encoder = CHAT_COMPLETIONS.stream_encoder(decode(CHAT_COMPLETIONS, n=3, stream=True))
    chunks = encoder.encode(Started("m")).decode().split("\n\n")[:-1]
    choices = [json.loads(chunk.removeprefix("data: "))["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert {choice["delta"]["role"] for choice in choices} == {"assistant"}


@pytest.mark.parametrize(
    ("wire", "head", "choice"),
    [
        (
            CHAT_COMPLETIONS,
            '{"id":"chatcmpl-7c2f0c1e","object":"chat.completion"',
            '{"index":0,"message":{"role":"assistant","content":"Hé","refusal":null},'
            '"logprobs":null,"finish_reason":"length"}',
        ),
        (
            COMPLETIONS,
            '{"id":"cmpl-7c2f0c1e","object":"text_completion"',
            '{"index":0,"text":"Hé","logprobs":null,"finish_reason":"length"}',
        ),
    ],
)
def test_an_answer_has_exactly_these_bytes(wire: OpenAi, head: str, choice: str):
    answer = Answer("m", (Choice("Hé", "length"),), Usage(3, 2, 1))
    wanted = f'{head},"created":5,"model":"m","system_fingerprint":null,"choices":[{choice}],'
    assert wire.encode_answer(answer, decode(wire)).decode() == wanted + USAGE + "}"


def test_an_error_has_exactly_these_bytes():
    mine = b'{"error":{"message":"no","type":"invalid_request_error","param":"n","code":"%s"}}'
    assert CHAT_COMPLETIONS.encode_error(InvalidRequest("no", "n"), ID) == (
        400,
        mine % b"invalid_request",
    )
    ours = b'{"error":{"message":"no","type":"server_error","param":null,"code":"engine_failed"}}'
    assert CHAT_COMPLETIONS.encode_error(EngineFailed("no"), ID) == (500, ours)
    encoder = CHAT_COMPLETIONS.stream_encoder(decode(CHAT_COMPLETIONS, stream=True))
    assert encoder.encode_error(EngineFailed("no")) == b"data: " + ours + b"\n\n"


HALF = TokenLogprob(7, b"\xc3", -0.5, (TokenAlternative(7, b"\xc3", -0.5),))
REST = TokenLogprob(8, b"\xa9", 0.0)


def test_chat_logprobs_carry_the_bytes_of_parts_of_characters():
    answer = Answer("m", (Choice("é", "stop", (HALF, REST)),), Usage(1, 2))
    body = json.loads(CHAT_COMPLETIONS.encode_answer(answer, decode(CHAT_COMPLETIONS)))
    first, second = body["choices"][0]["logprobs"]["content"]
    alternative = {"token": "\ufffd", "logprob": -0.5, "bytes": [0xC3]}
    assert first == {**alternative, "top_logprobs": [alternative]}
    assert second == {"token": "\ufffd", "logprob": 0.0, "bytes": [0xA9], "top_logprobs": []}


def test_text_offsets_go_on_from_one_chunk_to_the_next():
    encoder = COMPLETIONS.stream_encoder(decode(COMPLETIONS, stream=True, logprobs=1))
    encoder.encode(Started("m"))
    offsets = []
    for text in ("Hé", "llo", "!"):
        delta = TextDelta(0, text, (TokenLogprob(1, text.encode(), -1.0),))
        chunk = json.loads(encoder.encode(delta).removeprefix(b"data: "))
        offsets += chunk["choices"][0]["logprobs"]["text_offset"]
    assert offsets == [0, 2, 5]
