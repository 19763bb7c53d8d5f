"""Tools and images on OpenAI's chat endpoint: what is read, what is refused, and exact bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import Answer, Choice, Decoded, Envelope, join_tool_calls
from outrider.dialects.openai import CHAT_COMPLETIONS, COMPLETIONS
from outrider.errors import InvalidRequest, RequestError, UnsupportedParameter
from outrider.types import (
    Completed,
    Event,
    Finished,
    ImagePart,
    Message,
    NamedTool,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

ENVELOPE = Envelope(request_id="7c2f0c1e", created_s=5)
HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: dict[str, Any] = {"name": "weather", "description": "Look.", "parameters": SCHEMA}
TOOL: dict[str, Any] = {"type": "function", "function": FUNCTION}
WEATHER = Tool("weather", "Look.", SCHEMA)
PIXEL = b"\x89PNG pixel"
URI = "data:image/png;base64," + base64.b64encode(PIXEL).decode()


def decode(**fields: Any) -> Decoded:
    body = {"model": "m", "messages": HELLO, **fields}
    return CHAT_COMPLETIONS.decode_request(json.dumps(body).encode(), ENVELOPE)


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert "\n" not in caught.value.message
    return caught.value


def look(**part: Any) -> list[dict[str, Any]]:
    text = {"type": "text", "text": "What is this?"}
    return [{"role": "user", "content": [text, {"type": "image_url", **part}]}]


# Definitions.


def test_tools_are_read_with_their_choice() -> None:
    request = decode(tools=[TOOL], tool_choice="required", parallel_tool_calls=False).request
    assert request.tools == (WEATHER,)
    assert (request.tool_choice, request.parallel_tool_calls) == ("required", False)


def test_the_choice_is_auto_and_calls_may_be_parallel_unless_the_request_says_so() -> None:
    request = decode(tools=[TOOL]).request
    assert (request.tool_choice, request.parallel_tool_calls) == ("auto", True)
    for value in (None, True):
        assert decode(tools=[TOOL], parallel_tool_calls=value).request.parallel_tool_calls
    assert decode(tools=[TOOL], tool_choice="none").request.tool_choice == "none"


def test_one_tool_is_chosen_by_its_name() -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    assert decode(tools=[TOOL], tool_choice=choice).request.tool_choice == NamedTool("weather")


def test_without_tools_the_other_fields_say_nothing_or_are_refused() -> None:
    plain = decode()
    for fields in (
        {"tools": None},
        {"tools": []},
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"parallel_tool_calls": False, "tools": []},
        {"tool_choice": None},
    ):
        assert decode(**fields) == plain
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", "any", named):
        assert refusal(tool_choice=choice).param == "tool_choice"


def test_a_function_needs_no_description_and_no_parameters() -> None:
    for function in (
        {"name": "now"},
        {"name": "now", "parameters": {}},
        {"name": "now", "description": None, "parameters": None, "strict": None},
        {"name": "now", "strict": False},
    ):
        tools = [{"type": "function", "function": function}]
        assert decode(tools=tools).request.tools == (Tool("now"),)


def changed(**fields: Any) -> list[Any]:
    return [TOOL, {"type": "function", "function": {**FUNCTION, "name": "second", **fields}}]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        ([1], "tools[0]"),
        ([{}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([TOOL, {"type": "custom", "custom": {"name": "f"}}], "tools[1].type"),
        ([TOOL, {"type": "function", "function": {}}], "tools[1].function.name"),
        ([{**TOOL, "cache": 1}], "tools[0].cache"),
        (changed(name=""), "tools[1].function.name"),
        (changed(name="a" * 65), "tools[1].function.name"),
        (changed(name="a b"), "tools[1].function.name"),
        (changed(name="a\nb"), "tools[1].function.name"),
        (changed(name="é"), "tools[1].function.name"),
        (changed(name="weather"), "tools[1].function.name"),
        (changed(name=1), "tools[1].function.name"),
        (changed(description=1), "tools[1].function.description"),
        (changed(parameters=[]), "tools[1].function.parameters"),
        (changed(parameters={"type": "string"}), "tools[1].function.parameters"),
        (changed(parameters={"type": ["object", "null"]}), "tools[1].function.parameters"),
        (changed(parameters={"properties": {}}), "tools[1].function.parameters"),
        (changed(parameters=nested(33)), "tools[1].function.parameters"),
        (changed(parameters={"type": "object", "a": [[[]] * 9]}), None),
        (changed(mood="x"), "tools[1].function.mood"),
        (changed(strict=1), "tools[1].function.strict"),
    ],
)
def test_a_wrong_tool_is_named_by_its_path(tools: Any, param: str | None) -> None:
    if param is None:
        assert len(decode(tools=tools).request.tools) == 2
        return
    error = refusal(tools=tools)
    assert error.param == param and param in error.message


def test_the_borders_of_names_depth_and_number_are_legal() -> None:
    assert decode(tools=changed(name="a" * 64, parameters=nested(30))).request.tools
    many = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)]
    assert len(decode(tools=many[:128]).request.tools) == 128
    assert refusal(tools=many).param == "tools"


def test_a_tool_may_be_strict_with_every_choice() -> None:
    tools = [{"type": "function", "function": {**FUNCTION, "strict": True}}]
    named = {"type": "function", "function": {"name": "weather"}}
    strict = Tool("weather", "Look.", SCHEMA, strict=True)
    for choice in ("required", "none", named, "auto", None):
        assert decode(tools=tools, tool_choice=choice).request.tools == (strict,)


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("any", "tool_choice"),
        ("", "tool_choice"),
        ([], "tool_choice"),
        ({}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.function"),
        ({"type": "function", "function": {}}, "tool_choice.function.name"),
        ({"type": "function", "function": {"name": "nobody"}}, "tool_choice.function.name"),
        ({"type": "custom", "custom": {"name": "f"}}, "tool_choice.type"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, "tool_choice.type"),
    ],
)
def test_a_wrong_choice_is_named(choice: Any, param: str) -> None:
    assert refusal(tools=[TOOL], tool_choice=choice).param == param


# Conversations.

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}


def test_calls_and_their_results_are_read() -> None:
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "dry"}]},
        {"role": "assistant", "content": "Look:", "tool_calls": [{**CALL, "index": 0}]},
        {"role": "assistant", "tool_calls": [CALL]},
    ]
    first, second = ToolCall("c1", "weather", '{"a": 1}'), ToolCall("c2", "weather", '{"a": 1}')
    assert decode(messages=messages).request.messages == (
        Message("user", "Hello"),
        Message("assistant", "", (first, second)),
        Message("tool", "sunny", tool_call_id="c1"),
        Message("tool", "dry", tool_call_id="c2"),
        Message("assistant", "Look:", (first,)),
        Message("assistant", "", (first,)),
    )


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "content": None, "tool_calls": []}, "content"),
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "tool", "content": "a", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "assistant", "tool_calls": {}}, "tool_calls"),
        ({"role": "assistant", "tool_calls": [1]}, "tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [CALL, {"id": "c"}]}, "tool_calls[1].function"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": None}]}, "tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "tool_calls[0].function.name"),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}, "tool_calls[0].type"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            "tool_calls[0].function.arguments",
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}],
            },
            "tool_calls[0].function.arguments",
        ),
        ({"role": "tool", "content": "a"}, "tool_call_id"),
        ({"role": "tool", "content": "a", "tool_call_id": ""}, "tool_call_id"),
        ({"role": "tool", "content": None, "tool_call_id": "c1"}, "content"),
        ({"role": "user", "content": "a", "tool_call_id": "c1"}, "tool_call_id"),
        ({"role": "function", "name": "f", "content": "a"}, "role"),
    ],
)
def test_a_wrong_message_around_calls_is_named_by_its_path(
    message: dict[str, Any], param: str
) -> None:
    error = refusal(messages=[*HELLO, message])
    assert error.param == f"messages[1].{param}"
    assert error.param in error.message


# Images.


@pytest.mark.parametrize("detail", [None, "auto", "high", "low"])
def test_an_image_is_a_part_between_texts(detail: Any) -> None:
    messages = look(image_url={"url": URI, "detail": detail} if detail else {"url": URI})
    messages[0]["content"].append({"type": "text", "text": ""})
    image = ImagePart(PIXEL, detail or "auto")
    content = (TextPart("What is this?"), image, TextPart(""))
    assert decode(messages=messages).request.messages == (Message("user", content),)


@pytest.mark.parametrize("url", ["http://a/b.png", "HTTPS://a", " http:?"])
def test_an_images_url_is_kept_for_whoever_may_fetch_it(url: str) -> None:
    request = decode(messages=look(image_url={"url": url, "detail": "low"})).request
    assert request.messages[0].images == (ImagePart(b"", "low", url),)
    body = CHAT_COMPLETIONS.encode_request(request)
    again = CHAT_COMPLETIONS.decode_request(body, Envelope(request_id="r")).request
    assert again.messages == request.messages


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({}, "image_url"),
        ({"image_url": URI}, "image_url"),
        ({"image_url": {}}, "image_url.url"),
        ({"image_url": {"url": 1}}, "image_url.url"),
        ({"image_url": {"url": ""}}, "image_url.url"),
        ({"image_url": {"url": "httpx://a/b.png"}}, "image_url.url"),
        ({"image_url": {"url": "file:///etc/passwd"}}, "image_url.url"),
        ({"image_url": {"url": "data:text/plain;base64,QQ=="}}, "image_url.url"),
        ({"image_url": {"url": "data:image/png;base64,!"}}, "image_url.url"),
        ({"image_url": {"url": "data:image/png,QQ=="}}, "image_url.url"),
        ({"image_url": {"url": URI, "detail": ""}}, "image_url.detail"),
        ({"image_url": {"url": URI, "detail": "tiny\n"}}, "image_url.detail"),
        ({"image_url": {"url": URI, "size": 1}}, "image_url.size"),
    ],
)
def test_a_wrong_image_is_named_by_its_path(part: dict[str, Any], param: str) -> None:
    error = refusal(messages=look(**part))
    assert error.param == f"messages[0].content[1].{param}"
    assert error.param in error.message


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_only_users_show_images(role: str) -> None:
    (message,) = look(image_url={"url": URI})
    message["role"] = role
    if role == "tool":
        message["tool_call_id"] = "c1"
    error = refusal(messages=[message])
    assert error.param == "messages[0].content[1].image_url"


@pytest.mark.parametrize("kind", ["input_audio", "file", "refusal", "video_url", ""])
def test_other_parts_are_refused_by_their_type(kind: str) -> None:
    field = {kind: {"data": "x"}} if kind not in ("", "video_url") else {}
    error = refusal(messages=[{"role": "user", "content": [{"type": kind, **field}]}])
    assert type(error) is UnsupportedParameter
    assert error.param == "messages[0].content[0].type"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
keys = st.sampled_from(
    ["type", "function", "name", "parameters", "id", "arguments", "text", "image_url", "url"]
)
wire_values = st.recursive(
    json_values | st.sampled_from(["function", "text", "image_url", "user", "tool", URI]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"])},
    optional={"content": wire_values, "tool_calls": wire_values, "tool_call_id": wire_values},
)


@given(
    st.fixed_dictionaries(
        {"messages": st.lists(messages, max_size=2)},
        optional={"tools": wire_values, "tool_choice": wire_values},
    )
)
def test_any_body_is_read_or_refused_in_one_line(fields: dict[str, Any]) -> None:
    try:
        decode(**fields)
    except RequestError as error:
        assert error.status == 400
        assert "\n" not in error.message


@pytest.mark.parametrize("field", ["tools", "messages"])
def test_deep_values_are_the_callers_error(field: str) -> None:
    depth = 100_000
    inner = b'{"type":"object","a":' + b"[" * depth + b"]" * depth + b"}"
    bodies = {
        "tools": b'"messages": [], "tools": [{"type": "function", "function": {"name": "f", '
        b'"parameters": ' + inner + b"}}]",
        "messages": b'"messages": [{"role": "user", "content": '
        + b"[" * depth
        + b"]" * depth
        + b"}]",
    }
    with pytest.raises(InvalidRequest):
        CHAT_COMPLETIONS.decode_request(b'{"model": "m", ' + bodies[field] + b"}", ENVELOPE)


# Exact bytes.

CALLS = (ToolCall("call_1", "weather", '{"city":"Rome"}'), ToolCall("call_2", "now", "{}"))
EVENTS: list[Event] = [
    Started("m"),
    ToolCallDelta(0, 0, "", "call_1", "weather"),
    ToolCallDelta(0, 0, '{"city":"Rome"}'),
    ToolCallDelta(0, 1, "{}", "call_2", "now"),
    Finished(0, "tool_calls"),
    Completed(Usage(3, 2)),
]


def test_a_stream_of_calls_has_exactly_these_bytes() -> None:
    encoder = CHAT_COMPLETIONS.stream_encoder(decode(tools=[TOOL], stream=True))
    head = (
        'data: {"id":"chatcmpl-7c2f0c1e","object":"chat.completion.chunk","created":5,"model":"m",'
        '"system_fingerprint":null,"choices":[{"index":0,"delta":'
    )
    deltas = (
        ('{"role":"assistant","content":null,"refusal":null}', "null"),
        (
            '{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":'
            '{"name":"weather","arguments":""}}]}',
            "null",
        ),
        (
            '{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":\\"Rome\\"}"}}]}',
            "null",
        ),
        (
            '{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":'
            '{"name":"now","arguments":"{}"}}]}',
            "null",
        ),
        ("{}", '"tool_calls"'),
    )
    wanted = "".join(
        f'{head}{delta},"logprobs":null,"finish_reason":{reason}}}]}}\n\n'
        for delta, reason in deltas
    )
    data = b"".join(encoder.encode(event) for event in EVENTS)
    assert data.decode() == wanted + "data: [DONE]\n\n"


def test_a_stream_that_cannot_hold_calls_begins_with_empty_content() -> None:
    for fields in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        encoder = CHAT_COMPLETIONS.stream_encoder(decode(stream=True, **fields))
        assert b'"content":"","refusal"' in encoder.encode(Started("m"))


@pytest.mark.parametrize(("text", "content"), [("", "null"), ("Look:", '"Look:"')])
def test_an_answer_with_calls_has_exactly_these_bytes(text: str, content: str) -> None:
    answer = Answer("m", (Choice(text, "tool_calls", (), CALLS),), Usage(3, 2))
    body = CHAT_COMPLETIONS.encode_answer(answer, decode(tools=[TOOL])).decode()
    wanted = (
        f'"choices":[{{"index":0,"message":{{"role":"assistant","content":{content},'
        '"refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":'
        '{"name":"weather","arguments":"{\\"city\\":\\"Rome\\"}"}},{"id":"call_2",'
        '"type":"function","function":{"name":"now","arguments":"{}"}}]},"logprobs":null,'
        '"finish_reason":"tool_calls"}],'
    )
    assert wanted in body


def test_parts_of_calls_add_up_to_whole_calls() -> None:
    deltas = [event for event in EVENTS if isinstance(event, ToolCallDelta)]
    assert join_tool_calls(deltas) == CALLS
    assert join_tool_calls([]) == ()


def test_text_completions_carry_no_calls() -> None:
    body = json.dumps({"model": "m", "prompt": "a", "stream": True}).encode()
    encoder = COMPLETIONS.stream_encoder(COMPLETIONS.decode_request(body, ENVELOPE))
    encoder.encode(Started("m"))
    with pytest.raises(UnsupportedParameter):
        encoder.encode(EVENTS[1])


def test_foreign_calls_without_arguments_are_read() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f"}}
    chunk = {"model": "m", "choices": [{"index": 0, "finish_reason": None, "delta": {}}]}
    chunk["choices"][0]["delta"] = {"tool_calls": [call]}  # type: ignore[index]
    data = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    events = CHAT_COMPLETIONS.decode_stream(data)
    assert events[1] == ToolCallDelta(0, 0, "", "a", "f")
    assert not [event for event in events if isinstance(event, TextDelta)]
