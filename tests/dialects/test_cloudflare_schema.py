"""Workers AI's JSON Schemas: ours say what the published ones say, and the codec holds to them.

`workers_ai_schemas.json` holds input and output of the model's published schema, without its
titles and descriptions.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.dialects.base import Envelope
from outrider.dialects.cloudflare import FIELDS, WorkersAi
from outrider.dialects.cloudflare_schema import embedding_schema, page_files, text_schema
from outrider.dialects.cloudflare_types import Choices, MessagesInput, PromptInput
from outrider.errors import InvalidRequest

PUBLISHED = json.loads((Path(__file__).parent / "workers_ai_schemas.json").read_text())
PROMPT, MESSAGES, BATCH = PUBLISHED["input"]["oneOf"]
WHOLE, STREAM = PUBLISHED["output"]["oneOf"]
ONE_REQUEST = {"type": "object", "oneOf": [PROMPT, MESSAGES]}
THEIRS = {
    "input": PUBLISHED["input"],
    "output": PUBLISHED["output"],
    "sync-input.json": ONE_REQUEST,
    "sync-output.json": WHOLE,
    "streaming-input.json": ONE_REQUEST,
    "streaming-output.json": STREAM,
    "batch-input.json": {"type": "object", **BATCH},
    "batch-output.json": WHOLE,
}
OURS = {**text_schema(), **page_files()}

WIRE = WorkersAi()
ENVELOPE = Envelope(request_id="r", model="m")


def validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


BOTH = {name: (validator(THEIRS[name]), validator(OURS[name])) for name in THEIRS}

words = st.sampled_from(["", "a", "type", "abcdefghi", "function", "data:x", "http://x", "text"])
scalars = st.none() | st.booleans() | st.integers(-2, 60) | st.floats(-1, 6) | words
scalars |= st.sampled_from([0, 5.0, 2.0000001, 9_999_999_999, 10_000_000_000, 2**70, 1e300])
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)


def fields(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


image = fields({}, {"url": words, "detail": words})
part = fields({}, {"type": words, "text": words, "image_url": image, "extra": scalars})
turn = fields(
    {},
    {
        "role": st.sampled_from(["user", "tool", "robot"]),
        "content": words | st.lists(part, max_size=2) | part,
        "tool_call_id": st.sampled_from(["000000001", "call_1", "x-abcdefghi"]),
        "tool_calls": anything,
    },
)
parameter = fields({"type": words, "description": words}, {"enum": anything})
parameters = fields(
    {"type": words, "properties": st.dictionaries(words, parameter, max_size=2)},
    {"required": st.lists(words, max_size=2)},
)
flat = fields({"name": words, "description": words, "parameters": parameters}, {"strict": scalars})
tool = flat | fields({"type": words, "function": flat}, {"name": words})
COMMON = {
    "guided_json": st.dictionaries(words, scalars, max_size=2),
    "response_format": fields(
        {},
        {"type": st.sampled_from(["json_object", "json_schema", "text"]), "json_schema": anything},
    ),
    "raw": st.booleans(),
    "stream": st.booleans(),
    **dict.fromkeys(("max_tokens", "top_k", "seed"), st.integers(-1, 60) | st.just(5.0)),
    **dict.fromkeys(("temperature", "top_p", "repetition_penalty"), st.floats(-1, 6)),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), st.integers(-1, 3)),
    **dict.fromkeys(("stop", "tool_choice", "options", "lora", "x"), anything),
}
prompts = fields({"prompt": words}, COMMON)
functions = st.lists(fields({"name": words, "code": words}, {}), max_size=2)
conversations = fields(
    {"messages": st.lists(turn, max_size=2)},
    {**COMMON, "functions": functions, "tools": st.lists(tool, max_size=2)},
)
requests = prompts | conversations
bodies = requests | fields({"requests": st.lists(requests, max_size=2)}, {"prompt": words})
call = fields({}, {"id": words, "function": fields({}, {"name": words, "arguments": anything})})
usage = fields({}, dict.fromkeys(("prompt_tokens", "total_tokens", "neurons"), scalars))
answers = fields(
    {"response": words}, {"usage": usage, "tool_calls": st.lists(call, max_size=2), "p": words}
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Give every place of a JSON value as its container and key."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


PARAMETERS = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string", "description": "b"}},
}
FLAT = {"name": "f", "description": "g", "parameters": PARAMETERS}
FILLED_PART = {"type": "image_url", "text": "a", "image_url": {"url": "data:x"}}
FILLED = {
    "guided_json": {"type": "object"},
    "response_format": {"type": "json_schema", "json_schema": {}},
    **dict.fromkeys(("raw", "stream"), True),
    **dict.fromkeys(("max_tokens", "temperature", "top_p", "top_k", "seed"), 1),
    **dict.fromkeys(("repetition_penalty", "frequency_penalty", "presence_penalty"), 1),
}
FILLED_PROMPT = {"prompt": "a", **FILLED}
FILLED_MESSAGES = {
    "messages": [
        {"role": "user", "content": content, "tool_call_id": "000000001"}
        for content in ("a", [FILLED_PART], FILLED_PART)
    ],
    "functions": [{"name": "f", "code": "1"}],
    "tools": [FLAT, {"type": "function", "function": FLAT}],
    **FILLED,
}
# Every field that the schema names, so that each of its words matters to one broken place.
FILLED_BODIES = [
    FILLED_PROMPT,
    FILLED_MESSAGES,
    {"requests": [FILLED_PROMPT]},
    {"requests": [FILLED_MESSAGES]},
]


@st.composite
def broken(draw: st.DrawFn, values: st.SearchStrategy[Any], most: int = 1) -> Any:
    """Draw a value and replace or remove what stands in up to `most` of its places."""
    value = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(0, most))):
        found = places(value)
        if not found:
            return draw(anything)
        container, key = draw(st.sampled_from(found))
        if isinstance(container, dict) and draw(st.booleans()):
            del container[key]
        else:
            container[key] = draw(anything)
    return value


def bare(schema: Any) -> Any:
    """Give a schema without words; all that says the same is written the same way."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: bare(value) for name, value in schema.items() if name != "description"}
    if "oneOf" in result and {"type": "string"} in result["oneOf"]:  # of different types
        result["anyOf"] = result.pop("oneOf")
    if isinstance(result.get("properties"), dict) and "type" not in result:
        result["type"] = "object"
    return result


