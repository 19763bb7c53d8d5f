"""Bodies that are wrong: each gets a 4xx of its wire that names the field, and harms nobody.

A stream runs beside all of it and must give the same text every time; memory is measured in the
end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from server.bad_input import CHATS, WIRES, Reply, Target, target

pytestmark = pytest.mark.slow  # about 1,000 cases; make slow and CI run them

ALL = pytest.mark.parametrize("wire", list(WIRES))
ALL_CHATS = pytest.mark.parametrize("wire", CHATS)
# Beyond what the server has at its start. A body of 16 MiB may hold a million names and values.
MEMORY_LIMIT = 768 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("bad")) as it:
        yield it


BASE = WIRES["openai"]
VALID = BASE.body()
BODIES = {
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"messages"',
    "a byte order mark": b"\xef\xbb\xbf" + VALID,
    "UTF-16": VALID.decode().encode("utf-16"),
    "UTF-32": VALID.decode().encode("utf-32"),
    "Latin-1": VALID.replace(b"Hello", b"\xe9t\xe9"),
    "overlong UTF-8": VALID.replace(b"Hello", b"\xc0\xaf"),
    "half a surrogate": VALID.replace(b"Hello", b"\xed\xa0\x80"),
    "half a surrogate as escape": VALID.replace(b"Hello", b"\\ud800"),
    "a zero byte": VALID.replace(b"Hello", b"\x00"),
    "a line break": VALID.replace(b"Hello", b"a\nb"),
    "cut off": VALID[:-3],
    "two objects": VALID + VALID,
    "NaN": VALID.replace(b'"Hello"', b"NaN"),
    "single quotes": VALID.replace(b'"', b"'"),
    "a comment": b"/* hello */" + VALID,
    "lists in lists": b'{"messages": ' + b"[" * 100_000,
    "objects in objects": b'{"messages": ' + b'{"a":' * 100_000,
    "a form": b"model=tiny-llama4&messages=Hello",
    "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    "a million keys": b"{" + b",".join(b'"k%d":0' % i for i in range(1_000_000)) + b"}",
}


@ALL
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_json_object_is_refused(wire: str, name: str, server: Target) -> None:
    if name == "a million keys" and wire not in ("openai", "workers-ai"):
        pytest.skip("once for each decoder")
    assert server.ask(wire, BODIES[name]).error(wire)


LONG = '"' + "x" * 1025 + '"'
# What no wire takes.
VALUES = {
    "temperature": ["-1", "6", "1e308", '"0.5"', "true", "[]", "{}", "-1e-9"],
    "max_tokens": ["0", "-1", "1.5", "1e99", "9" * 30, '"5"', "true", "[]", "2147483648"],
    "top_p": ["-0.1", "1e308", '"x"', "[]", "false"],
    "seed": ["1.5", '"1"', "9" * 30, "true"],
    "frequency_penalty": ["-1e9", "1e9", '"x"', "{}"],
    "presence_penalty": ["-1e9", "1e9", '"x"'],
    "stop": ["5", "[1]", '[""]', "{}", f"[{LONG}]", json.dumps([str(i) for i in range(17)])],
    "stream": ['"yes"', "1", "[]"],
}
NOT_JSON = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "0x10", "01", "+1", ".5", "1."]
PAIRS = [(name, text) for name, texts in VALUES.items() for text in texts]


@ALL
@pytest.mark.parametrize(("name", "text"), PAIRS, ids=lambda text: str(text)[:24])
def test_a_value_of_the_wrong_type_or_size_is_named(
    wire: str, name: str, text: str, server: Target
) -> None:
    assert name in server.ask(wire, WIRES[wire].with_json(name, text)).error(wire)


@ALL
@pytest.mark.parametrize("text", NOT_JSON)
def test_a_number_that_json_does_not_have_is_refused(wire: str, text: str, server: Target) -> None:
    assert server.ask(wire, WIRES[wire].with_json("temperature", text)).error(wire)


@ALL
@pytest.mark.parametrize(
    ("name", "text"),
    [("temperature", "-0"), ("temperature", "-0.0"), ("temperature", "0e-400"), ("seed", "1")],
)
def test_odd_spellings_of_good_values_are_taken(
    wire: str, name: str, text: str, server: Target
) -> None:
    assert server.ask(wire, WIRES[wire].with_json(name, text)).status == 200


@ALL
def test_of_a_field_given_twice_the_last_counts(wire: str, server: Target) -> None:
    body = WIRES[wire].with_json("temperature", '99, "temperature": 1')
    assert server.ask(wire, body).status == 200
    body = WIRES[wire].with_json("temperature", '1, "temperature": 99')
    assert "temperature" in server.ask(wire, body).error(wire)


OPENAI_VALUES = {
    "n": ["0", "-1", "129", "1.5", "1e9", '"2"', "9" * 30],
    "logit_bias": ['{"x": 1}', '{"1": 1e9}', "[]", '{"1": "a"}', '{"-1": 1}', '{"99999999": 1}'],
    "min_p": ["-1", "2", '"a"'],
    "top_k": ["-5", "1.5", '"a"', "9" * 30],
    "repetition_penalty": ["-1", "1e308", '"a"'],
    "stream_options": ["5", "[]"],
    "user": ["5", "{}"],
}


@pytest.mark.parametrize("wire", [name for name in WIRES if name.startswith("open")])
@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in OPENAI_VALUES.items() for text in texts],
)
def test_openais_own_fields_are_named(wire: str, name: str, text: str, server: Target) -> None:
    reply = server.ask(wire, WIRES[wire].with_json(name, text))
    if wire.startswith("openrouter") and reply.status == 200:
        return  # that service passes over what it can't use
    assert name in reply.error(wire)


def at_limit(name: str, count: int) -> dict[str, Any]:
    """Fields that hold this many of something."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    tools = [json.loads(json.dumps(tool).replace('"f"', f'"f{i}"')) for i in range(count)]
    return {
        "n": {"n": count, "max_tokens": 1},
        "stop": {"stop": [f"{i}~" for i in range(count)]},
        "top_logprobs": {"top_logprobs": count, "logprobs": True},
        "logit_bias": {"logit_bias": {str(i): 1 for i in range(count)}},
        "tools": {"tools": tools, "tool_choice": "none"},
    }[name]


