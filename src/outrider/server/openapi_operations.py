"""What the server answers, operation by operation, for the OpenAPI document.

One row per method and path of the router; types come from the dialects. Statuses are those of each
wire's table of errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from outrider import __version__
from outrider.dialects import (
    openai_answers,
    openai_batches,
    openai_embeddings,
    openai_files,
    openai_wire,
    openrouter_answers,
    openrouter_embeddings,
    openrouter_errors,
    openrouter_filters,
    openrouter_models,
    openrouter_request,
)
from outrider.errors import EngineError, OutriderError, RequestError
from outrider.server.health import Health
from outrider.server.metrics import CONTENT_TYPE
from outrider.server.openapi import RSS, Body, Operation, Schema, Wire, document, errors, get, post
from outrider.server.openapi_administration import administration_operations
from outrider.server.openapi_cloudflare import cloudflare_operations
from outrider.server.openapi_contents import content_operations
from outrider.server.openapi_conversations import conversation_operations
from outrider.server.openapi_keys import key_operations
from outrider.server.openapi_models import model_operations
from outrider.server.openapi_statistics import own_statistics_operations, statistics_operations
from outrider.types import SamplingParams


def _statuses(kinds: Iterable[type[OutriderError]]) -> set[int]:
    """Give the statuses of errors and of all that are derived from them."""
    found: set[int] = set()
    for kind in kinds:
        found |= {kind.status} | _statuses(kind.__subclasses__())
    return found


_OPENAI = Wire("OpenAI", errors(_statuses((RequestError, EngineError)), openai_answers.ErrorBody))
_ROUTED = {status for _, status, _ in openrouter_errors.ERROR_TYPES}
_OPENROUTER = Wire("OpenRouter", errors(_ROUTED, openrouter_answers.RoutedError))
_OPENROUTER_LIST = Wire("OpenRouter", errors((400, 404, 500), openrouter_answers.RoutedError))
_OPERATING = Wire("Operating", errors((401, 403, 500), openai_answers.ErrorBody))


def _openai_treatments(inert: Iterable[str], refused: Iterable[str], kind: Any) -> dict[str, str]:  # noqa: ANN401
    known = dict.fromkeys(kind.__struct_fields__, "mapped")
    return known | dict.fromkeys(inert, "inert") | dict.fromkeys(refused, "refused")


_TEXT: Schema = {"type": "string"}
_PRICE: Schema = {"type": "number", "minimum": 0}
_LIMIT: Schema = {"type": "integer", "minimum": 1}
# A default of the JSON itself would be wrong: a model may have its own.
_NEUTRAL = {
    name: value
    for name, value in msgspec.structs.asdict(SamplingParams()).items()
    if isinstance(value, int | float) and name != "n"
}
_CHAT = Body(
    openai_wire.ChatBody,
    _openai_treatments(openai_wire.CHAT_INERT, openai_wire.CHAT_REFUSED, openai_wire.ChatBody),
    defaults=_NEUTRAL,
)
_COMPLETION = Body(
    openai_wire.CompletionBody,
    _openai_treatments(
        openai_wire.COMPLETION_INERT, openai_wire.COMPLETION_REFUSED, openai_wire.CompletionBody
    ),
)


def _openai() -> list[Operation]:
    answers = openai_answers
    chat = {"answers": (answers.ChatCompletion,), "events": (answers.ChatChunk, answers.ErrorBody)}
    text = {
        "answers": (answers.TextCompletion,),
        "events": (answers.TextCompletion, answers.ErrorBody),
    }
    vectors = {"answers": (answers.EmbeddingList,)}
    embeddings = Body(openai_embeddings.EmbeddingsBody)
    return [
        post(_OPENAI, "/v1/chat/completions", "Answer a conversation.", _CHAT, **chat),
        post(_OPENAI, "/v1/completions", "Continue a text.", _COMPLETION, **text),
        post(_OPENAI, "/v1/embeddings", "Make vectors of texts.", embeddings, **vectors),
        get(_OPENAI, "/v1/models", "List the served models.", answers.ModelList),
        get(_OPENAI, "/v1/models/{model}", "Show one model.", answers.ModelRow, statuses=(404,)),
    ]


_AGE: Schema = {"type": "integer", "minimum": 0, "maximum": 10**6}
_PAGES: dict[str, Schema] = {
    "offset": {"type": "integer", "minimum": 0},
    "limit": {"type": "integer", "minimum": 1, "maximum": openrouter_models.MAX_LIMIT},
}
_MODEL_FILTERS: dict[str, Schema] = {
    **dict.fromkeys(("q", "supported_parameters", "input_modalities", "output_modalities"), _TEXT),
    **dict.fromkeys(("arch", "model_authors", "providers"), _TEXT),
    "zdr": {"enum": ["true"]},
    "region": {"enum": ["eu", "us"]},
    "context": {"type": "integer", "minimum": 0},
    **dict.fromkeys(("min_price", "max_price", "min_output_price", "max_output_price"), _PRICE),
    **dict.fromkeys(("min_age_days", "max_age_days"), _AGE),
    "sort": {"enum": list(openrouter_filters.SORTS)},
    "use_rss": {"enum": ["true", "false"]},
    **_PAGES,
}


_ROUTED_CHAT = Body(
    openai_wire.ChatBody,
    openrouter_request.CHAT_FIELDS,
    is_open=True,
    mixed=(openai_wire.CompletionBody, openai_wire.ChatBody, openrouter_request.OwnFields),
    defaults=_NEUTRAL,
)
_ROUTED_TEXT = Body(
    openai_wire.CompletionBody,
    openrouter_request.COMPLETION_FIELDS,
    is_open=True,
    mixed=(openai_wire.CompletionBody, openrouter_request.OwnFields),
)
_ROUTED_INPUTS = Body(
    openrouter_embeddings.RoutedEmbeddingsBody, openrouter_embeddings.FIELDS, is_open=True
)


def _openrouter() -> list[Operation]:
    wire, kinds = _OPENROUTER, openrouter_answers
    chat = {
        "answers": (kinds.RoutedCompletion, kinds.RoutedTextCompletion),
        "events": (kinds.RoutedChunk, kinds.RoutedTextCompletion),
    }
    text = {"answers": (kinds.RoutedTextCompletion,), "events": (kinds.RoutedTextCompletion,)}
    vectors = {"answers": (kinds.RoutedEmbeddings,)}
    return [
        post(wire, "/api/v1/chat/completions", "Answer a conversation.", _ROUTED_CHAT, **chat),
        post(wire, "/api/v1/completions", "Continue a text.", _ROUTED_TEXT, **text),
        post(wire, "/api/v1/embeddings", "Make vectors of texts.", _ROUTED_INPUTS, **vectors),
        *_openrouter_lists(),
    ]


def _openrouter_lists() -> list[Operation]:
    wire, listed, kinds = _OPENROUTER, _OPENROUTER_LIST, openrouter_answers
    models = {"query": _MODEL_FILTERS, "statuses": (400,), "text_types": (RSS,)}
    counted = {"query": {"output_modalities": _TEXT}}
    own = {"query": _PAGES, "statuses": (400, 401)}
    count, mine = "Count the served models.", "List the models that the caller's key may use."
    shown = "Show one model, also by an alias or with a variant."
    vectors = "List the models that make embeddings."
    paged = {"query": _PAGES, "statuses": (400,)}
    private = "List the hosts of all models that keep nothing."
    return [
        get(listed, "/api/v1/models", "List the served models.", kinds.RoutedModels, **models),
        get(listed, "/api/v1/models/count", count, kinds.ModelsCount, **counted),
        get(wire, "/api/v1/models/user", mine, kinds.RoutedModels, **own),
        get(listed, "/api/v1/embeddings/models", vectors, kinds.RoutedModels, **paged),
        get(listed, "/api/v1/endpoints/zdr", private, kinds.PrivateEndpoints),
        get(listed, "/api/v1/model/{model}", shown, kinds.OneRoutedModel, statuses=(404,)),
        get(
            listed,
            "/api/v1/models/{model}/endpoints",
            "Show the hosts of a model, and how they do.",
            kinds.RoutedEndpoints,
            statuses=(404,),
        ),
        get(listed, "/api/v1/providers", "List the hosts.", kinds.RoutedProviders),
    ]


def _files() -> list[Operation]:
    """OpenAI's files."""
    wire, one, page = _OPENAI, openai_files.FileWire, openai_files.FilesPage
    gone = openai_files.FileDeleted
    fields = {name: {"type": "string"} for name in openai_files.UPLOAD_FIELDS}
    form: Schema = {
        "type": "object",
        "properties": fields | {"file": {"type": "string", "format": "binary"}},
        "required": ["file", "purpose"],
        "additionalProperties": False,
    }
    upload = Body(schema=form, media_type="multipart/form-data")
    query = {"limit": _LIMIT, "after": _TEXT, "order": _TEXT, "purpose": _TEXT}
    content = {"media_type": "application/octet-stream", "statuses": (404, 503)}
    path = "/v1/files/{file_id}"
    return [
        post(wire, "/v1/files", "Take a file.", upload, answers=(one,)),
        get(wire, "/v1/files", "List files.", page, query=query, statuses=(400, 404, 503)),
        get(wire, path, "Show a file.", one, statuses=(404, 503)),
        Operation("DELETE", path, "Delete a file.", wire, (gone,), statuses=(404, 500, 503)),
        get(wire, path + "/content", "Read a file.", **content),
    ]


