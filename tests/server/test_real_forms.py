"""Forms of answers through OpenAI's own client, against a server process with the default model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from server.processes import Process, serve

pytestmark = pytest.mark.real_model

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "length_km": {"type": "integer", "minimum": 1, "maximum": 9999},
        "continent": {"enum": ["Asia", "Europe", "Africa"]},
    },
    "required": ["name", "length_km", "continent"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "river", "schema": SCHEMA}}
QUESTION: Any = [{"role": "user", "content": "Name a river."}]
TOOL: Any = {"type": "function", "function": {"name": "get_river"}}


@pytest.fixture(scope="module")
def server(model_path: Path) -> Iterator[Process]:
    with serve(model_path) as it:
        yield it


def ask(server: Process, **fields: Any) -> Any:
    defaults = {"messages": QUESTION, "max_tokens": 80, "seed": 1, "temperature": 1.5}
    return server.client.chat.completions.create(model=server.model, **(defaults | fields))


def check(text: str) -> None:
    river = json.loads(text)
    assert list(river) == ["name", "length_km", "continent"]
    assert len(river["name"]) <= 12
    assert 1 <= river["length_km"] <= 9999
    assert river["continent"] in ("Asia", "Europe", "Africa")


def test_answers_match_their_schema_whole_and_streamed(server: Process) -> None:
    for seed in range(4):
        check(ask(server, response_format=FORMAT, seed=seed).choices[0].message.content)
    chunks = ask(server, response_format=FORMAT, stream=True)
    check("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


def test_an_answer_that_is_cut_says_so(server: Process) -> None:
    choice = ask(server, response_format=FORMAT, max_tokens=5).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.content.startswith('{"name": "')


def test_regular_expressions_and_choices_hold_as_well(server: Process) -> None:
    for outputs, pattern in (
        ({"regex": "[a-c]{3}-[0-9]{2}"}, "[a-c]{3}-[0-9]{2}"),
        ({"choice": ["Danube", "Rhine"]}, "Danube|Rhine"),
        ({"grammar": 'start: "x" /[0-9]/ "y"'}, "x[0-9]y"),
    ):
        answer = ask(server, extra_body={"structured_outputs": outputs})
        assert re.fullmatch(pattern, answer.choices[0].message.content)
        assert answer.choices[0].finish_reason == "stop"


def test_beside_tools_an_answer_is_a_call_or_has_the_form(server: Process) -> None:
    for seed in range(4):
        choice = ask(server, response_format=FORMAT, tools=[TOOL], seed=seed).choices[0]
        if choice.finish_reason == "tool_calls":
            assert choice.message.tool_calls[0].function.name == "get_river"
        elif choice.finish_reason == "stop":
            check(choice.message.content)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}},
        {"$ref": "https://example.org/schema"},
        {"type": "object", "x-guidance": {"lenient": True}, "not": {"required": ["a"]}},
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(
    server: Process, schema: dict[str, Any]
) -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(server, response_format=wrapped)
    assert caught.value.param == "response_format"
    assert any(word in caught.value.message for word in ("uniqueItems", "example.org", "not"))
