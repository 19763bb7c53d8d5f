"""The OpenAPI 3.1 document of everything served, made from the dialects' own types and tables.

What a body may hold comes from the structs that read it, what becomes of a field from the tables
of treatments, the statuses from the tables of errors. `openapi_operations` lists the operations; a
test compares them with the router. Nothing here describes a field a second time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from outrider.server.access import Need, need_of

Schema = dict[str, Any]

JSON, EVENTS, TEXT = "application/json", "text/event-stream", "text/plain"
CSV, RSS = "text/csv", "application/rss+xml"
REF = "#/components/schemas/"
_PRIVATE = ("published", "hidden", "required_here")
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_TREATMENTS = {
    "inert": "Inert: accepted, and without effect.",
    "refused": "Refused by name, unless its value asks for what happens anyway.",
    "ignored": "Ignored, and named in x-outrider-ignored.",
}
_HEADERS = {
    "x-request-id": "The id of the request in the server's log.",
    "x-outrider-ignored": "Names of the fields that were ignored.",
    "x-outrider-attempts": "Who was asked and with what status, such as vllm:503,local:200.",
}
_ERROR_HEADERS = {
    "x-request-id": _HEADERS["x-request-id"],
    "x-outrider-attempts": _HEADERS["x-outrider-attempts"],
    "retry-after": "Seconds to wait.",
}


@dataclass(frozen=True)
class Wire:
    """What the operations of one wire have in common: a tag, and errors of these types."""

    tag: str
    errors: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)  # types by status


@dataclass(frozen=True)
class Body:
    """A body: a type, and what becomes of its fields; or a schema that isn't made from a struct."""

    kind: Any = None
    treatments: Mapping[str, str] = field(default_factory=dict)
    # Unknown fields are ignored, although the struct forbids them, because they are dropped before.
    is_open: bool = False
    media_type: str = JSON
    # Fields of several types, the last of which wins; then none is required.
    mixed: tuple[Any, ...] = ()
    schema: Schema | None = None
    # What counts for a field that neither the request nor the model sets.
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One method of one path. Answers are types, or schemas; `events` those of a stream."""

    method: str
    path: str
    summary: str
    wire: Wire
    answers: tuple[Any, ...] = ()
    body: Body | None = None
    events: tuple[Any, ...] = ()
    query: Mapping[str, Schema] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()  # of errors
    media_type: str = JSON
    text_types: tuple[str, ...] = ()  # what else the answer can be asked for as
    other_answers: Mapping[int, Any] = field(default_factory=dict)  # by status, not errors
    success: int = 200

    @property
    def need(self) -> Need:
        """What kind of key it needs, where keys are needed."""
        return need_of(_PATH_PARAMETER.sub("x", self.path))

    @property
    def all_statuses(self) -> list[int]:
        """The statuses of errors, those of keys included."""
        of_keys = [] if self.need == "nothing" else [401, 403]
        return [s for s in dict.fromkeys([*self.statuses, *of_keys]) if s in self.wire.errors]


def post(wire: Wire, path: str, summary: str, body: Body, **fields: Any) -> Operation:  # noqa: ANN401
    """Give an operation that takes a body and may fail in any of its wire's ways."""
    return Operation("POST", path, summary, wire, body=body, statuses=tuple(wire.errors), **fields)


def get(wire: Wire, path: str, summary: str, *answers: Any, **fields: Any) -> Operation:  # noqa: ANN401
    """Give an operation without a body; of errors it has the `statuses` named, and 500."""
    statuses = (*fields.pop("statuses", ()), 500)
    return Operation("GET", path, summary, wire, answers, statuses=statuses, **fields)


def answered_by(wire: Wire, *always: int) -> Callable[..., Operation]:
    """Give what makes a wire's operations that answer by JSON; `always` are statuses of all."""

    def operation(
        method: str,
        path: str,
        summary: str,
        answer: type[Any],
        statuses: tuple[int, ...] = (),
        **fields: Any,  # noqa: ANN401
    ) -> Operation:
        every = (*statuses, *always)
        return Operation(method, path, summary, wire, (answer,), statuses=every, **fields)

    return operation


def errors(statuses: Iterable[int], *kinds: Any) -> dict[int, tuple[Any, ...]]:  # noqa: ANN401
    """Give the table of a wire whose errors are all of the same types."""
    return dict.fromkeys(sorted(statuses), kinds)


def document(operations: Iterable[Operation], version: str) -> Schema:
    """Put the whole document together."""
    listed = list(operations)
    schemas = _Schemas([kind for one in listed for kind in _kinds(one)])
    paths: dict[str, Schema] = {}
    for one in listed:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outrider",
            "version": version,
            "summary": "A Llama 4 engine on the wires of OpenAI, OpenRouter, Workers AI, Dataoorts",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        # Whether a key is needed is the operator's choice; some operations say otherwise.
        "security": [{}, {"bearer": []}],
    }


def _kinds(one: Operation) -> list[Any]:
    """Give the types that an operation needs."""
    kinds = [*one.answers, *one.events, *one.other_answers.values()]
    kinds += [one.body.kind, *one.body.mixed] if one.body else []
    kinds += [kind for status in one.all_statuses for kind in one.wire.errors[status]]
    return [kind for kind in kinds if isinstance(kind, type)]


