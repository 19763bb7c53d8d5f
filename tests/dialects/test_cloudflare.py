"""Workers AI's wire: requests both ways, the schema's fields and their borders."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.strategies import FORMS, MESSAGES, filled, objects, texts, to_json, tool_fields
from outrider.dialects.base import Decoded, Envelope
from outrider.dialects.cloudflare import FIELDS, WorkersAi
from outrider.errors import (
    InvalidRequest,
    UnsupportedParameter,
)
from outrider.types import (
    GenerationRequest,
    Grammar,
    Message,
    SamplingParams,
)

WIRE = WorkersAi()
MODEL = "@cf/meta/llama-4-scout-17b-16e-instruct"
ID = "7c2f0c1e-90a4-4b1c-a7a6-1c7f3f4be6a9"
ENVELOPE = Envelope(request_id=ID, model=MODEL, created_s=5, cache_salt="s")
HELLO = [{"role": "user", "content": "Hello"}]

SAMPLING: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 2**31 - 1),
    "temperature": st.floats(0, 5),
    "top_p": st.floats(1e-9, 1),
    "top_k": st.integers(1, 50),
    "seed": st.integers(1, 9_999_999_999),
    "repetition_penalty": st.floats(0, 2, exclude_min=True),
    "frequency_penalty": st.floats(0, 2),
    "presence_penalty": st.floats(0, 2),
    "stop": st.lists(filled, max_size=16).map(tuple),
}


def decode(body: dict[str, Any], envelope: Envelope = ENVELOPE) -> Decoded:
    return WIRE.decode_request(json.dumps(body).encode(), envelope)


def refusal(body: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(body)
    return caught.value


forms = FORMS | st.builds(
    Grammar, st.just("json_schema"), objects.map(to_json), st.just("guided_json")
)


@st.composite
def requests(draw: st.DrawFn) -> GenerationRequest:
    tool_results = st.builds(Message, st.just("tool"), texts, tool_call_id=texts)
    messages = st.lists(MESSAGES | tool_results, min_size=1, max_size=4).map(tuple)
    has_messages = draw(st.booleans())
    form = draw(forms)
    can_stream = form is None or form.param != "response_format"
    values = draw(st.fixed_dictionaries({}, optional=SAMPLING))
    return GenerationRequest(
        request_id=ID,
        model=MODEL,
        messages=draw(messages) if has_messages else (),
        prompts=() if has_messages else (draw(filled),),
        sampling=SamplingParams(**{"max_tokens": 256, "temperature": 0.15, **values}),
        given=frozenset(values),
        **(draw(tool_fields()) if has_messages else {}),
        grammar=form,
        stream=can_stream and draw(st.booleans()),
        reject_if_busy=draw(st.booleans()),
        cache_salt="s",
    )


@given(requests())
def test_a_request_survives_the_wire(request: GenerationRequest):
    decoded = WIRE.decode_request(WIRE.encode_request(request), ENVELOPE)
    assert decoded.request == request
    assert decoded.ignored == ()


@given(st.dictionaries(st.sampled_from([*FIELDS, "x"]), st.from_type(int) | texts | st.none()))
def test_any_body_is_read_or_refused(body: dict[str, Any]):
    try:
        decode(body)
    except InvalidRequest as error:
        assert "\n" not in error.message


def test_every_field_of_the_schema_has_one_treatment():
    assert FIELDS == {
        "prompt": "mapped",
        "messages": "mapped",
        "messages[].role": "mapped",
        "messages[].content": "mapped",
        "messages[].content[].type": "mapped",
        "messages[].content[].text": "mapped",
        "messages[].content[].image_url": "mapped",
        "messages[].tool_call_id": "mapped",
        "messages[].tool_calls": "mapped",
        "messages[].name": "inert",
        "tools[].type": "mapped",
        "tools[].function": "mapped",
        "tools[].name": "mapped",
        "tools[].description": "mapped",
        "tools[].parameters": "mapped",
        "tools[].strict": "mapped",
        "functions": "mapped",
        "tools": "mapped",
        "tool_choice": "mapped",
        "parallel_tool_calls": "mapped",
        "options": "mapped",
        "guided_json": "mapped",
        "response_format": "mapped",
        "requests": "refused",
        "lora": "refused",
        "raw": "mapped",
        "stream": "mapped",
        "max_tokens": "mapped",
        "temperature": "mapped",
        "top_p": "mapped",
        "top_k": "mapped",
        "seed": "mapped",
        "repetition_penalty": "mapped",
        "frequency_penalty": "mapped",
        "presence_penalty": "mapped",
        "stop": "mapped",
    }


def test_defaults_are_those_of_the_schema():
    request = decode({"prompt": "Hello"}).request
    assert request.sampling == SamplingParams(max_tokens=256, temperature=0.15)
    assert request.given == frozenset()
    assert request.messages == (Message("user", "Hello"),)
    assert not request.stream
    assert (request.model, request.request_id, request.cache_salt) == (MODEL, ID, "s")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_tokens", 1, 2**31 - 1),
        ("temperature", 0, 5),
        ("top_p", 0, 2),
        ("top_k", 1, 50),
        ("seed", 1, 9_999_999_999),
        ("repetition_penalty", 0, 2),
        ("frequency_penalty", 0, 2),
        ("presence_penalty", 0, 2),
    ],
)
def test_ranges_end_where_the_schema_says(name: str, low: int, high: int):
    for value in (low, high, float(high)):
        assert decode({"prompt": "a", name: value}).request.given == {name}
    below = refusal({"prompt": "a", name: low - 1})
    above = refusal({"prompt": "a", name: high + 1})
    assert (below.message, below.param) == (f"'/{name}' must be >= {low}", name)
    assert (above.message, above.param) == (f"'/{name}' must be <= {high}", name)
    for value in (True, "1", None):
        assert refusal({"prompt": "a", name: value}).message.startswith(
            f"Type mismatch of '/{name}'"
        )


def test_integers_have_no_fraction():
    assert refusal({"prompt": "a", "top_k": 1.5}).message == (
        "Type mismatch of '/top_k', 'number' not in 'integer'"
    )


@pytest.mark.parametrize(
    ("name", "sent", "meant"),
    [
        ("top_p", 0, 1e-9),
        ("top_p", 1.5, 1.0),
        ("repetition_penalty", 0, 1.0),
        ("stop", "a", ("a",)),
        ("stop", ["a", "b"], ("a", "b")),
        ("stop", None, ()),
    ],
)
def test_values_of_the_wire_become_those_of_the_domain(name: str, sent: object, meant: object):
    assert getattr(decode({"prompt": "a", name: sent}).request.sampling, name) == meant


def test_a_raw_prompt_has_no_template():
    request = decode({"prompt": "Hello", "raw": True, "stream": True}).request
    assert (request.messages, request.prompts, request.stream) == ((), ("Hello",), True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"text": "b"}], "ab"),
        ({"type": "text", "text": "a"}, "a"),
    ],
)
def test_content_is_text_or_parts_or_one_part(content: object, text: str):
    request = decode({"messages": [{"role": "user", "content": content}]}).request
    assert request.messages == (Message("user", text),)


def test_a_developer_speaks_as_the_system():
    roles = ["developer", "system", "user", "assistant", "tool"]
    messages = [{"role": role, "content": "a", "tool_call_id": "000000001"} for role in roles]
    decoded = decode({"messages": messages})
    assert [m.role for m in decoded.request.messages] == ["system", *roles[1:]]
    assert decoded.ignored == ()


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (
            {"prompt": "a", "messages": HELLO},
            "oneOf at '/' not met, 2 matches: send either 'prompt' or 'messages'",
            "prompt",
        ),
        (
            {},
            "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', "
            "required properties at '/' are 'messages'",
            "prompt",
        ),
        ({"prompt": ""}, "Length of '/prompt' must be >= 1", "prompt"),
        ({"prompt": 1}, "Type mismatch of '/prompt', 'number' not in 'string'", "prompt"),
        ({"messages": []}, "Length of '/messages' must be >= 1", "messages"),
        ({"messages": {}}, "Type mismatch of '/messages', 'object' not in 'array'", "messages"),
        (
            {"messages": ["a"]},
            "Type mismatch of '/messages/0', 'string' not in 'object'",
            "messages[0]",
        ),
        (
            {"messages": [*HELLO, {"role": "user"}]},
            "required properties at '/messages/1' are 'role', 'content'",
            "messages[1].content",
        ),
        (
            {"messages": [{"role": "user", "content": None}]},
            "Type mismatch of '/messages/0/content', 'null' not in 'string', 'array', 'object'",
            "messages[0].content",
        ),
        (
            {"messages": [{"role": "user", "content": ["a"]}]},
            "Type mismatch of '/messages/0/content/0', 'string' not in 'object'",
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "required properties at '/messages/0/content/0' are 'text'",
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": {"type": "image_url", "image_url": {}}}]},
            "required properties at '/messages/0/content/image_url' are 'url'",
            "messages[0].content.image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": {"type": "audio"}}]},
            "'/messages/0/content/type' must be one of text, image_url",
            "messages[0].content.type",
        ),
        (
            {"messages": [{"content": "a"}]},
            "required properties at '/messages/0' are 'role'",
            "messages[0].role",
        ),
        (
            {"messages": [{"role": "robot", "content": "a"}]},
            "'/messages/0/role' must be one of system, developer, user, assistant, tool",
            "messages[0].role",
        ),
        (
            {"messages": [{"role": "tool", "content": "a", "tool_call_id": 1}]},
            "Type mismatch of '/messages/0/tool_call_id', 'number' not in 'string'",
            "messages[0].tool_call_id",
        ),
        (
            {"messages": HELLO, "raw": True},
            "'/raw' needs 'prompt': 'messages' have a template",
            "raw",
        ),
        ({"prompt": "a", "raw": 1}, "Type mismatch of '/raw', 'number' not in 'boolean'", "raw"),
        (
            {"prompt": "a", "stream": None},
            "Type mismatch of '/stream', 'null' not in 'boolean'",
            "stream",
        ),
        (
            {"prompt": "a", "stop": 1},
            "Type mismatch of '/stop', 'number' not in 'string', 'array'",
            "stop",
        ),
        (
            {"prompt": "a", "stop": ["b", 1]},
            "Type mismatch of '/stop/1', 'number' not in 'string'",
            "stop[1]",
        ),
    ],
)
def test_a_bad_body_is_refused_in_the_services_words(
    body: dict[str, Any], message: str, param: str
):
    error = refusal(body)
    assert (error.message, error.param) == (message, param)
    status, encoded = WIRE.encode_error(error, ID)
    decoded = WIRE.decode_error(status, encoded)
    assert (type(decoded), decoded.message) == (InvalidRequest, message)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":1e999}'])
def test_a_body_that_is_no_object_is_refused(body: bytes):
    with pytest.raises(InvalidRequest):
        WIRE.decode_request(body, ENVELOPE)


@pytest.mark.parametrize("name", [name for name, how in FIELDS.items() if how == "refused"])
def test_refused_fields_are_named_unless_empty(name: str):
    for empty in (None, [], {}, ""):
        assert decode({"prompt": "a", name: empty}).ignored == ()
    error = refusal({"prompt": "a", name: [{"name": "f", "code": "1"}]})
    assert isinstance(error, UnsupportedParameter)
    assert error.param == name


def test_the_asynchronous_queue_is_refused():
    envelope = msgspec.structs.replace(ENVELOPE, query={"queueRequest": "true"})
    with pytest.raises(UnsupportedParameter) as caught:
        decode({"prompt": "a"}, envelope)
    assert caught.value.param == "queueRequest"


def test_unknown_fields_are_listed_as_ignored():
    part = {"text": "b", "cache_control": {}}
    messages = [{"role": "user", "content": [part], "name": "c"}]
    assert decode({"messages": messages, "zeta": 1, "reasoning_effort": "low"}).ignored == (
        "messages[].content[].cache_control",
        "reasoning_effort",
        "zeta",
    )


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"logprobs": 1}, "logprobs"),
        ({"min_p": 0.5}, "min_p"),
        ({"frequency_penalty": -1.0}, "frequency_penalty"),
        ({"seed": 0}, "seed"),
        ({"top_k": 51}, "top_k"),
    ],
)
def test_what_the_wire_cannot_carry_is_not_sent(sampling: dict[str, Any], param: str):
    params = SamplingParams(**{"max_tokens": 1, **sampling})
    request = GenerationRequest(request_id=ID, model=MODEL, prompts=("a",), sampling=params)
    with pytest.raises(UnsupportedParameter) as caught:
        WIRE.encode_request(request)
    assert caught.value.param == param


@pytest.mark.parametrize("prompts", [("a", "b"), ((1, 2),)])
def test_only_one_prompt_of_text_is_sent(prompts: tuple[Any, ...]):
    with pytest.raises(UnsupportedParameter):
        WIRE.encode_request(GenerationRequest(request_id=ID, model=MODEL, prompts=prompts))


def test_neutral_values_of_other_wires_are_left_out():
    params = SamplingParams(temperature=0.5, max_tokens=9, top_p=7.0)
    sent = frozenset({"n", "logprobs", "top_k", "seed", "temperature", "max_tokens"})
    request = GenerationRequest(
        request_id=ID, model=MODEL, prompts=("a",), sampling=params, given=sent
    )
    assert json.loads(WIRE.encode_request(request)) == {
        "prompt": "a",
        "raw": True,
        "temperature": 0.5,
        "max_tokens": 9,
    }


@pytest.mark.parametrize(("options", "is_meant"), [({"rejectIfBusy": True}, True), ({}, False)])
def test_a_request_may_ask_not_to_wait(options: dict[str, bool], is_meant: bool):
    decoded = decode({"prompt": "a", "options": options})
    assert (decoded.request.reject_if_busy, decoded.ignored) == (is_meant, ())
