"""Workers AI's published JSON Schemas, made from the types of the codec; see `cloudflare_types`.

`schema_of` gives input and output as the catalogue does, `page_files` the six files of the model's
page. They are in one piece, without references.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from outrider.dialects import cloudflare_embeddings
from outrider.dialects.cloudflare_types import (
    BatchInput,
    FlatTool,
    MessagesInput,
    Parameters,
    PromptInput,
    WrappedTool,
)
from outrider.dialects.cloudflare_wire import ResultWire

Schema = dict[str, Any]

_REF = "#/$defs/"
_TYPES = (
    *(PromptInput, MessagesInput, BatchInput, FlatTool, WrappedTool, Parameters, ResultWire),
    *(cloudflare_embeddings.TextInput, cloudflare_embeddings.VectorsWire),
)
_NULL = {"type": "null"}
_ANNOTATIONS = ("published", "hidden", "required_here", "title")
_STREAM = {"type": "string", "contentType": "text/event-stream", "format": "binary"}


def text_schema() -> dict[str, Schema]:
    """Give input and output of the models that generate text."""
    inputs = [_schema(kind) for kind in (PromptInput, MessagesInput, BatchInput)]
    outputs = [_json_output(ResultWire), _STREAM]
    return {"input": {"type": "object", "oneOf": inputs}, "output": {"oneOf": outputs}}


def embedding_schema() -> dict[str, Schema]:
    """Give input and output of the models that make embeddings."""
    return {
        "input": _schema(cloudflare_embeddings.TextInput),
        "output": _json_output(cloudflare_embeddings.VectorsWire),
    }


def page_files() -> dict[str, Schema]:
    """Give the schemas that a model's page offers, by their files' names."""
    forms = [_schema(PromptInput), _schema(MessagesInput)]
    one_request = {"type": "object", "oneOf": forms}
    return {
        "sync-input.json": one_request,
        "sync-output.json": _json_output(ResultWire),
        "streaming-input.json": one_request,
        "streaming-output.json": _STREAM,
        "batch-input.json": _schema(BatchInput),
        "batch-output.json": _json_output(ResultWire),
    }


def _json_output(kind: type) -> Schema:
    return {**_schema(kind), "contentType": "application/json"}


def _schema(kind: type) -> Schema:
    schema = _publish({"$ref": _REF + kind.__name__})
    assert isinstance(schema, dict)
    return schema


@cache
def _components() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(_TYPES, ref_template=_REF + "{name}")
    return components


def _publish(schema: Schema) -> Schema:
    """Follow the annotations of `cloudflare_types` and put what is referred to in its place."""
    keywords = schema.get("published", {})
    result = {name: value for name, value in schema.items() if name not in _ANNOTATIONS}
    if result.get("default", ...) is None:
        del result["default"]
    if "type" in keywords or "$ref" in keywords:
        result = {name: value for name, value in result.items() if name not in ("anyOf", "type")}
    result |= keywords
    if "$ref" in result:
        named = _components()[result.pop("$ref").removeprefix(_REF)]
        return _publish({**named, **result})
    for name in ("items", "additionalProperties"):
        if isinstance(result.get(name), dict):
            result[name] = _publish(result[name])
    for name in ("anyOf", "oneOf"):
        if name in result:
            kinds = [_publish(kind) for kind in result.pop(name) if kind != _NULL]
            result |= kinds[0] if len(kinds) == 1 else {name: kinds}
    return _publish_properties(result) if "properties" in result else result


def _publish_properties(schema: Schema) -> Schema:
    shown = {name: kind for name, kind in schema["properties"].items() if not kind.get("hidden")}
    required = {name for name, kind in shown.items() if kind.get("required_here")}
    required |= set(schema.pop("required", ()))
    properties = {name: _publish(kind) for name, kind in shown.items()}
    return {**schema, "properties": properties} | (
        {"required": [name for name in shown if name in required]} if required else {}
    )
