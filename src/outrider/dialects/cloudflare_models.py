"""Workers AI's catalogue and token check: what the API edge itself answers, in its own envelope.

A model is listed under its own name and under every name of the service that stands for it. Pages
end with an empty one: clients ask until they get it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from outrider.dialects.cloudflare_schema import embedding_schema, text_schema
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.model_cards import ModelListing

Object = dict[str, Any]

SERVICE_PREFIX = "@cf/"
PER_PAGE, MAX_PER_PAGE = 50, 1000
_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "workers-ai.outrider")
# Ids and names are the service's.
_GENERATION = {
    "id": "c329a1f9-323d-4e91-b2aa-582dd4188d34",
    "name": "Text Generation",
    "description": "Models that answer conversations and continue texts.",
}
_EMBEDDINGS = {
    "id": "0137cdcf-162a-4108-94f2-1ca59e8c65ee",
    "name": "Text Embeddings",
    "description": "Models that turn texts into vectors.",
}


class Listed(NamedTuple):
    """A model and the names under which it is listed."""

    model: ModelListing
    names: tuple[str, ...]
    is_embedding: bool = False


def encode_search(models: Iterable[Listed], query: Mapping[str, str]) -> bytes:
    """Write one page of the models that a query's filters let through."""
    if "format" in query:
        raise UnsupportedParameter("format isn't offered; leave it out", "format")
    page = _number(query, "page", 1, 2**31)
    per_page = _number(query, "per_page", PER_PAGE, MAX_PER_PAGE)
    rows = [_row(listed, name) for listed in models for name in _names(listed)]
    rows = [row for row in rows if _passes(row, query)]
    shown = rows[(page - 1) * per_page : page * per_page]
    counts = {"page": page, "per_page": per_page, "total_count": len(rows)}
    return encode_result(shown, result_info={"count": len(shown), **counts})


def encode_schema(*, is_embedding: bool) -> bytes:
    """Write the JSON Schemas of a model's input and output."""
    return encode_result(embedding_schema() if is_embedding else text_schema())


def encode_token(owner: str, expires_s: int | None = None) -> bytes:
    """Say that a token is valid; its id is made from its hash."""
    message = {"code": 10000, "message": "This API Token is valid and active", "type": None}
    result = {"id": owner[:32], "status": "active"}
    if expires_s is not None:
        result["expires_on"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_s))
    return encode_result(result, [message])


def encode_result(result: object, messages: Iterable[Object] = (), **others: object) -> bytes:
    """Write what the edge answers; the order is the service's."""
    envelope = {"success": True, "errors": [], "messages": list(messages), "result": result}
    return msgspec.json.encode({**envelope, **others})


def _names(listed: Listed) -> list[str]:
    others = [name for name in listed.names if name.startswith(SERVICE_PREFIX)]
    return list(dict.fromkeys([listed.model.name, *sorted(others)]))


def _row(listed: Listed, name: str) -> Object:
    model = listed.model
    created = time.strftime("%Y-%m-%d %H:%M:%S.000", time.gmtime(model.created_s))
    description = "Served by Outrider." if name == model.name else f"Answered by {model.name}."
    values: Object = {
        "context_window": str(model.context_length) if model.context_length else "",
        "price": [] if listed.is_embedding else _prices(model),
        "function_calling": "true" if "tools" in model.supported_parameters else "",
        "vision": "true" if model.reads_images else "",
    }
    return {
        "id": str(uuid.uuid5(_IDS, name)),
        "source": 1,
        "name": name,
        "description": description,
        "task": _EMBEDDINGS if listed.is_embedding else _GENERATION,
        "created_at": created,
        "tags": [],
        "properties": [
            {"property_id": key, "value": value} for key, value in values.items() if value
        ],
    }


def _prices(model: ModelListing) -> list[Object]:
    """Give what the cheapest host takes; nothing for a model that is free."""
    price = model.cheapest.price
    units = {"per M input tokens": price.prompt, "per M output tokens": price.completion}
    if not any(units.values()):
        return []
    return [
        {"unit": unit, "price": microusd / 1_000_000, "currency": "USD"}
        for unit, microusd in units.items()
    ]


def _passes(row: Object, query: Mapping[str, str]) -> bool:
    """Say whether a model has what the filters ask for; nothing here is experimental or old."""
    text = query.get("search", "").lower()
    task = query.get("task", "").lower()
    author = query.get("author", "").lower()
    return (
        text in f"{row['name']} {row['description']}".lower()
        and task in ("", row["task"]["name"].lower(), row["task"]["id"])
        and author in ("", _author(row["name"]))
        and query.get("source", "1") in ("", "1")
    )


def _author(name: str) -> str:
    author, _, rest = name.removeprefix(SERVICE_PREFIX).partition("/")
    return author.lower() if rest else ""


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
        raise InvalidRequest(f"{name} must be a whole number from 1 to {most}", name)
    return int(text)
