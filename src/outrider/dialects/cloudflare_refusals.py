"""What Workers AI says of bodies that don't fit its schema, in its own words and JSON pointers.

`read_as` converts to a type of `cloudflare_types` and turns msgspec's complaint into those words;
the other functions are for what no type says.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from outrider.dialects.base import decode_json
from outrider.errors import InvalidRequest

T = TypeVar("T")

# The service's words for what its back end refuses after the schema was fulfilled (code 8001).
INVALID_INPUT = "Invalid input"
# Code 3003.
INCOMPLETE = "Incomplete request"

_MISMATCH = re.compile(r"Expected `([^`]*)`, got `(\w+)`")
_BOUND = re.compile(r"Expected `\w+` (<=|>=) (\S+)")
_LENGTH = re.compile(r"Expected `\w+` of length (<=|>=) (\d+)")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def decode_fields(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object."""
    if not body.strip():
        raise InvalidRequest(f"{INCOMPLETE}: the body is missing; send a JSON object")
    return decode_json(body, dict[str, Any])


def read_as(value: object, kind: type[T], at: str = "") -> T:
    """Convert a JSON value that stands at a pointer; raises `InvalidRequest`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _in_own_words(error, at) from error


def is_empty(value: object) -> bool:
    """Say whether a value says nothing: null, or an empty string, list or object."""
    return value in (None, "", [], {})


def mismatch(pointer: str, value: object, *wanted: str) -> InvalidRequest:
    """Give the error for a value of the wrong type."""
    return _mismatch(pointer, _type_name(value), wanted)


def missing(pointer: str, *names: str) -> InvalidRequest:
    """Give the error for an object without its required properties; the last one is missing."""
    wanted = ", ".join(f"'{name}'" for name in names)
    return InvalidRequest(
        f"required properties at '{pointer or '/'}' are {wanted}",
        param_of(f"{pointer}/{names[-1]}"),
    )


def refused(pointer: str, words: str) -> InvalidRequest:
    """Give the error for a value that its type allows and the service doesn't."""
    return InvalidRequest(f"'{pointer}' {words}", param_of(pointer))


def param_of(pointer: str) -> str:
    """Turn a JSON pointer into a path: messages[0].content."""
    path = ""
    for part in pointer.strip("/").split("/"):
        path += f"[{part}]" if part.isdigit() else f".{part}"
    return path.removeprefix(".")


def _in_own_words(error: msgspec.ValidationError, at: str) -> InvalidRequest:
    message, _, path = str(error).partition(" - at `$")
    pointer = at + re.sub(r"\[(\d+)\]", r"/\1", path.rstrip("`").replace(".", "/"))
    if found := _MISMATCH.fullmatch(message):
        kinds = found[1].split(" | ")
        wanted = [_NAMES.get(kind, kind) for kind in kinds if kind != "null"]
        got = "number" if found[2] in ("int", "float") else _NAMES.get(found[2], found[2])
        return _mismatch(pointer, got, wanted)
    if found := _BOUND.fullmatch(message):
        return refused(pointer, f"must be {found[1]} {float(found[2]):.10g}")
    if found := _LENGTH.fullmatch(message):
        return InvalidRequest(
            f"Length of '{pointer}' must be {found[1]} {found[2]}", param_of(pointer)
        )
    if found := _MISSING.fullmatch(message):
        return missing(pointer, found[1])
    return refused(pointer, f"is not allowed: {message}")


def _mismatch(pointer: str, got: str, wanted: list[str] | tuple[str, ...]) -> InvalidRequest:
    types = ", ".join(f"'{name}'" for name in wanted)
    return InvalidRequest(
        f"Type mismatch of '{pointer or '/'}', '{got}' not in {types}", param_of(pointer)
    )


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")
