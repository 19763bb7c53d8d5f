"""Tools through OpenAI's own client, against a server process with the default model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from server.processes import STORY, Process, serve

pytestmark = pytest.mark.real_model

CITIES = ["Paris", "Rome", "Lima"]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": CITIES},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "days", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK: Any = {
    "type": "function",
    "function": {"name": "get_time", "description": "Get the time.", "parameters": {
        "type": "object", "properties": {}, "additionalProperties": False}},
}  # fmt: skip
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
QUESTION: Any = [{"role": "user", "content": "What is the weather in Rome for the next 3 days?"}]


@pytest.fixture(scope="module")
def server(model_path: Path) -> Iterator[Process]:
    with serve(model_path) as it:
        yield it


def ask(server: Process, **fields: Any) -> Any:
    defaults = {"messages": QUESTION, "tools": [WEATHER, CLOCK], "max_tokens": 80, "seed": 1}
    return server.client.chat.completions.create(model=server.model, **(defaults | fields))


def check(calls: Any) -> None:
    """Make sure that calls are of declared tools and that arguments match the schema."""
    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert re.fullmatch(r"call_[0-9a-f]{24}", call.id)
        assert call.type == "function"
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_time":
            assert arguments == {}
            continue
        assert call.function.name == "get_weather"
        assert arguments.keys() == {"city", "days", "unit"}
        assert arguments["city"] in CITIES
        assert type(arguments["days"]) is int and 1 <= arguments["days"] <= 7
        assert arguments["unit"] in ("celsius", "fahrenheit")


def whole_calls(choice: Any) -> Any:
    """Give the calls of a choice but the one that was cut off."""
    calls = choice.message.tool_calls or []
    return calls[:-1] if choice.finish_reason == "length" else calls


@pytest.mark.parametrize("temperature", [0, 2])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_demanded_call_matches_its_schema_whatever_the_temperature(
    server: Process, choice: Any, temperature: int
) -> None:
    answer = ask(server, tool_choice=choice, temperature=temperature, n=3)
    for each in answer.choices:
        check(whole_calls(each))
        if choice is NAMED:  # once; of others a small model may make calls up to its limit
            assert [call.function.name for call in each.message.tool_calls] == ["get_weather"]
            assert each.finish_reason == "tool_calls"
            assert each.message.content is None


def test_one_call_is_made_when_they_may_not_be_parallel(server: Process) -> None:
    answer = ask(server, tool_choice="required", parallel_tool_calls=False, temperature=1.5, n=3)
    for choice in answer.choices:
        assert choice.finish_reason == "tool_calls"
        check(choice.message.tool_calls)
        assert len(choice.message.tool_calls) == 1


@pytest.mark.parametrize("first", [107, 75, 44], ids=["{", "[", "<"])
def test_a_strict_tool_holds_calls_to_their_schemas_when_the_model_may_choose(
    server: Process, first: int
) -> None:
    answer = ask(server, temperature=2, n=3, logit_bias={str(first): 100}, max_tokens=120)
    for choice in answer.choices:
        assert not choice.message.content
        assert choice.message.tool_calls
        if calls := whole_calls(choice):
            check(calls)
    for choice in ask(server, temperature=2, n=3).choices:
        assert (choice.message.content or "").lstrip()[:1] not in tuple("{[<")


def test_a_demanded_call_that_meets_its_limit_comes_as_far_as_it_got(server: Process) -> None:
    fields = {"tool_choice": NAMED, "temperature": 0}
    (whole,) = ask(server, **fields).choices[0].message.tool_calls
    for max_tokens in (1, 8, 16):
        (choice,) = ask(server, **fields, max_tokens=max_tokens).choices
        assert choice.finish_reason == "length"
        assert not choice.message.content
        for call in choice.message.tool_calls or []:
            assert call.function.name == "get_weather"
            assert whole.function.arguments.startswith(call.function.arguments)
    assert choice.message.tool_calls


def test_a_streamed_call_is_the_same_call(server: Process) -> None:
    fields = {"tool_choice": "required", "temperature": 0}
    whole = ask(server, **fields).choices[0].message
    chunks = list(ask(server, **fields, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content is None
    calls: dict[int, dict[str, str]] = {}
    reasons = []
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        assert not choice.delta.content
        reasons += [choice.finish_reason] if choice.finish_reason else []
        for part in choice.delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += part.id or ""
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    assert reasons == ["tool_calls"]
    assert [(call["name"], call["arguments"]) for call in calls.values()] == [
        (call.function.name, call.function.arguments) for call in whole.tool_calls
    ]
    assert chunks[-1].usage.completion_tokens > 5


def test_the_clients_own_stream_helper_puts_calls_together(server: Process) -> None:
    with server.client.chat.completions.stream(
        model=server.model, messages=QUESTION, tools=[WEATHER], tool_choice=NAMED, max_tokens=80
    ) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    check(choice.message.tool_calls)


def test_the_result_of_a_call_is_answered(server: Process) -> None:
    message = ask(server, tool_choice=NAMED, temperature=0).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "sunny, 24 degrees"}'}
        for call in message.tool_calls
    ]
    answer = ask(server, messages=[*QUESTION, message, *results], tool_choice="none", temperature=0)
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    plain = ask(server, messages=QUESTION, tool_choice="none", temperature=0)
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens


def test_tools_are_shown_with_auto_and_not_with_none(server: Process) -> None:
    loose = {**WEATHER, "function": {**WEATHER["function"], "strict": False}}
    tokens = {
        choice: ask(server, tools=[loose], tool_choice=choice, max_tokens=1).usage.prompt_tokens
        for choice in ("auto", "none")
    }
    bare = server.client.chat.completions.create(
        model=server.model, messages=QUESTION, max_tokens=1
    )
    assert tokens["none"] == bare.usage.prompt_tokens  # type: ignore[union-attr]
    assert tokens["auto"] > tokens["none"] + 50


def test_demanded_calls_beside_other_requests_are_the_same(server: Process) -> None:
    def call(_: int) -> str:
        answer = ask(server, tool_choice=NAMED, temperature=1, parallel_tool_calls=False)
        return answer.choices[0].message.tool_calls[0].function.arguments

    alone = call(0)
    with ThreadPoolExecutor(10) as pool:
        texts = [pool.submit(server.text, max_tokens=24, temperature=1) for _ in range(5)]
        assert list(pool.map(call, range(5))) == [alone] * 5
        assert all(text.result() for text in texts)


@pytest.mark.parametrize(
    ("parameters", "param", "text"),
    [
        (
            {"type": "object", "dependentSchemas": {"a": {}}},
            "tools[0].function.parameters",
            "dependentSchemas",
        ),
        ({"type": "object", "properties": {"n": {"multipleOf": 999_983}}}, "tools", "to compile"),
        ({"type": "object", "properties": {"s": {"pattern": "("}}}, "tools", "unclosed group"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(
    server: Process, parameters: Any, param: str, text: str
) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(server, tools=[tool], tool_choice="required")
    assert caught.value.param == param
    assert text in caught.value.message
    assert server.text(max_tokens=2)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "auto", "extra_body": {"ignore_eos": True}}, "ignore_eos"),
        ({"tool_choice": "required", "extra_body": {"ignore_eos": True}}, "ignore_eos"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_what_is_not_offered_is_named(server: Process, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(server, **fields)
    assert caught.value.param == param


def test_an_image_for_a_text_model_is_a_400_that_names_it(server: Process) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "See:"}, image]}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            server.client.chat.completions.create(
                model=server.model, messages=messages, stream=stream
            )
        assert caught.value.param == "messages[0].content[1]"
        assert "text only" in caught.value.message
    assert server.text(messages=STORY, max_tokens=2)
