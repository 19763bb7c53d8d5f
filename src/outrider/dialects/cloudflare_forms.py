"""What form an answer must have on Workers AI's native wire, both ways.

`response_format` holds a bare JSON Schema or OpenAI's wrapper of one, `guided_json` a bare one.
Either way the answer's `response` is then the JSON value itself; a text that isn't JSON, because
it was cut off, stays text with `guided_json` and is an error with `response_format`.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import UNSET

from outrider.dialects.base import Choice
from outrider.dialects.cloudflare_refusals import is_empty, mismatch, missing, param_of, refused
from outrider.dialects.cloudflare_types import JSON_FORMATS, Choices, ResponseFormat
from outrider.dialects.openai_grammar import schema_grammar
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import GenerationRequest, Grammar

# Codes 5023 and 5024.
NO_STREAM = "JSON Schema mode is not supported with stream mode"
UNMET = "JSON Mode couldn't be met"
_FORMAT, _GUIDED = "response_format", "guided_json"
_ANY_OBJECT = Grammar("json_schema", '{"type":"object"}', _FORMAT)


def read_form(wire: Choices) -> Grammar | None:
    """Give what the two fields ask for; None for plain text."""
    guided = None if wire.guided_json is UNSET else wire.guided_json
    form = wire.response_format
    if form is UNSET or form == ResponseFormat():
        return None if guided is None else _grammar(guided, f"/{_GUIDED}", _GUIDED)
    if guided is not None:
        raise refused(f"/{_GUIDED}", f"says the answer's form, as '/{_FORMAT}' does; send one")
    kind, schema = form.type, form.json_schema
    if kind is UNSET:
        raise missing(f"/{_FORMAT}", "type")
    if kind not in JSON_FORMATS:
        raise refused(f"/{_FORMAT}/type", f"must be one of {', '.join(JSON_FORMATS)}")
    if wire.stream:
        raise InvalidRequest(NO_STREAM, "stream")
    if kind == "json_object" and is_empty(None if schema is UNSET else schema):
        return _ANY_OBJECT
    if schema is UNSET:
        raise missing(f"/{_FORMAT}", "json_schema")
    pointer = f"/{_FORMAT}/json_schema"
    if _is_wrapper(schema):
        schema, pointer = schema["schema"], f"{pointer}/schema"
    return _grammar(schema, pointer, _FORMAT)


def write_form(request: GenerationRequest) -> dict[str, Any]:
    """Write the field that a client would send."""
    grammar = request.grammar
    if grammar is None:
        return {}
    if grammar.kind != "json_schema":
        raise UnsupportedParameter(
            f"Workers AI takes JSON Schemas only, not the kind {grammar.kind}", grammar.param
        )
    schema = json.loads(grammar.source)
    if grammar.param == _GUIDED:
        return {_GUIDED: schema}
    if request.stream:
        raise UnsupportedParameter(f"Workers AI: {NO_STREAM}", _FORMAT)
    if grammar.source == _ANY_OBJECT.source:
        return {_FORMAT: {"type": "json_object"}}
    if _is_wrapper(schema):
        schema = {"name": "answer", "schema": schema}
    return {_FORMAT: {"type": "json_schema", "json_schema": schema}}


def write_response(choice: Choice, request: GenerationRequest) -> msgspec.Raw:
    """Write an answer's text: as the JSON value that it is, if a form was asked for."""
    grammar, text = request.grammar, choice.text
    if grammar is not None and not choice.tool_calls and grammar.kind == "json_schema":
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            if grammar.param == _FORMAT:
                raise InvalidRequest(
                    f"{UNMET}: the answer was cut off; send a larger '/max_tokens'", "max_tokens"
                ) from None
            value = None
        # A text alone stays the JSON that it is: who reads it can't tell it from plain text.
        if value is not None and not isinstance(value, str):
            return msgspec.Raw(text.strip().encode())
    return msgspec.Raw(msgspec.json.encode(text))


def read_response(wire: msgspec.Raw) -> str:
    """Read an answer's text; a JSON value is its own text."""
    data = bytes(wire)
    if data[:1] == b'"':
        return msgspec.json.decode(data, type=str)
    return "" if data in (b"", b"null") else data.decode()


def _is_wrapper(schema: object) -> bool:
    """Say whether it is OpenAI's {name, schema}: a bare schema has neither word."""
    return (
        isinstance(schema, dict)
        and isinstance(schema.get("schema"), dict)
        and isinstance(schema.get("name"), str)
    )


def _grammar(schema: object, pointer: str, param: str) -> Grammar:
    if not isinstance(schema, dict):
        raise mismatch(pointer, schema, "object")
    try:
        return schema_grammar(schema, param_of(pointer), param)
    except InvalidRequest as error:
        raise type(error)(f"'{pointer}' can't be used: {error.message}", error.param) from error