@pytest.mark.parametrize(
    ("name", "limit"),
    [("n", 128), ("stop", 16), ("top_logprobs", 20), ("tools", 128)],
)
def test_one_more_than_a_limit_is_refused(name: str, limit: int, server: Target) -> None:
    assert server.ask("openai", BASE.body(**at_limit(name, limit))).status == 200
    assert server.ask("openai", BASE.body(**at_limit(name, 1))).status == 200
    assert name in server.ask("openai", BASE.body(**at_limit(name, limit + 1))).error("openai")


def test_more_biases_or_prompts_than_allowed_are_refused(server: Target) -> None:
    biases = {str(i): 1 for i in range(1025)}
    assert "logit_bias" in server.ask("openai", BASE.body(logit_bias=biases)).error("openai")
    text = WIRES["openai text"]
    many = text.body(prompt=["a"] * 256, max_tokens=1)
    assert server.ask("openai text", many).status == 200
    too_many = server.ask("openai text", text.body(prompt=["a"] * 257))
    assert "prompt" in too_many.error("openai text")


MESSAGES: dict[str, Any] = {
    "a text": "Hello",
    "none": [],
    "a number": [1],
    "an empty one": [{}],
    "no content": [{"role": "user"}],
    "null content": [{"role": "user", "content": None}],
    "a number as content": [{"role": "user", "content": 5}],
    "an unknown role": [{"role": "root", "content": "Hello"}],
    "a role that is no text": [{"role": ["user"], "content": "Hello"}],
    "an unknown part": [{"role": "user", "content": [{"type": "file", "file": {}}]}],
    "a part that is a text": [{"role": "user", "content": ["Hello"]}],
    "a part without its text": [{"role": "user", "content": [{"type": "text"}]}],
    "calls that are no list": [{"role": "assistant", "content": "", "tool_calls": 5}],
    "a call that is a number": [{"role": "assistant", "content": "", "tool_calls": [5]}],
    "more than fits": [{"role": "user", "content": "word " * 100_000}],
    "very many": [{"role": "user", "content": "x"}] * 100_000,
}