@pytest.mark.parametrize("name", THEIRS)
def test_our_schema_says_nothing_else_than_the_published_one(name: str):
    assert bare(OURS[name]) == bare(THEIRS[name])


@pytest.mark.parametrize("name", [name for name in BOTH if name.endswith(("input", "input.json"))])
@settings(max_examples=150)
@given(body=broken(st.sampled_from(FILLED_BODIES)) | broken(bodies, 2) | anything)
def test_our_schema_of_inputs_takes_and_refuses_what_the_published_one_does(name: str, body: Any):
    theirs, ours = BOTH[name]
    assert ours.is_valid(body) == theirs.is_valid(body)


@pytest.mark.parametrize("name", [n for n in BOTH if n.endswith(("output", "output.json"))])
@given(answer=broken(answers, 2) | anything)
def test_our_schema_of_outputs_takes_and_refuses_what_the_published_one_does(
    name: str, answer: Any
):
    theirs, ours = BOTH[name]
    assert ours.is_valid(answer) == theirs.is_valid(answer)


def test_generated_inputs_of_every_kind_are_both_taken_and_refused():
    theirs, _ = BOTH["input"]
    for body in (
        {"prompt": "a", "top_k": 5.0},
        {"messages": [{"content": [{"image_url": {"url": "data:x"}}]}], "raw": True},
        *FILLED_BODIES,
        {"requests": [{"prompt": "a"}, {"messages": []}]},
    ):
        assert theirs.is_valid(body)
    for body in (
        {},
        {"prompt": ""},
        {"prompt": "a", "messages": []},
        {"prompt": "a", "temperature": None},
        {"messages": [{"content": {"image_url": {"url": "http://x"}}}]},
        {"messages": [{"content": None}]},
        {"messages": [], "tools": [{"name": "f"}]},
        {"requests": [{"requests": []}]},
    ):
        assert not theirs.is_valid(body)


