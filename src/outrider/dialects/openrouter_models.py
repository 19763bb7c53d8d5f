"""OpenRouter's catalogue: models, the hosts of each, and all hosts.

Prices are decimal strings in USD per token, request or image. A model's price is that of its
cheapest host, its context the longest of all. Shapes follow OpenRouter's OpenAPI file; its filters
and orders stand in `openrouter_filters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from email.utils import formatdate
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from outrider.dialects.openrouter_filters import select, whole_number
from outrider.model_cards import EndpointCard, HostCard, ModelFacts, ModelListing
from outrider.routing_types import Price

Object = dict[str, Any]

MAX_LIMIT, DEFAULT_LIMIT = 1000, 500
_DEFAULT_PARAMETERS = (
    "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "repetition_penalty",
)  # fmt: skip
_TOKENIZERS = {"llama-4": "Llama4", "llama-3": "Llama3", "llama-2": "Llama2"}
_PERCENTILES = ("p50", "p75", "p90", "p99")
DOWN = -5  # the service doesn't say what each of its statuses below 0 means


def encode_models(
    models: Iterable[ModelListing],
    query: Mapping[str, str],
    path: str,
    tokens: Mapping[str, int] | None = None,
) -> bytes:
    """Write the models that a query's filters let through; `path` is for the next page's link."""
    rows = select(models, query, tokens or {})
    begin, end = _page(query, len(rows))
    link = None
    if end < len(rows):
        link = f"{path}?{urlencode({**query, 'offset': end, 'limit': end - begin})}"
    return msgspec.json.encode(
        {
            "data": [encode_model(model) for model in rows[begin:end]],
            "links": {"next": link},
            "total_count": len(rows),
        }
    )


def encode_feed(
    models: Iterable[ModelListing],
    query: Mapping[str, str],
    address: str,
    tokens: Mapping[str, int] | None = None,
) -> bytes:
    """Write the same models as RSS 2.0; `address` is that of the server, where their pages are."""
    rows = select(models, query, tokens or {})
    begin, end = _page(query, len(rows))
    items = []
    for model in rows[begin:end]:
        name = escape("".join(c if c.isprintable() else "?" for c in model.name))
        link = escape(f"{address}/models/{quote(model.name)}")
        date = formatdate(model.created_s, usegmt=True)
        items.append(
            f"<item><title>{name}</title><link>{link}</link>"
            f'<guid isPermaLink="true">{link}</guid><pubDate>{date}</pubDate></item>'
        )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0"><channel>'
        f"<title>Outrider models</title><link>{escape(address)}/</link>"
        f"<description>The models that this server serves</description>{''.join(items)}"
        "</channel></rss>\n"
    ).encode()


def encode_count(models: Iterable[ModelListing], query: Mapping[str, str]) -> bytes:
    """Write how many models have an output of the wanted kinds."""
    wanted = {name: query[name] for name in ("output_modalities",) if name in query}
    return msgspec.json.encode({"data": {"count": len(select(models, wanted, {}))}})


def _page(query: Mapping[str, str], num_rows: int) -> tuple[int, int]:
    if "offset" not in query and "limit" not in query:
        return 0, num_rows
    begin = whole_number(query, "offset", 0, 0, 2**31)
    return begin, begin + whole_number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)


def encode_model(model: ModelListing) -> Object:
    """Write one model."""
    first = model.endpoints[0]
    defaults = {
        name: model.defaults[name] for name in _DEFAULT_PARAMETERS if name in model.defaults
    }
    return {
        "id": model.name,
        "canonical_slug": model.name,
        "name": model.name,
        "created": model.created_s,
        "description": "" if model.facts is None else model.facts.summary,
        "context_length": model.context_length,
        "architecture": _architecture(model),
        "pricing": _pricing(model.cheapest.price),
        "top_provider": {
            "context_length": first.context_length,
            "max_completion_tokens": first.max_output,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": sorted(model.supported_parameters),
        "default_parameters": defaults or None,
        "supported_voices": None,
        "links": {"details": f"/api/v1/models/{model.name}/endpoints"},
        **({} if model.facts is None else _published(model.facts)),
    }


def _published(facts: ModelFacts) -> Object:
    """Write what the service has fields for; its dates are whole days."""
    cutoff = facts.knowledge_cutoff
    return {
        "hugging_face_id": facts.hugging_face_id,
        "knowledge_cutoff": f"{cutoff}-01" if cutoff else None,
    }


def encode_endpoints(model: ModelListing, *, shows_speed: bool) -> bytes:
    """Write the hosts of a model; speeds are for callers that are known."""
    row = {
        "id": model.name,
        "name": model.name,
        "created": model.created_s,
        "description": "" if model.facts is None else model.facts.summary,
        "architecture": _architecture(model),
        "endpoints": [_endpoint(model, card, shows_speed=shows_speed) for card in model.endpoints],
    }
    return msgspec.json.encode({"data": row})


def encode_private_endpoints(models: Iterable[ModelListing], *, shows_speed: bool) -> bytes:
    """Write the hosts of all models that keep nothing."""
    rows = [
        _endpoint(model, card, shows_speed=shows_speed)
        for model in models
        for card in model.endpoints
        if card.host.has_zero_retention
    ]
    return msgspec.json.encode({"data": rows})


def encode_providers(hosts: Iterable[HostCard]) -> bytes:
    """Write all hosts."""
    rows = [
        {
            "name": host.name,
            "slug": host.slug,
            "privacy_policy_url": host.privacy_policy_url,
            "terms_of_service_url": host.terms_of_service_url,
            "status_page_url": host.status_page_url,
            "headquarters": host.headquarters,
            "datacenters": host.datacenters or None,
        }
        for host in hosts
    ]
    return msgspec.json.encode({"data": rows})


def _endpoint(model: ModelListing, card: EndpointCard, *, shows_speed: bool) -> Object:
    shown = card.shown
    latency_ms = {name: 1000 * value for name, value in shown.latency_s.items()}
    tag = card.host.slug
    if card.quantization != "unknown" and "/" not in tag:
        tag = f"{tag}/{card.quantization}"
    return {
        "name": f"{card.host.name}: {model.name}",
        "model_id": model.name,
        "model_name": model.name,
        "context_length": card.context_length or 0,  # the type has no word for unknown
        "pricing": _pricing(card.price),
        "provider_name": card.host.name,
        "tag": tag,
        "quantization": card.quantization,
        "max_completion_tokens": card.max_output,
        "max_prompt_tokens": card.context_length,
        "supported_parameters": sorted(card.supported_parameters),
        "status": 0 if shown.is_available else DOWN,
        "uptime_last_5m": _percent(shown.uptime_5m),
        "uptime_last_30m": _percent(shown.uptime_30m),
        "uptime_last_1d": _percent(shown.uptime_1d),
        "supports_implicit_caching": card.caches_prompts,
        "supports_voice_cloning": False,
        "latency_last_30m": _speeds(latency_ms) if shows_speed else None,
        "throughput_last_30m": _speeds(shown.throughput) if shows_speed else None,
    }


def _architecture(model: ModelListing) -> Object:
    inputs = ["text", "image"] if model.reads_images else ["text"]
    output = "embeddings" if model.makes_embeddings else "text"
    return {
        "modality": f"{'+'.join(inputs)}->{output}",
        "input_modalities": inputs,
        "output_modalities": [output],
        "tokenizer": tokenizer_of(model.name),
        "instruct_type": None,
    }


def tokenizer_of(name: str) -> str:
    """Give OpenRouter's word for the tokenizer of a model of this name."""
    lower = name.lower()
    return next((group for word, group in _TOKENIZERS.items() if word in lower), "Other")


def _pricing(price: Price) -> Object:
    pricing = {
        "prompt": _dollars(price.prompt, 1_000_000),
        "completion": _dollars(price.completion, 1_000_000),
        "request": _dollars(price.request),
        "image": _dollars(price.image),
    }
    if price.cached is not None:
        pricing["input_cache_read"] = _dollars(price.cached, 1_000_000)
    return pricing


def _dollars(microusd: int, units: int = 1) -> str:
    """Write a price per unit exactly, without an exponent."""
    if not microusd:
        return "0"
    digits = f"{Decimal(microusd) / (1_000_000 * units):f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


def _speeds(values: Mapping[str, float]) -> Object | None:
    return {name: round(values[name], 3) for name in _PERCENTILES} if values else None
