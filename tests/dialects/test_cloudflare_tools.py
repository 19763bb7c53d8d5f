"""Workers AI's tools, images and forms: what each way to write them means, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.dialects.base import Decoded, Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import (
    GenerationRequest,
    Grammar,
    ImagePart,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
)

WIRE = WorkersAi()
ENVELOPE = Envelope(request_id="r", model="m")
HELLO = [{"role": "user", "content": "Hello"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
WEATHER = {"name": "weather", "description": "of a city", "parameters": PARAMETERS}
TOOL = Tool("weather", "of a city", PARAMETERS)
PIXEL = "data:image/png;base64,eA=="


def decode(**fields: Any) -> Decoded:
    body = fields if "prompt" in fields else {"messages": HELLO, **fields}
    return WIRE.decode_request(json.dumps(body).encode(), ENVELOPE)


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return caught.value


@pytest.mark.parametrize(
    "wire",
    [
        WEATHER,
        {"type": "function", **WEATHER},
        {"type": "function", "function": WEATHER},
        {"function": WEATHER},
    ],
)
def test_tools_are_flat_or_wrapped(wire: dict[str, Any]):
    decoded = decode(tools=[wire])
    assert decoded.request.tools == (TOOL,)
    assert decoded.request.tool_choice == "auto"
    assert decoded.ignored == ()


def test_a_prompt_may_have_tools_as_well():
    assert decode(prompt="a", tools=[WEATHER]).request.tools == (TOOL,)


def test_a_tool_needs_only_a_name():
    wire = [{"name": "f"}, {"function": {"name": "g", "description": None, "parameters": None}}]
    assert decode(tools=wire).request.tools == (Tool("f"), Tool("g"))


@pytest.mark.parametrize(
    ("wire", "meant"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "weather"}}, NamedTool("weather")),
    ],
)
def test_a_tool_may_be_chosen_as_on_openais_wire(wire: object, meant: object):
    request = decode(tools=[WEATHER], tool_choice=wire, parallel_tool_calls=False).request
    assert (request.tool_choice, request.parallel_tool_calls) == (meant, False)


@pytest.mark.parametrize(
    ("fields", "code", "words", "param"),
    [
        ({"tool_choice": "any", "tools": [WEATHER]}, 8001, "must be auto", "tool_choice"),
        ({"tool_choice": "required"}, 5006, "needs tools", "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, 5006, "name of another tool", "tools[1]"),
        ({"tools": {}}, 5006, "Type mismatch of '/tools'", "tools"),
        ({"tools": ["f"]}, 5006, "Type mismatch of '/tools/0'", "tools[0]"),
        ({"tools": [{}]}, 5006, "required properties at '/tools/0' are 'name'", "tools[0].name"),
        ({"tools": [{"name": "a b"}]}, 5006, "1 to 64 letters", "tools[0].name"),
        (
            {"tools": [{**WEATHER, "description": False}]},
            5006,
            "Type mismatch of '/tools/0/description', 'boolean' not in 'string'",
            "tools[0].description",
        ),
        (
            {"tools": [{"type": "web", "function": WEATHER}]},
            5006,
            "'/tools/0/type' must be 'function'",
            "tools[0].type",
        ),
        (
            {"tools": [{"function": {"name": "f", "parameters": {"type": "array"}}}]},
            5006,
            "'/tools/0/function/parameters/type' must be 'object'",
            "tools[0].function.parameters.type",
        ),
        ({"tools": [{"name": "f"}] * 129}, 5006, "must be <= 128", "tools"),
        ({"prompt": "a", "raw": True, "tools": [WEATHER]}, 5006, "can't be used", "tools"),
    ],
)
def test_tools_that_make_no_sense_are_refused(
    fields: dict[str, Any], code: int, words: str, param: str
):
    error = refusal(**fields)
    assert words in error.message
    assert error.param == param
    _, body = WIRE.encode_error(error, "r")
    assert json.loads(body)["errors"][0]["code"] == code


def test_what_a_tool_has_besides_is_ignored_and_named():
    wrapped = {"type": "function", "function": {**WEATHER, "cache": 1}, "x": 1}
    assert decode(tools=[wrapped]).ignored == ("tools[].function.cache", "tools[].x")


def test_earlier_calls_are_read_in_every_form():
    nested = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    flat = {"name": "g", "arguments": {"y": 2}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [nested, flat]},
        {"role": "tool", "name": "f", "tool_call_id": "a", "content": "7"},
        {"role": "tool", "name": "g", "content": "8"},
    ]
    decoded = decode(messages=messages)
    calls = (ToolCall("a", "f", '{"x": 1}'), ToolCall("000000002", "g", '{"y":2}'))
    assert decoded.request.messages[1:] == (
        Message("assistant", "", calls),
        Message("tool", "7", tool_call_id="a"),
        Message("tool", "8"),
    )
    assert decoded.ignored == ()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "tool_calls": [{"name": "f"}]}, "of the assistant only"),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "tool_calls/0' are 'name'"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "0/function' are 'name'"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": 5}]}, "0/arguments'"),
    ],
)
def test_earlier_calls_that_are_none_are_refused(message: dict[str, Any], words: str):
    assert words in refusal(messages=[{"content": "a", **message}]).message


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (
            [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
            (TextPart("a"), ImagePart(b"x")),
        ),
        ({"type": "image_url", "image_url": {"url": PIXEL}}, (ImagePart(b"x"),)),
        (
            [{"text": "a", "image_url": {"url": PIXEL, "detail": "low"}}],
            (TextPart("a"), ImagePart(b"x", "low")),
        ),
        ([{"image_url": {"url": PIXEL}}], (ImagePart(b"x"),)),
    ],
)
def test_images_come_in_parts_or_alone(content: object, meant: object):
    messages = [{"role": "user", "content": content}]
    assert decode(messages=messages).request.messages == (Message("user", meant),)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("https://example.com/a.png", 5006, "'/messages/0/content/image_url/url' is a URL"),
        ("data:image/png;base64,??", 5004, "Invalid data type for base64 input"),
        ("data:text/plain,a", 5004, "media type 'text/plain'"),
        ("data:", 5004, "without a comma"),
        ("a.png", 5006, "is not a URL"),
    ],
)
def test_images_are_data_uris_only(url: str, code: int, words: str):
    content = {"type": "image_url", "image_url": {"url": url}}
    error = refusal(messages=[{"role": "user", "content": content}])
    assert words in error.message
    assert error.param == "messages[0].content.image_url.url"
    assert json.loads(WIRE.encode_error(error, "r")[1])["errors"][0]["code"] == code


def test_images_that_are_not_here_are_not_sent():
    message = Message("user", (TextPart("a"), ImagePart(b"", url="https://example.com/a.png")))
    request = GenerationRequest(request_id="r", model="m", messages=(message,))
    with pytest.raises(UnsupportedParameter) as caught:
        WIRE.encode_request(request)
    assert caught.value.param == "messages[0].content"


def test_images_belong_to_the_user():
    content = [{"image_url": {"url": PIXEL}}]
    error = refusal(messages=[{"role": "assistant", "content": content}])
    assert error.param == "messages[0].content[0].image_url"
    content = [{"image_url": {"url": PIXEL, "detail": "fine"}}]
    assert "auto, high, low" in refusal(messages=[{"role": "user", "content": content}]).message


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = '{"type":"object","properties":{"a":{"type":"integer"}}}'


@pytest.mark.parametrize(
    ("fields", "source", "param"),
    [
        ({"response_format": {"type": "json_object"}}, '{"type":"object"}', "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            TEXT,
            "response_format",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": SCHEMA}},
            TEXT,
            "response_format",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": SCHEMA},
                }
            },
            TEXT,
            "response_format",
        ),
        ({"guided_json": SCHEMA}, TEXT, "guided_json"),
        ({"guided_json": SCHEMA, "stream": True}, TEXT, "guided_json"),
    ],
)
def test_a_form_is_a_bare_schema_or_a_wrapped_one(fields: dict[str, Any], source: str, param: str):
    for more in ({}, {"prompt": "a"}, {"prompt": "a", "raw": True}):
        request = decode(**fields, **more).request
        assert request.grammar == Grammar("json_schema", source, param)


def test_an_empty_form_says_nothing():
    assert decode(response_format={}).request.grammar is None


DEEP: dict[str, Any] = {}
for _ in range(70):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("fields", "code", "words", "param"),
    [
        (
            {"response_format": {"type": "json_object"}, "stream": True},
            5023,
            "JSON Schema mode is not supported with stream mode",
            "stream",
        ),
        (
            {"response_format": {"type": "text"}},
            5006,
            "must be one of json_object, json_schema",
            "response_format.type",
        ),
        (
            {"response_format": {"json_schema": {}}},
            5006,
            "required properties at '/response_format' are 'type'",
            "response_format.type",
        ),
        (
            {"response_format": {"type": "json_schema"}},
            5006,
            "required properties at '/response_format' are 'json_schema'",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": True}},
            5006,
            "Type mismatch of '/response_format/json_schema', 'boolean' not in 'object'",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_object"}, "guided_json": SCHEMA},
            5006,
            "send one",
            "guided_json",
        ),
        ({"guided_json": DEEP}, 5006, "nested more than 64 levels", "guided_json"),
        ({"guided_json": "{}"}, 5006, "Type mismatch of '/guided_json'", "guided_json"),
    ],
)
def test_forms_that_cannot_be_kept_are_refused(
    fields: dict[str, Any], code: int, words: str, param: str
):
    error = refusal(**fields)
    assert words in error.message
    assert error.param == param
    assert json.loads(WIRE.encode_error(error, "r")[1])["errors"][0]["code"] == code


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"grammar": Grammar("regex", "a+", "structured_outputs")}, "structured_outputs"),
        ({"grammar": Grammar("json_schema", "{}", "response_format")}, "response_format"),
    ],
)
def test_forms_that_the_wire_does_not_have_are_not_sent(changes: dict[str, Any], param: str):
    request = GenerationRequest(
        request_id="r", model="m", messages=(Message("user", "a"),), stream=True, **changes
    )
    with pytest.raises(UnsupportedParameter) as caught:
        WIRE.encode_request(request)
    assert caught.value.param == param


def test_a_tool_without_parameters_is_sent_with_empty_ones():
    request = GenerationRequest(
        request_id="r",
        model="m",
        messages=(Message("user", "a"),),
        tools=(Tool("f"),),
        sampling=WIRE.decode_request(b'{"prompt":"a"}', ENVELOPE).request.sampling,
    )
    sent = json.loads(WIRE.encode_request(request))["tools"][0]["function"]
    assert sent == {
        "name": "f",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