def defaults_of(schema: Any) -> dict[str, Any]:
    properties = schema["properties"].items()
    return {name: kind["default"] for name, kind in properties if "default" in kind}


def test_defaults_and_their_order_are_those_of_the_published_schema():
    for mine, theirs in zip(OURS["input"]["oneOf"], PUBLISHED["input"]["oneOf"], strict=True):
        assert defaults_of(mine) == defaults_of(theirs)
        assert set(mine["properties"]) == set(theirs["properties"])
    sampling = WIRE.decode_request(b'{"prompt":"a"}', ENVELOPE).request.sampling
    assert defaults_of(OURS["input"]["oneOf"][0]) == {
        "raw": False,
        "stream": False,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
    }


def is_taken(body: Any) -> bool:
    try:
        WIRE.decode_request(json.dumps(body).encode(), ENVELOPE)
    except InvalidRequest:
        return False
    return True


SCALARS = [name for name in PROMPT["properties"] if name not in ("prompt", "response_format")]


@pytest.mark.parametrize("name", SCALARS)
@given(value=anything)
def test_the_codec_takes_of_a_field_what_the_schema_takes(name: str, value: Any):
    body = {"prompt": "a", name: value}
    theirs, _ = BOTH["sync-input.json"]
    in_domain = name != "max_tokens" or isinstance(value, bool) or not theirs.is_valid(body)
    if not in_domain:  # the schema's max_tokens has no range
        in_domain = 1 <= value <= 2**31 - 1
    assert is_taken(body) == (theirs.is_valid(body) and in_domain)


# What the service takes beyond its schema, and so does the codec.
LENIENT = [
    {"messages": [{"role": "tool", "content": "a", "tool_call_id": "call_1"}]},
    {"messages": [{"role": "tool", "content": "a", "tool_call_id": None}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]},
    {"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "f"}]},
    {"messages": [{"role": "user", "content": "a"}], "tools": [{"function": {"name": "f"}}]},
]


@given(body=broken(requests, 2))
def test_the_codec_takes_nothing_that_the_schema_refuses(body: Any):
    assert not is_taken(body) or BOTH["sync-input.json"][0].is_valid(without_leniency(body))


def without_leniency(body: Any) -> Any:
    """Leave out what the codec takes and the schema doesn't; `LENIENT` has one of each."""
    if not isinstance(body, dict):
        return body
    body = copy.deepcopy(body)
    for container, key in reversed(places(body)):
        if key in ("tool_call_id", "description") and container[key] is None:
            del container[key]
        elif key == "tool_call_id" and isinstance(container[key], str):
            container[key] = "000000001"
        elif key == "content" and container[key] is None and container.get("tool_calls"):
            del container[key]
    body.pop("tools", None)
    return body


@pytest.mark.parametrize("body", LENIENT)
def test_what_the_service_takes_beyond_its_schema_is_taken(body: dict[str, Any]):
    assert is_taken(body)
    assert not BOTH["input"][0].is_valid(body)


def test_every_field_that_the_codec_reads_has_a_treatment():
    read = {*Choices.__struct_fields__, *PromptInput.__struct_fields__}
    read |= {*MessagesInput.__struct_fields__, "requests"}
    assert {name for name in FIELDS if "[]" not in name} == read


def test_the_schema_of_embeddings_is_that_of_its_codec():
    ours = validator(embedding_schema()["input"])
    assert ours.is_valid({"text": ["a", "b"], "pooling": "cls"})
    for body in ({}, {"text": 5}, {"text": ["a"] * 101}, {"text": "a", "pooling": "max"}):
        assert not ours.is_valid(body)
