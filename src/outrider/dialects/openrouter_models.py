"""OpenRouter's catalogue: the list of models with what each can do, and its filters.

Prices are decimal strings in USD per token; a model that runs here costs nothing. Filters by what
isn't known here (benchmarks, hosts, popularity) change nothing. Shapes follow OpenRouter's OpenAPI
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from outrider.errors import InvalidRequest
from outrider.types import ModelCard

Object = dict[str, Any]

MAX_LIMIT, DEFAULT_LIMIT = 1000, 500
SUPPORTED_PARAMETERS = (
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "min_p",
    "parallel_tool_calls", "presence_penalty", "repetition_penalty", "response_format", "seed",
    "stop", "structured_outputs", "temperature", "tool_choice", "tools", "top_a", "top_k",
    "top_logprobs", "top_p",
)  # fmt: skip
_DEFAULT_PARAMETERS = (
    "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "repetition_penalty",
)  # fmt: skip
_TOKENIZERS = {"llama-4": "Llama4", "llama-3": "Llama3", "llama-2": "Llama2"}


def encode_models(cards: Iterable[ModelCard], query: Mapping[str, str], path: str) -> bytes:
    """Write the models that a query's filters let through; `path` is for the next page's link."""
    rows = [card for card in cards if _passes(card, query)]
    begin, end = 0, len(rows)
    if "offset" in query or "limit" in query:
        begin = _whole_number(query, "offset", 0, 0, 2**31)
        end = begin + _whole_number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    link = None
    if end < len(rows):
        link = f"{path}?{urlencode({**query, 'offset': end, 'limit': end - begin})}"
    return msgspec.json.encode(
        {
            "data": [encode_model(card) for card in rows[begin:end]],
            "links": {"next": link},
            "total_count": len(rows),
        }
    )


def encode_model(card: ModelCard) -> Object:
    """Write one model."""
    inputs = ["text", "image"] if card.reads_images else ["text"]
    defaults = {name: card.defaults[name] for name in _DEFAULT_PARAMETERS if name in card.defaults}
    lower = card.name.lower()
    tokenizer = next((group for word, group in _TOKENIZERS.items() if word in lower), "Other")
    return {
        "id": card.name,
        "canonical_slug": card.name,
        "name": card.name,
        "created": card.created_s,
        "description": "",
        "context_length": card.context_length,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": inputs,
            "output_modalities": ["text"],
            "tokenizer": tokenizer,
            "instruct_type": None,
        },
        "pricing": {"prompt": "0", "completion": "0", "request": "0", "image": "0"},
        "top_provider": {
            "context_length": card.context_length,
            "max_completion_tokens": None,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": list(SUPPORTED_PARAMETERS),
        "default_parameters": defaults or None,
        "supported_voices": None,
        "links": {"details": f"/api/v1/models/{card.name}/endpoints"},
    }


def _passes(card: ModelCard, query: Mapping[str, str]) -> bool:
    row = encode_model(card)
    kinds = _words(query.get("output_modalities", "text"))
    context = _whole_number(query, "context", 0, 0, 2**53)
    return (
        query.get("q", "").lower() in card.name.lower()
        and _words(query.get("supported_parameters", "")) <= set(SUPPORTED_PARAMETERS)
        and _words(query.get("input_modalities", ""))
        <= set(row["architecture"]["input_modalities"])
        and bool(kinds & {"text", "all"})
        and (card.context_length or 0) >= context
        and all(_number(query, name) <= 0 for name in ("min_price", "min_output_price"))
    )


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",") if word.strip()}


def _whole_number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 17 or not low <= int(text) <= high:
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}", name)
    return int(text)


def _number(query: Mapping[str, str], name: str) -> float:
    try:
        return float(query.get(name) or 0)
    except ValueError:
        raise InvalidRequest(f"{name} must be a number", name) from None
