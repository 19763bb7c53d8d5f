"""Dataoorts' wire: requests both ways, its envelope and key order, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.strategies import ERRORS, ID, filled, texts, usages
from outrider.dialects.base import Answer, Choice, Decoded, Envelope
from outrider.dialects.dataoorts import LIKELY_LIMIT, Dataoorts
from outrider.errors import InvalidRequest, OutriderError, RequestError, UnsupportedParameter
from outrider.types import GenerationRequest, Message, SamplingParams, Tool, ToolCall, Usage

WIRE = Dataoorts()
MODEL = "meta/llama-4-scout-17b-16e-instruct"
ENVELOPE = Envelope(request_id=ID, created_s=5, cache_salt="s")
HELLO = [{"role": "user", "content": "Hello"}]
SAMPLING: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 2**31 - 1),
    "temperature": st.floats(0, 5),
    "top_k": st.integers(1, 50),
    "seed": st.integers(1, 9_999_999_999),
    "presence_penalty": st.floats(0, 2),
}


def decode(data: Any, **others: Any) -> Decoded:
    body = {"model": MODEL, "data": data, **others}
    return WIRE.decode_request(json.dumps(body).encode(), ENVELOPE)


def refusal(data: Any, **others: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(data, **others)
    return caught.value


@given(
    st.lists(st.builds(Message, st.sampled_from(["system", "user"]), texts), min_size=1).map(tuple),
    st.fixed_dictionaries({}, optional=SAMPLING),
    filled,
)
def test_a_request_survives_the_wire(
    messages: tuple[Message, ...], values: dict[str, Any], model: str
):
    request = GenerationRequest(
        request_id=ID,
        model=model,
        messages=messages,
        sampling=SamplingParams(**{"temperature": 0.6, **values}),
        given=frozenset(values),
        cache_salt="s",
    )
    assert WIRE.decode_request(WIRE.encode_request(request), ENVELOPE).request == request


@given(texts, usages)
def test_an_answer_survives_the_wire(text: str, usage: Usage):
    reason = "length" if usage.completion_tokens == LIKELY_LIMIT else "stop"
    answer = Answer("", (Choice(text, reason),), usage)
    assert WIRE.decode_answer(WIRE.encode_answer(answer, decode({"prompt": "a"}))) == answer


@pytest.mark.parametrize(
    ("limit", "num_tokens", "reason"),
    [
        (None, 255, "stop"),
        (None, 256, "length"),
        (None, 257, "stop"),
        (300, 256, "stop"),
        (300, 300, "length"),
    ],
)
def test_an_answer_of_all_its_tokens_was_cut_also_where_nobody_set_a_limit(
    limit: int | None, num_tokens: int, reason: str
):
    body = WIRE.encode_answer(
        Answer("", (Choice("a", "stop"),), Usage(3, num_tokens)), decode({"prompt": "a"})
    )
    assert Dataoorts(limit).decode_answer(body).choices[0].finish_reason == reason


@pytest.mark.parametrize("errors", ERRORS, ids=lambda errors: errors.__class__.__name__)
@given(data=st.data())
def test_an_error_keeps_its_side(errors: st.SearchStrategy[OutriderError], data: st.DataObject):
    error = data.draw(errors)
    status, body = WIRE.encode_error(error, ID)
    again = WIRE.decode_error(status, body)
    assert isinstance(again, RequestError) == isinstance(error, RequestError)
    assert list(json.loads(body)) == ["errors", "messages", "result", "success"]


def test_an_answer_has_exactly_these_bytes():
    answer = Answer("m", (Choice("Hé", "stop"),), Usage(3, 2))
    wanted = (
        '{"errors":[],"messages":[],"result":{"response":"Hé","tool_calls":[],"usage":'
        '{"completion_tokens":2,"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":0},'
        '"total_tokens":5}},"success":true}'
    )
    assert WIRE.encode_answer(answer, decode({"messages": HELLO})).decode() == wanted


def test_a_json_answer_keeps_the_order_that_the_model_wrote():
    decoded = decode({"prompt": "a", "response_format": {"type": "json_object"}})
    answer = Answer("m", (Choice('{"b": 1, "a": {"d": 2, "c": 3}}', "stop"),), Usage(3, 2))
    body = WIRE.encode_answer(answer, decoded)
    assert b'"response":{"b": 1, "a": {"d": 2, "c": 3}}' in body
    assert WIRE.decode_answer(body).choices[0].text == answer.choices[0].text


def test_tools_and_their_calls_are_those_of_workers_ai():
    tool = {"name": "f", "description": "g", "parameters": {"type": "object", "properties": {}}}
    decoded = decode({"messages": HELLO, "tools": [tool]})
    assert decoded.request.tools == (Tool("f", "g"),)
    calls = (ToolCall("x", "f", "{}"),)
    answer = Answer("", (Choice("", "tool_calls", (), calls),), Usage(3, 2))
    assert WIRE.decode_answer(WIRE.encode_answer(answer, decoded)) == answer
    wrong = refusal({"messages": HELLO, "tools": [{"function": {}}]})
    assert wrong.message == "required properties at '/data/tools/0/function' are 'name'"


def test_an_error_has_exactly_these_bytes():
    assert WIRE.encode_error(InvalidRequest("'/data/top_k' must be <= 50", "data.top_k"), ID) == (
        400,
        b'{"errors":[{"code":5006,"message":"AiError: Bad input: Error: \'/data/top_k\' must be '
        b'<= 50 (7c2f0c1e)"}],"messages":[],"result":{},"success":false}',
    )


def test_the_sample_of_the_page_is_read():
    messages = [
        {"role": "system", "content": "You are an expert deep learning engineer"},
        {"role": "user", "content": "What is Deep Learning"},
    ]
    values = {"temperature": 0.1, "top_p": 0.9, "top_k": 40, "max_tokens": 1024}
    request = decode({"messages": messages, **values}).request
    assert request.model == MODEL
    assert request.sampling == SamplingParams(**values)


def test_defaults_are_dataoorts_own():
    sampling = decode({"messages": HELLO}).request.sampling
    assert sampling == SamplingParams(temperature=0.6)


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({}, "data.prompt"),
        ({"messages": []}, "data.messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "data.messages[0].content"),
        ({"prompt": "a", "temperature": 5.1}, "data.temperature"),
        ({"prompt": "a", "top_k": 51}, "data.top_k"),
        ({"prompt": "a", "stream": True}, "data.stream"),
        ("a", "data"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(data: Any, param: str):
    error = refusal(data)
    assert error.param == param
    assert "data" in error.message


def test_a_missing_model_is_named():
    for model in (None, 5, ["m"]):
        assert refusal({"prompt": "a"}, model=model).param == "model"


def test_what_is_ignored_is_named_with_its_place():
    assert decode({"prompt": "a", "zoo": 1}, mood=2).ignored == ("data.zoo", "mood")


def test_streams_are_refused_both_ways():
    request = GenerationRequest(request_id=ID, model="m", prompts=("a",), stream=True)
    for call in (
        lambda: WIRE.encode_request(request),
        lambda: WIRE.stream_encoder(decode({"prompt": "a"})),
        lambda: WIRE.decode_stream(b""),
    ):
        with pytest.raises(UnsupportedParameter):
            call()
