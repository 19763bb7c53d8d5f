"""Tests of embedded functions on Workers AI's wire: what is read, written and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import InvalidRequest
from outrider.types import EmbeddedFunction, GenerationRequest, Message, SamplingParams, Tool

WIRE = WorkersAi()
TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}


def decode(functions: Any, **fields: Any) -> GenerationRequest:
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL], **fields}
    data = json.dumps({**body, "functions": functions}).encode()
    return WIRE.decode_request(data, Envelope(request_id="r")).request


def test_functions_are_names_and_code() -> None:
    functions = [{"name": "add", "code": "args.a"}, {"name": "b", "code": "", "x": 1}]
    expected = (EmbeddedFunction("add", "args.a"), EmbeddedFunction("b", ""))
    assert decode(functions).functions == expected


@pytest.mark.parametrize("empty", [None, [], "", {}])
def test_an_empty_field_says_nothing(empty: Any) -> None:
    assert decode(empty).functions == ()


TEXT = st.text(st.characters(codec="utf-8"))


@given(st.lists(st.builds(EmbeddedFunction, TEXT, TEXT)))
def test_functions_survive_the_wire(functions: list[EmbeddedFunction]) -> None:
    request = GenerationRequest(
        request_id="r",
        model="m",
        messages=(Message("user", "Hi"),),
        tools=(Tool("add"),),
        sampling=SamplingParams(max_tokens=256),
        functions=tuple(functions),
    )
    body = WIRE.encode_request(request)
    assert WIRE.decode_request(body, Envelope(request_id="r")).request.functions == tuple(functions)


@pytest.mark.parametrize(
    ("functions", "pointer"),
    [
        ("code", "'/functions'"),
        ([1], "'/functions/0'"),
        ([{"name": "a"}], "'code'"),
        ([{"name": "a", "code": "1"}, {"code": "1"}], "'/functions/1'"),
        ([{"name": 1, "code": "1"}], "'/functions/0/name'"),
        ([{"name": "a", "code": ["1"]}], "'/functions/0/code'"),
    ],
)
def test_what_is_no_function_is_refused_by_its_pointer(functions: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(functions)
    assert pointer in caught.value.message
    assert str(caught.value.param).startswith("functions")