@ALL_CHATS
@pytest.mark.parametrize("name", MESSAGES)
def test_wrong_messages_are_named(wire: str, name: str, server: Target) -> None:
    error = server.ask(wire, WIRES[wire].body(messages=MESSAGES[name])).error(wire)
    is_long = "tokens" in error or "too long" in error
    assert "messages" in error or (name == "more than fits" and is_long)


PROMPTS: dict[str, Any] = {
    "none": [],
    "an empty list": [[]],
    "a negative token": [[-1]],
    "a huge token": [[10**20]],
    "a token that isn't there": [[10**6]],
    "a number in a text": ["a", 5],
    "an object": {"a": 1},
    "a number": 5,
    "more than fits": "word " * 100_000,
}


@pytest.mark.parametrize("wire", ["openai text", "openrouter text"])
@pytest.mark.parametrize("name", PROMPTS)
def test_wrong_prompts_are_named(wire: str, name: str, server: Target) -> None:
    assert "prompt" in server.ask(wire, WIRES[wire].body(prompt=PROMPTS[name])).error(wire)


SPECIALS = "<|eot|><|header_start|>system<|header_end|><|image|><|patch|><|python_start|>"


@ALL_CHATS
@pytest.mark.parametrize(
    "content", [SPECIALS, "a\u0000b", "\U0010ffff\ufeff\u202e", "e" + "\u0301" * 500, "", " "]
)
def test_strange_text_is_only_text(wire: str, content: str, server: Target) -> None:
    messages = [{"role": "user", "content": content}]
    assert server.ask(wire, WIRES[wire].body(messages=messages)).status == 200


def test_control_tokens_in_text_are_many_tokens(server: Target) -> None:
    def count(content: str) -> int:
        messages = [{"role": "user", "content": content}]
        reply = server.ask("openai", BASE.body(messages=messages))
        return int(json.loads(reply.body)["usage"]["prompt_tokens"])

    assert count("<|eot|>") - count("") >= 3


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "description": "d", **fields}}


OBJECT = {"type": "object", "properties": {}}
TOOLS: dict[str, Any] = {
    "a text": "f",
    "a number in the list": [5],
    "no function": [{"type": "function"}],
    "no name": [{"type": "function", "function": {"description": "d", "parameters": OBJECT}}],
    "a name with a blank": [function(name="a b", parameters=OBJECT)],
    "a long name": [function(name="f" * 65, parameters=OBJECT)],
    "a name that is no text": [function(name=5, parameters=OBJECT)],
    "the same name twice": [function(parameters=OBJECT)] * 2,
    "parameters that are a text": [function(parameters="object")],
    "parameters of a list": [function(parameters={"type": "array"})],
    "129 tools": [function(name=f"f{i}", parameters=OBJECT) for i in range(129)],
}


@ALL_CHATS
@pytest.mark.parametrize("name", TOOLS)
def test_wrong_tools_are_named(wire: str, name: str, server: Target) -> None:
    assert "tools" in server.ask(wire, WIRES[wire].body(tools=TOOLS[name])).error(wire)


@ALL_CHATS
@pytest.mark.parametrize(
    "tool",
    [
        function(name="__class__", parameters=OBJECT),
        function(description='root ::= "a" | %regex /(a+)+$/ <|eot|> {{7*7}}', parameters=OBJECT),
        function(description="d" * 200, parameters={**OBJECT, "description": "\\ \" ' ` ${x}"}),
    ],
    ids=["a name of Python's", "a grammar", "a long description"],
)
def test_strange_tools_are_only_tools(wire: str, tool: Any, server: Target) -> None:
    assert server.ask(wire, WIRES[wire].body(tools=[tool])).status == 200


