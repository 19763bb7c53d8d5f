"""Refuses JSON Schemas that a grammar would accept without enforcing, naming keyword and path.

What is refused here was found with the JSON-Schema-Test-Suite (docs/structured-output.md): keywords
that constrain and aren't implemented, references whose meaning depends on the draft or on other
documents, and counts that a repeated key would satisfy. Only what a schema uses is looked at:
definitions that nothing refers to are free to hold anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

# Keywords that constrain values in some draft and that nothing here enforces.
UNENFORCED = frozenset(
    (
        *("$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"),
        *("contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems"),
        *("dependencies", "dependentRequired", "dependentSchemas", "propertyNames"),
        *("unevaluatedProperties", "not", "if", "then", "else"),
        *("extends", "disallow", "divisibleBy"),  # of old drafts
    )
)
FORMATS = frozenset(
    (
        *("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri"),
        *("unknown", "uuid"),
    )
)
TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_COUNTS = ("maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties")
_MAPS = ("properties", "patternProperties")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLES = ("additionalItems", "additionalProperties", "items")
# What drafts before 2019-09 ignore beside $ref and later ones enforce.
_ASSERTIONS = frozenset(
    (
        *_COUNTS, *_MAPS, *_LISTS, *_SINGLES, "const", "enum", "exclusiveMaximum",
        "exclusiveMinimum", "format", "maximum", "minimum", "multipleOf", "pattern", "required",
        "type",
    )
)  # fmt: skip
_DRAFT = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/(2019-09|2020-12))/schema#?")
_MAX_SHOWN_CHARS = 80


class UnenforceableSchema(ValueError):
    """A schema whose answers a grammar can't be held to."""


def check_schema(schema: object) -> None:
    """Raise `UnenforceableSchema` for the first part, as written, that isn't enforced."""
    dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if dialect and not (isinstance(dialect, str) and _DRAFT.fullmatch(dialect)):
        raise UnenforceableSchema(f"$schema at $ is {_shown(dialect)}, which is no known draft")
    is_later = "/20" in dialect
    for path, part in used_schemas(schema):
        _check_keywords(path, part, is_root=part is schema)
        if "$ref" in part:
            _check_siblings(path, part, is_later)


def used_schemas(schema: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a schema and all that it uses, also by reference, once and with their paths.

    Raises `UnenforceableSchema` for a reference that leads nowhere, after what refers there.
    """
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("$", schema)]
    while todo:
        path, part = todo.pop()
        if not isinstance(part, dict) or id(part) in seen:
            continue
        seen.add(id(part))
        yield path, part
        if "$ref" in part:
            todo += _resolve(path, part["$ref"], schema)
        todo += reversed(list(subschemas(path, part)))


def subschemas(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Give the schemas inside of a schema that hold wherever it does, with their paths."""
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            for name, part in value.items():
                yield f"{path}.{keyword}{_step(name)}", part
        elif isinstance(value, list) and (keyword in _LISTS or keyword == "items"):
            for index, part in enumerate(value):
                yield f"{path}.{keyword}[{index}]", part
        elif keyword in _SINGLES:
            yield f"{path}.{keyword}", value


def _check_keywords(path: str, schema: dict[str, Any], *, is_root: bool) -> None:
    for keyword in schema:
        if keyword in UNENFORCED:
            raise UnenforceableSchema(f"{keyword} at {path} isn't supported")
    if "$id" in schema and not is_root:
        raise UnenforceableSchema(f"$id at {path} isn't supported inside of a schema")
    for keyword in _COUNTS:
        if keyword in schema and type(schema[keyword]) is not int:
            raise UnenforceableSchema(f"{keyword} at {path} must be a whole number")
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in TYPES:
            raise UnenforceableSchema(f"type at {path} is {_shown(kind)}, which is no type")
    _check_format(path, schema)
    _check_min_properties(path, schema)


def _check_format(path: str, schema: dict[str, Any]) -> None:
    if "format" not in schema:
        return
    name = schema["format"]
    if not isinstance(name, str) or name not in FORMATS:
        raise UnenforceableSchema(f"format at {path} is {_shown(name)}, which isn't supported")
    # By itself it would be an annotation, which any string satisfies.
    if schema.get("type") not in ("string", ["string", "null"], ["null", "string"]):
        raise UnenforceableSchema(f'format at {path} needs "type": "string" beside it')


def _check_min_properties(path: str, schema: dict[str, Any]) -> None:
    """A key that is written twice counts twice while it is written, but once when it is read."""
    wanted = schema.get("minProperties", 0)
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    num_required = len({name for name in names if isinstance(name, str)})
    is_open = schema.get("additionalProperties") is not False or "patternProperties" in schema
    if is_open and wanted > max(1, num_required):
        raise UnenforceableSchema(
            f"minProperties at {path} isn't supported where other properties may come"
        )


def _check_siblings(path: str, schema: dict[str, Any], is_later: bool) -> None:
    others = sorted(_ASSERTIONS & schema.keys())
    if others and not is_later:
        raise UnenforceableSchema(
            f"{others[0]} at {path} stands beside $ref, where drafts differ; put both into allOf"
        )


def _resolve(path: str, reference: object, root: object) -> list[tuple[str, object]]:
    """Find what a reference means; of an anchor all places that have it."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise UnenforceableSchema(
            f"$ref at {path} is {_shown(reference)}; references inside of the schema are supported"
        )
    if reference != "#" and not reference.startswith("#/"):
        return list(_anchored(unquote(reference[1:]), root))  # none: the compiler refuses it
    target = root
    pointer = unquote(reference[2:]).split("/") if len(reference) > 2 else []
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer]
    for step in steps:
        if isinstance(target, dict) and step in target:
            target = target[step]
        elif isinstance(target, list) and step.isdecimal() and int(step) < len(target):
            target = target[int(step)]
        else:
            raise UnenforceableSchema(f"$ref at {path} is {_shown(reference)}, which isn't there")
    return [("$" + "".join(map(_step, steps)), target)]


def _anchored(name: str, root: object) -> Iterator[tuple[str, object]]:
    todo: list[tuple[str, object]] = [("$", root)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            if value.get("$anchor") == name:
                yield path, value
            todo += ((path + _step(key), inner) for key, inner in value.items())
        elif isinstance(value, list):
            todo += ((f"{path}[{index}]", inner) for index, inner in enumerate(value))


def _step(name: str) -> str:
    return f".{name}" if name.isidentifier() or name == "$defs" else f"[{_shown(name)}]"


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:_MAX_SHOWN_CHARS]