def _batches() -> list[Operation]:
    """OpenAI's batches."""
    wire, one, path = _OPENAI, openai_batches.BatchWire, "/v1/batches/{batch_id}"
    page, query = openai_batches.BatchesPage, {"limit": _LIMIT, "after": _TEXT}
    create = Body(openai_batches.CreateBody)
    return [
        post(wire, "/v1/batches", "Queue the requests of a file.", create, answers=(one,)),
        get(wire, "/v1/batches", "List batches.", page, query=query, statuses=(400, 404, 503)),
        get(wire, path, "Show a batch.", one, statuses=(404, 503)),
        Operation(
            "POST", path + "/cancel", "Stop a batch.", wire, (one,), statuses=(400, 404, 500, 503)
        ),
    ]


def _others() -> list[Operation]:
    return [
        get(
            _OPERATING, "/healthz", "Say whether every model answers.", Health,
            other_answers={503: Health},
        ),
        get(
            _OPERATING, "/metrics", "Give the metrics to Prometheus.", media_type=CONTENT_TYPE
        ),
        get(_OPERATING, "/openapi.json", "Give this document.", {"type": "object"}),
        get(_OPERATING, "/", "Say what is served.", media_type="text/plain; charset=utf-8"),
    ]  # fmt: skip


@cache
def openapi_json() -> bytes:
    """Give the document of all operations as JSON."""
    operations = [
        *_openai(),
        *_files(),
        *_batches(),
        *_openrouter(),
        *key_operations(),
        *statistics_operations(),
        *content_operations(),
        *conversation_operations(),
        *own_statistics_operations(),
        *cloudflare_operations(),
        *administration_operations(),
        *model_operations(),
        *_others(),
    ]
    return msgspec.json.encode(document(operations, __version__))