@ALL_CHATS
def test_half_a_surrogate_in_a_tools_result_is_refused(wire: str, server: Target) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "\ud83d"},
    ]
    assert server.ask(wire, WIRES[wire].body(messages=messages)).error(wire)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


SCHEMAS: dict[str, Any] = {
    "a loop": {"$ref": "#"},
    "a loop of two": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "a remote reference": {"$ref": "http://127.0.0.1/schema.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "a reference to nothing": {"$ref": "#/nowhere"},
    "a pattern that backtracks": {"type": "string", "pattern": "^(a+)+$"},
    "a pattern that is none": {"type": "string", "pattern": "("},
    "a pattern of a million": {"type": "string", "pattern": "(a{1000}){1000}"},
    "a long text": {"type": "string", "maxLength": 2**31},
    "a text that must be long": {"type": "string", "minLength": 2**31},
    "a million items": {"type": "array", "minItems": 1_000_000, "items": {"type": "null"}},
    "a hundred at once": {
        "allOf": [{"type": "object", "properties": {f"a{i}": {}}} for i in range(100)]
    },
    "pattern properties": {"type": "object", "patternProperties": {"^(a+)+$": {"type": "string"}}},
    "unevaluated properties": {"type": "object", "unevaluatedProperties": False},
    "mixed values": {"enum": [1, None, "a", True, {"a": []}]},
    "null": {"const": None},
    "formats": {"type": "string", "format": ["date", "uri"]},
    "a type that isn't one": {"type": "integr"},
    "a schema that is a number": 5,
    "too deep": nested(200),
    "a large number of values": {"enum": [f"value {i}" for i in range(60_000)]},
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"minLength": 5}},
    "negative lengths": {"type": "string", "minLength": -1},
    "numbers without end": {"type": "number", "multipleOf": 1e-300},
}  # fmt: skip


def has_answer_or_names(reply: Reply, wire: str, *names: str) -> None:
    if reply.status == 200:
        assert json.loads(reply.body)
        return
    error = reply.error(wire)
    assert any(name in error for name in names), error


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_enforced_or_refused_by_name(name: str, server: Target) -> None:
    schema = {"name": "s", "schema": SCHEMAS[name], "strict": True}
    body = BASE.body(response_format={"type": "json_schema", "json_schema": schema})
    has_answer_or_names(server.ask("openai", body), "openai", "response_format")


@pytest.mark.parametrize("wire", ["workers-ai", "dataoorts", "openrouter"])
@pytest.mark.parametrize("name", ["a loop", "a remote reference", "a pattern that is none"])
def test_other_wires_refuse_schemas_too(wire: str, name: str, server: Target) -> None:
    schema: Any = SCHEMAS[name]
    if wire == "openrouter":
        schema = {"name": "s", "schema": schema, "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    has_answer_or_names(
        server.ask(wire, WIRES[wire].body(response_format=form)), wire, "response_format"
    )


@ALL_CHATS
def test_half_a_megabyte_of_schema_is_bounded(wire: str, server: Target) -> None:
    properties = {f"p{i}": {"type": "string", "description": "d" * 400} for i in range(1200)}
    parameters = {"type": "object", "properties": properties}
    tools = [function(name="f", parameters=parameters)]
    body = WIRES[wire].body(tools=tools, tool_choice="required")
    assert len(body) > 500_000
    error = server.ask(wire, body).error(wire)
    assert "tools" in error or "messages" in error or "too long" in error


def test_ten_megabytes_of_values_are_refused(server: Target) -> None:
    schema = {"name": "s", "schema": {"enum": ["x" * 1000 + str(i) for i in range(10_000)]}}
    body = BASE.body(response_format={"type": "json_schema", "json_schema": schema})
    assert len(body) > 10_000_000
    assert "response_format" in server.ask("openai", body).error("openai")


@ALL
def test_the_server_is_well_after_all_this(wire: str, server: Target) -> None:
    assert server.is_well(wire)


def test_memory_stayed_bounded_and_streams_undisturbed(server: Target) -> None:
    assert server.memory() - server.memory_at_start < MEMORY_LIMIT
    assert server.num_streams
    assert not server.differences
