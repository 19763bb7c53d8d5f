"""Which models a query of OpenRouter's catalogue lets through, and in what order.

Filters and orders by what isn't known here (benchmarks, use cases) change nothing, as those of the
service do for models without such a score. A value that can't be read is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping

from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.ledger_types import DAY_S
from outrider.model_cards import EndpointCard, ModelListing

_UNKNOWN_SORTS = (
    "intelligence-high-to-low", "coding-high-to-low", "agentic-high-to-low",
    "design-arena-elo-high-to-low",
)  # fmt: skip
# Orders by tokens that were used, and of how many days.
POPULAR = {"top-weekly": 7, "most-popular": 30}


def _price(model: ModelListing) -> float:
    price = model.cheapest.price
    return (price.prompt + price.completion) / 2


def _latency(card: EndpointCard) -> float:
    return card.shown.latency_s.get("p50", math.inf)


def _throughput(card: EndpointCard) -> float:
    return card.shown.throughput.get("p50", 0.0)


_SORTS: dict[str, Callable[[ModelListing], float]] = {
    "newest": lambda model: -model.created_s,
    "pricing-low-to-high": _price,
    "pricing-high-to-low": lambda model: -_price(model),
    "context-high-to-low": lambda model: -(model.context_length or 0),
    "throughput-high-to-low": lambda model: -max(map(_throughput, model.endpoints)),
    "latency-low-to-high": lambda model: min(map(_latency, model.endpoints)),
}
SORTS = (*_SORTS, *POPULAR, *_UNKNOWN_SORTS)


def select(
    models: Iterable[ModelListing], query: Mapping[str, str], tokens: Mapping[str, int]
) -> list[ModelListing]:
    """Give the models that a query wants, in its order; raises `InvalidRequest`.

    `tokens` are what the models used, as an order in `POPULAR` wants to know.
    """
    sort = query.get("sort", "")
    if sort and sort not in SORTS:
        raise InvalidRequest(f"sort must be one of {', '.join(SORTS)}", "sort")
    if is_set(query, "distillable"):
        raise UnsupportedParameter(
            "distillable is true, and nothing here knows which models may be distilled; choose the "
            "model by its licence",
            "distillable",
        )
    passes = [_models_of(query), _endpoints_of(query), _ranges_of(query, time.time())]
    found = [model for model in models if all(test(model) for test in passes)]
    if sort in POPULAR:
        return sorted(found, key=lambda model: -tokens.get(model.name, 0))
    return sorted(found, key=_SORTS[sort]) if sort in _SORTS else found


Test = Callable[[ModelListing], bool]


def _models_of(query: Mapping[str, str]) -> Test:
    """Give the test of what a model is."""
    text = query.get("q", "").lower()
    parameters = _words(query, "supported_parameters")
    inputs = _words(query, "input_modalities")
    outputs = _words(query, "output_modalities") or {"text"}
    authors = {word.lower() for word in _words(query, "model_authors")}
    family = query.get("arch", "").lower()

    def passes(model: ModelListing) -> bool:
        author = model.name.partition("/")[0].lower() if "/" in model.name else ""
        return (
            text in model.name.lower()
            and parameters <= model.supported_parameters
            and inputs <= ({"text", "image"} if model.reads_images else {"text"})
            and bool(outputs & {"embeddings" if model.makes_embeddings else "text", "all"})
            and (not authors or author in authors)
            and family in model.name.lower()
        )

    return passes


def _endpoints_of(query: Mapping[str, str]) -> Test:
    """Give the test of who answers for a model: one host has to have it all."""
    providers = {word.lower() for word in _words(query, "providers")}
    zdr, region = query.get("zdr", ""), query.get("region", "")
    if zdr not in ("", "true"):
        raise InvalidRequest("zdr must be true, or be left out", "zdr")
    if region not in ("", "eu", "us"):
        raise InvalidRequest("region must be eu or us", "region")

    def passes(model: ModelListing) -> bool:
        return any(
            (not providers or {card.host.slug, card.host.name.lower()} & providers)
            and (not zdr or card.host.has_zero_retention)
            and region in ("", card.host.region)
            for card in model.endpoints
        )

    return passes


def _ranges_of(query: Mapping[str, str], now_s: float) -> Test:
    """Give the test of numbers."""
    context = whole_number(query, "context", 0, 0, 2**53)
    prompt = _number(query, "min_price", 0), _number(query, "max_price", math.inf)
    output = _number(query, "min_output_price", 0), _number(query, "max_output_price", math.inf)
    days = (
        whole_number(query, "min_age_days", 0, 0, 10**6),
        whole_number(query, "max_age_days", 10**6, 0, 10**6),
    )

    def passes(model: ModelListing) -> bool:
        price = model.cheapest.price
        age = (now_s - model.created_s) / DAY_S
        return (
            (model.context_length or 0) >= context
            and prompt[0] <= price.prompt / 1_000_000 <= prompt[1]
            and output[0] <= price.completion / 1_000_000 <= output[1]
            and days[0] <= age <= days[1]
        )

    return passes


def is_set(query: Mapping[str, str], name: str) -> bool:
    """Read a switch of a query; raises `InvalidRequest`."""
    value = query.get(name, "")
    if value not in ("", "true", "false"):
        raise InvalidRequest(f"{name} must be true or false", name)
    return value == "true"


def _words(query: Mapping[str, str], name: str) -> set[str]:
    return {word.strip() for word in query.get(name, "").split(",") if word.strip()}


def whole_number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Read a number of a query; raises `InvalidRequest` for one that is none or out of range."""
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 17 or not low <= int(text) <= high:
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}", name)
    return int(text)


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(query.get(name) or default)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value < 0:
        raise InvalidRequest(f"{name} must be a number of at least 0", name)
    return value
