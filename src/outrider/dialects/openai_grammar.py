"""What form an answer must have, both ways: response_format, and vLLM's structured_outputs.

response_format is OpenAI's, with OpenRouter's grammars; structured_outputs carries what it can't,
regular expressions and choices. Every form is enforced, whether it is called strict or not, so a
schema is refused later if it can't be. Refuses two forms at once.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from outrider.dialects.openai_tools import MAX_SCHEMA_DEPTH, TOOL_NAME, is_shallow
from outrider.dialects.openai_wire import ResponseFormat, StructuredOutputs
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import Grammar

MAX_CHOICES = 1024
FORMAT_PARAM = _FORMAT = "response_format"
_OUTPUTS = "structured_outputs"
_ANY_OBJECT = Grammar("json_schema", '{"type":"object"}', _FORMAT)


def decode_grammar(
    response_format: ResponseFormat | None, structured_outputs: StructuredOutputs | None
) -> Grammar | None:
    """Give what the two fields ask for; None for plain text."""
    first = None if response_format is None else _read_format(response_format)
    second = None if structured_outputs is None else _read_outputs(structured_outputs)
    if first and second:
        raise InvalidRequest(
            f"{_FORMAT} and {_OUTPUTS} are both forms of the answer; send one", _OUTPUTS
        )
    return first or second


def encode_grammar(grammar: Grammar | None, *, is_chat: bool) -> dict[str, Any]:
    """Write the field that a client would send."""
    if grammar is None:
        return {}
    if grammar.kind == "regex":
        return {_OUTPUTS: {"regex": grammar.source}}
    if grammar.kind == "lark":
        form = {"grammar": grammar.source}
        is_format = is_chat and grammar.param == _FORMAT
        return {_FORMAT: {"type": "grammar", **form}} if is_format else {_OUTPUTS: form}
    schema = json.loads(grammar.source)
    if not is_chat:
        return {_OUTPUTS: {"json": schema}}
    if grammar.source == _ANY_OBJECT.source:
        return {_FORMAT: {"type": "json_object"}}
    wrapper = {"name": "answer", "schema": schema, "strict": True}
    return {_FORMAT: {"type": "json_schema", "json_schema": wrapper}}


def schema_grammar(schema: dict[str, Any], path: str, param: str) -> Grammar:
    """Give the grammar of a JSON Schema that stands at `path`."""
    if not is_shallow(schema):
        raise InvalidRequest(f"{path} is nested more than {MAX_SCHEMA_DEPTH} levels deep", path)
    return Grammar("json_schema", msgspec.json.encode(schema).decode(), param)


def _read_format(wire: ResponseFormat) -> Grammar | None:
    match wire.type:
        case "text":
            return None
        case "json_object":
            return _ANY_OBJECT
        case "json_schema":
            return _read_schema(wire)
        case "grammar":
            if not wire.grammar:
                raise InvalidRequest(f"{_FORMAT}.grammar is missing", f"{_FORMAT}.grammar")
            return Grammar("lark", wire.grammar, _FORMAT)
    raise UnsupportedParameter(
        f"{_FORMAT}.type is {wire.type[:50]!r}; text, json_object, json_schema and grammar are "
        "supported here",
        f"{_FORMAT}.type",
    )


def _read_schema(wire: ResponseFormat) -> Grammar:
    path = f"{_FORMAT}.json_schema"
    if wire.json_schema is None:
        raise InvalidRequest(f"{path} is missing", path)
    if not TOOL_NAME.fullmatch(wire.json_schema.name):
        raise InvalidRequest(
            f"{path}.name is {wire.json_schema.name[:80]!r}; use 1 to 64 letters, digits, _ and -",
            f"{path}.name",
        )
    return schema_grammar(wire.json_schema.schema, f"{path}.schema", _FORMAT)


def _read_outputs(wire: StructuredOutputs) -> Grammar | None:
    names = StructuredOutputs.__struct_fields__
    num_given = sum(getattr(wire, name) is not None for name in names)
    if num_given != 1:
        raise InvalidRequest(
            f"{_OUTPUTS} has {num_given} forms; send one of {', '.join(names)}", _OUTPUTS
        )
    if wire.json is not None:
        return schema_grammar(wire.json, f"{_OUTPUTS}.json", _OUTPUTS)
    if wire.regex is not None:
        return Grammar("regex", wire.regex, _OUTPUTS)
    if wire.grammar is not None:
        return Grammar("lark", wire.grammar, _OUTPUTS)
    return _read_choices(wire.choice or [])


def _read_choices(choices: list[str]) -> Grammar:
    path = f"{_OUTPUTS}.choice"
    if not 1 <= len(choices) <= MAX_CHOICES or not all(choices):
        raise InvalidRequest(f"{path} must hold 1 to {MAX_CHOICES} texts, none empty", path)
    words = (json.dumps(choice, ensure_ascii=False) for choice in choices)
    return Grammar("lark", "start: " + " | ".join(words), _OUTPUTS)