class _Schemas:
    """The schemas of all types; those of open bodies get names of their own."""

    def __init__(self, kinds: list[Any]) -> None:
        self._kinds = list(dict.fromkeys(kinds))
        references, components = msgspec.json.schema_components(
            self._kinds, ref_template=REF + "{name}"
        )
        self._references = references
        self.components: dict[str, Any] = _public(components)

    def of(self, kind: Any) -> Schema:  # noqa: ANN401
        """Give the reference to a type's schema; a schema is what it is."""
        if isinstance(kind, dict):
            return kind
        return dict(self._references[self._kinds.index(kind)])

    def of_body(self, body: Body, tag: str) -> Schema:
        """Give the schema of a body, with the treatments of its fields."""
        if body.schema is not None:
            return body.schema
        name = self.of(body.kind)["$ref"].removeprefix(REF)
        prefix = tag.replace(" ", "") if body.is_open else ""
        if body.is_open:
            self._open(name, prefix)
        whole = self.components[prefix + name]
        known = whole["properties"]
        for kind in body.mixed:
            schema = self.components[self.of(kind)["$ref"].removeprefix(REF)]
            known = known | self._opened(schema["properties"], prefix)
        if body.mixed:
            whole.pop("required", None)
        shown = {n: {**known.get(n, {}), **_note(t)} for n, t in body.treatments.items()}
        whole["properties"] = shown or known
        for field_name in body.defaults.keys() & whole["properties"].keys():
            field_schema = whole["properties"][field_name]
            default = {"x-outrider-default": body.defaults[field_name]}
            whole["properties"][field_name] = field_schema | default
        if "required" in whole:
            whole["required"] = [n for n in whole["required"] if n in whole["properties"]]
        return {"$ref": REF + prefix + name}

    def _open(self, name: str, prefix: str) -> None:
        """Copy a schema and those it refers to, without what forbids further fields."""
        if prefix + name in self.components:
            return
        self.components[prefix + name] = {}
        self.components[prefix + name] = self._opened(self.components[name], prefix)

    def _opened(self, value: Any, prefix: str) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [self._opened(item, prefix) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            name = value["$ref"].removeprefix(REF)
            self._open(name, prefix)
            return {**value, "$ref": REF + prefix + name}
        return {
            key: self._opened(item, prefix)
            for key, item in value.items()
            if (key, item) != ("additionalProperties", False)
        }


def _public(value: Any) -> Any:  # noqa: ANN401
    """Leave out what codecs note in their types for schemas of their own."""
    if isinstance(value, list):
        return [_public(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _public(item) for key, item in value.items() if key not in _PRIVATE}


def _note(treatment: str) -> Schema:
    text = _TREATMENTS.get(treatment)
    return {"description": text} if text else {}


def _operation(one: Operation, schemas: _Schemas) -> Schema:
    result: Schema = {
        "operationId": _operation_id(one),
        "summary": one.summary,
        "tags": [one.wire.tag],
    }
    parameters = [_parameter(name, "path") for name in _PATH_PARAMETER.findall(one.path)]
    parameters += [_parameter(name, "query", schema) for name, schema in one.query.items()]
    if parameters:
        result["parameters"] = parameters
    if one.body:
        content = {one.body.media_type: {"schema": schemas.of_body(one.body, one.wire.tag)}}
        result["requestBody"] = {"required": True, "content": content}
    result["responses"] = {str(one.success): _success(one, schemas)}
    if (need := one.need) == "nothing":
        result["security"] = [{}]
    elif need == "managing":
        result["security"] = [{"bearer": []}]
    for status, kind in one.other_answers.items():
        result["responses"][str(status)] = _response("", _HEADERS, {JSON: [schemas.of(kind)]})
    for status in one.all_statuses:
        kinds = [schemas.of(kind) for kind in one.wire.errors[status]]
        result["responses"][str(status)] = _response("", _ERROR_HEADERS, {JSON: kinds})
    return result


def _success(one: Operation, schemas: _Schemas) -> Schema:
    contents = {one.media_type: [schemas.of(kind) for kind in one.answers] or [{"type": "string"}]}
    contents |= {kind: [{"type": "string"}] for kind in one.text_types}
    response = _response("The answer.", _HEADERS if one.body else {}, contents)
    if one.events:
        events = [schemas.of(kind) for kind in one.events]
        # OpenAPI 3.1 has no word for the events of a stream; 3.2 calls it so.
        stream = {"schema": {"type": "string"}, "x-itemSchema": _one_of(events)}
        response["content"][EVENTS] = stream
    return response


def _response(text: str, headers: Mapping[str, str], contents: dict[str, list[Schema]]) -> Schema:
    response: Schema = {"description": text or "An error, or another outcome."}
    if headers:
        response["headers"] = {
            name: {"description": note, "schema": {"type": "string"}}
            for name, note in headers.items()
        }
    response["content"] = {kind: {"schema": _one_of(many)} for kind, many in contents.items()}
    return response


def _one_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _parameter(name: str, place: str, schema: Schema | None = None) -> Schema:
    shown = schema or {"type": "string"}
    return {"name": name, "in": place, "required": place == "path", "schema": shown}


def _operation_id(one: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", one.path)
    return one.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)
