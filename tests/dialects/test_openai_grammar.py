"""The form of an answer on OpenAI's wire: response_format and structured_outputs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.dialects.base import Envelope
from outrider.dialects.openai import CHAT_COMPLETIONS, COMPLETIONS
from outrider.dialects.openrouter import CHAT_COMPLETIONS as ROUTER
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import Grammar

ENVELOPE = Envelope(request_id="r")
MESSAGES = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def form(wire: Any = CHAT_COMPLETIONS, **fields: Any) -> Grammar | None:
    body = {"model": "m", "messages": MESSAGES, **fields}
    grammar: Grammar | None = wire.decode_request(
        json.dumps(body).encode(), ENVELOPE
    ).request.grammar
    return grammar


def wrapped(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, **fields}}


@pytest.mark.parametrize("wire", [CHAT_COMPLETIONS, ROUTER], ids=["openai", "openrouter"])
def test_formats_become_grammars(wire: Any) -> None:
    source = json.dumps(SCHEMA, separators=(",", ":"))
    schema = Grammar("json_schema", source, "response_format")
    assert form(wire, response_format={"type": "text"}) is None
    assert form(wire, response_format=None) is None
    anything = form(wire, response_format={"type": "json_object"})
    assert anything == Grammar("json_schema", '{"type":"object"}', "response_format")
    for extra in ({}, {"strict": True}, {"strict": False}, {"description": "d", "strict": None}):
        assert form(wire, response_format=wrapped(**extra)) == schema
    lark = {"type": "grammar", "grammar": 'start: "a"'}
    assert form(wire, response_format=lark) == Grammar("lark", 'start: "a"', "response_format")


@pytest.mark.parametrize(
    ("outputs", "kind", "source"),
    [
        ({"regex": "a+"}, "regex", "a+"),
        ({"grammar": "start: A"}, "lark", "start: A"),
        ({"choice": ["yes", 'n"o']}, "lark", 'start: "yes" | "n\\"o"'),
        ({"json": {"type": "object"}}, "json_schema", '{"type":"object"}'),
    ],
)
def test_vllms_field_carries_all_kinds(outputs: dict[str, Any], kind: Any, source: str) -> None:
    wanted = Grammar(kind, source, "structured_outputs")
    assert form(structured_outputs=outputs) == wanted
    body = json.dumps({"model": "m", "prompt": "a", "structured_outputs": outputs}).encode()
    assert COMPLETIONS.decode_request(body, ENVELOPE).request.grammar == wanted


def test_openrouters_flag_of_the_same_name_says_nothing() -> None:
    assert form(ROUTER, structured_outputs=True) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": 5}}, "response_format.type"),
        ({"response_format": {"type": "python"}}, "response_format.type"),
        ({"response_format": {"type": "x\ny" * 99}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "grammar"}}, "response_format.grammar"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": wrapped(name="a b")}, "response_format.json_schema.name"),
        ({"response_format": wrapped(schema=[])}, "response_format.json_schema.schema"),
        ({"response_format": wrapped(mood=1)}, "response_format.json_schema.mood"),
        ({"structured_outputs": True}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice"),
        (
            {
                "structured_outputs": {"regex": "a"},
                "response_format": {"type": "json_object"},
            },
            "structured_outputs",
        ),
    ],
)
def test_wrong_forms_are_refused_by_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        form(**fields)
    assert caught.value.param == param
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_a_schema_may_be_deep_but_not_without_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidRequest) as caught:
        form(response_format=wrapped(schema=schema))
    assert caught.value.param == "response_format.json_schema.schema"


def test_what_openrouter_cannot_carry_is_refused_when_it_is_written() -> None:
    request = CHAT_COMPLETIONS.decode_request(
        json.dumps(
            {"model": "m", "messages": MESSAGES, "structured_outputs": {"regex": "a"}}
        ).encode(),
        ENVELOPE,
    ).request
    with pytest.raises(UnsupportedParameter):
        ROUTER.encode_request(request)
