"""The operations of Workers AI and of Dataoorts, which have the same inputs, for the OpenAPI file.

Inputs and outputs of models are the schemas that the catalogue publishes, which are made from the
codec's types.
"""

from __future__ import annotations

from typing import Any

from outrider.dialects import openai_answers, openai_embeddings, openai_wire
from outrider.dialects.cloudflare_batch import (
    MAX_REFERENCE_CHARS,
    CompleteReply,
    PendingReply,
)
from outrider.dialects.cloudflare_schema import embedding_schema, text_schema
from outrider.dialects.cloudflare_wire import (
    ERROR_CODES,
    CallsChunk,
    EdgeError,
    ModelLayerError,
    TextChunk,
    UsageChunk,
)
from outrider.dialects.dataoorts import DataoortsBody
from outrider.server.openapi import Body, Operation, Schema, Wire, errors, get, post

_ACCOUNT = "/client/v4/accounts/{account_id}/ai/"
_STATUSES = {status for _, _, status in ERROR_CODES}
_EDGE = {401: (EdgeError,), 429: (ModelLayerError, EdgeError)}
_RUN = Wire("Workers AI", errors(_STATUSES, ModelLayerError) | _EDGE)
_NATIVE = Wire("Workers AI", {**_RUN.errors, 400: (ModelLayerError, EdgeError), 404: (EdgeError,)})
_BARE = Wire("Workers AI", errors(_STATUSES, openai_answers.ErrorBody))
_DATAOORTS = Wire("Dataoorts", _RUN.errors)
_TEXT: Schema = {"type": "string"}
_QUEUE: Schema = {
    "type": "boolean",
    "default": False,
    "description": "true: the body has requests to be answered later, or asks for their answers.",
}
_QUERY = ("search", "task", "author", "source", "page", "per_page", "hide_experimental")


def _enveloped(*results: Schema) -> Schema:
    """Give the envelope of answers around what a model gives."""
    schema = results[0] if len(results) == 1 else {"anyOf": list(results)}
    fields: Schema = {
        "result": schema,
        "success": {"const": True},
        "errors": {"type": "array", "maxItems": 0},
        "messages": {"type": "array"},
        "result_info": {"type": "object"},
    }
    required = [name for name in fields if name != "result_info"]
    return {"type": "object", "properties": fields, "required": required}


def _output(schema: Schema) -> Schema:
    """Give a model's output; what is required of it there isn't part of every answer."""
    first = schema.get("oneOf", [schema])[0]
    return {key: value for key, value in first.items() if key not in ("required", "contentType")}


def _queue_inputs(forms: list[Schema]) -> list[Schema]:
    """Give the bodies of the asynchronous batch: requests of these forms, and the question."""
    reference = {"type": ["string", "null"], "maxLength": MAX_REFERENCE_CHARS}
    request = {"anyOf": forms, "properties": {"external_reference": reference}}
    requests = {"type": "array", "minItems": 1, "items": {"type": "object", **request}}
    return [
        {"type": "object", "properties": {name: schema}, "required": [name]}
        for name, schema in (("requests", requests), ("request_id", {"type": "string"}))
    ]


def cloudflare_operations() -> list[Operation]:
    """Give the operations below /client/v4, the pages' files and Dataoorts' endpoint."""
    text, vectors = text_schema(), embedding_schema()
    # The asynchronous batch is published with texts only, and without its references.
    forms = [*text["input"]["oneOf"][:2], vectors["input"]]
    inputs = Body(schema={"anyOf": [*forms, *_queue_inputs(forms)]})
    outputs = _enveloped(_output(text["output"]), _output(vectors["output"]))
    return [
        post(
            _RUN,
            _ACCOUNT + "run/{model}",
            "Run a model on its own inputs.",
            inputs,
            answers=(outputs, PendingReply, CompleteReply),
            events=(TextChunk, CallsChunk, UsageChunk, ModelLayerError),
            query={"queueRequest": _QUEUE},
        ),
        *_catalogue(),
        *_openai_endpoints(),
        post(
            _DATAOORTS,
            "/api/v1",
            "Run a model on its inputs.",
            Body(DataoortsBody),
            answers=(_enveloped(_output(text["output"])),),
        ),
    ]


def _openai_endpoints() -> list[Operation]:
    chat = Body(openai_wire.ChatBody, is_open=True)
    answers: Any = openai_answers
    return [
        post(
            _BARE,
            _ACCOUNT + "v1/chat/completions",
            "Answer a conversation.",
            chat,
            answers=(answers.ChatCompletion,),
            events=(answers.ChatChunk, answers.ErrorBody),
        ),
        post(
            _BARE,
            _ACCOUNT + "v1/embeddings",
            "Make vectors of texts.",
            Body(openai_embeddings.EmbeddingsBody),
            answers=(answers.EmbeddingList,),
        ),
    ]


def _catalogue() -> list[Operation]:
    search = {"query": dict.fromkeys(_QUERY, _TEXT), "statuses": (400,)}
    schema = {"query": {"model": _TEXT}, "statuses": (400,)}
    listed = _enveloped({"type": "array", "items": {"type": "object"}})
    one = _enveloped({"type": "object"})
    return [
        get(_NATIVE, _ACCOUNT + "models/search", "List the served models.", listed, **search),
        get(_NATIVE, _ACCOUNT + "models/schema", "Give a model's schemas.", one, **schema),
        get(
            _NATIVE,
            "/client/v4/user/tokens/verify",
            "Say whether a token is valid.",
            one,
            statuses=(401,),
        ),
        get(
            _NATIVE,
            "/workers-ai/models/{slug}/{file}",
            "Give a schema as the page of a model offers it.",
            {"type": "object"},
            statuses=(400, 404),
        ),
    ]
