"""Which endpoints may answer a request, and in which order they are asked.

First those go that can't or may not answer, each with a reason by OpenRouter's name for it. The
rest are ordered as the request says; if it says nothing, stable ones come first, and cheap ones
more often: by 1/price². Nobody is asked here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from outrider.errors import NoEndpoints
from outrider.gateway.call_quality import tiers
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health
from outrider.routing_types import MaxPrice, Price, Routing, SortBy
from outrider.types import GenerationRequest

_PRICES = ("prompt", "completion", "request", "image")
_ANY_OBJECT = '{"type":"object"}'  # the schema of JSON mode
_HIDDEN_CHARS = 200
_ANY_PRICE = Routing().max_price


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints of one model, and what its name says about them."""

    model: str
    endpoints: Sequence[Endpoint]
    is_free_only: bool = False
    sort: SortBy | None = None


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a request needs of whom it is sent to."""

    features: frozenset[str] = frozenset()  # without them the answer would be another one
    parameters: frozenset[str] = frozenset()  # what was sent, by OpenRouter's names
    has_images: bool = False
    has_choices: bool = False
    prompt_tokens: int = 0
    max_tokens: int = 0

    @classmethod
    def of(cls, request: GenerationRequest, prompt_tokens: int) -> Needs:
        """Read them out of a request."""
        features = set[str]()
        if request.tools:
            features.add("tools")
        if request.grammar is not None:
            is_json_mode = request.grammar.source == _ANY_OBJECT
            features.add("response_format" if is_json_mode else "structured_outputs")
        if request.sampling.logprobs is not None:
            features.add("logprobs")
        parameters = features | (request.given - {"n"})
        if request.tools and request.tool_choice != "auto":
            parameters.add("tool_choice")
        if request.prediction:
            parameters.add("prediction")
        return cls(
            features=frozenset(features),
            parameters=frozenset(parameters),
            has_images=any(message.images for message in request.messages),
            has_choices=request.sampling.n > 1,
            prompt_tokens=prompt_tokens,
            max_tokens=request.sampling.max_tokens or 0,
        )


def select(
    candidates: Candidates, needs: Needs, routing: Routing, *, health: Health, is_local_first: bool
) -> list[Endpoint]:
    """Give who is asked, best first; raises `NoEndpoints` with who is out and why."""
    allowed: list[Endpoint] = []
    reasons: dict[str, str] = {}
    local: list[Endpoint] = []
    for endpoint in candidates.endpoints:
        reason = _reason_against(endpoint, candidates, routing)
        if not reason and endpoint.host.is_local:
            local.append(endpoint)
        reason = reason or _lack(endpoint, needs, routing)
        if reason:
            reasons[endpoint.host.name] = reason
        else:
            allowed.append(endpoint)
    if not allowed and not routing.require_parameters:
        allowed = local  # our own engine says by the field's path what it can't do
    if not allowed:
        raise no_endpoints(candidates.model, reasons)
    sort = sort_of(candidates, needs, routing)
    ordered = arrange(_fitting(allowed, needs), routing, sort, health)
    if is_local_first and not routing.order and sort is None:
        ordered.sort(key=lambda endpoint: not endpoint.host.is_local)
    return ordered


def sort_of(candidates: Candidates, needs: Needs, routing: Routing) -> SortBy | None:
    """Give by what a model's endpoints are sorted: what its name says goes first."""
    sort = candidates.sort or routing.sort
    if sort == "exacto" and "tools" not in needs.features:
        return None  # there are no calls that could be good or bad
    return sort


def no_endpoints(model: str, reasons: Mapping[str, str]) -> NoEndpoints:
    """Make the error for a model that nobody may answer for."""
    # OpenRouter's clients look for its first words.
    why = "; ".join(f"{host} is out by {reason}" for host, reason in reasons.items())
    shown = "".join(c if c.isprintable() else "?" for c in model[:_HIDDEN_CHARS])
    return NoEndpoints(f"No endpoints found for {shown}: {why}; ask for less", "provider")


def arrange(
    endpoints: Sequence[Endpoint], routing: Routing, sort: SortBy | None, health: Health
) -> list[Endpoint]:
    """Put endpoints in the order in which they are asked."""
    if len(endpoints) < 2:  # most requests: nothing to look up or draw
        return list(endpoints)
    if routing.order:
        listed = [_position(endpoint, routing.order) for endpoint in endpoints]
        pairs = sorted(zip(listed, range(len(endpoints)), strict=True))
        ordered = [endpoints[at] for place, at in pairs if place < len(routing.order)]
        if not routing.allow_fallbacks:
            return ordered
        rest = [endpoints[at] for place, at in pairs if place == len(routing.order)]
        return ordered + arrange(rest, _without_order(routing), sort, health)
    ordered = sorted(endpoints, key=_sorting(sort, health))
    if sort == "exacto":
        ranks = tiers([health.call_quality(endpoint) for endpoint in ordered])
        order = sorted(range(len(ordered)), key=lambda at: ranks[at])
        ordered = [ordered[at] for at in order]
    if routing.min_throughput or routing.max_latency_s:
        ordered.sort(key=lambda endpoint: not _is_fast(endpoint, routing, health))
    return ordered


def matches(endpoint: Endpoint, wanted: str) -> bool:
    """Say whether a host is meant: by name, display name, or name and quantization.

    A name without what follows a slash means all that begin with it, as at OpenRouter.
    """
    name, wanted = endpoint.host.name, wanted.lower()
    return wanted in (
        name,
        name.partition("/")[0],
        endpoint.host.display_name.lower(),
        f"{name}/{endpoint.quantization}",
    )


def _reason_against(endpoint: Endpoint, candidates: Candidates, routing: Routing) -> str:
    """Give the wish that keeps a host out."""
    host = endpoint.host
    if routing.only and not any(matches(endpoint, name) for name in routing.only):
        return "only"
    if any(matches(endpoint, name) for name in routing.ignore):
        return "ignore"
    is_listed = any(matches(endpoint, name) for name in routing.order)
    if routing.order and not routing.allow_fallbacks and not is_listed:
        return "order without allow_fallbacks"
    if routing.denies_data_collection and host.collects_data:
        return "data_collection"
    if routing.requires_zero_retention and not host.has_zero_retention:
        return "zdr"
    if routing.quantizations and endpoint.quantization not in routing.quantizations:
        return "quantizations"
    if routing.max_price is not _ANY_PRICE and _is_too_dear(endpoint.price, routing.max_price):
        return "max_price"
    if candidates.is_free_only and not _is_free(endpoint.price):
        return ":free"
    return ""


def _lack(endpoint: Endpoint, needs: Needs, routing: Routing) -> str:
    """Give what the request needs and a host doesn't have."""
    if needs.has_images and not endpoint.reads_images:
        return "its images"
    if needs.has_choices and not endpoint.has_choices:
        return "n"
    wanted = needs.parameters if routing.require_parameters else needs.features
    for name in sorted(wanted):
        if not endpoint.supports(name):
            return name if name in needs.features else f"require_parameters with {name}"
    return ""


def _fitting(endpoints: Sequence[Endpoint], needs: Needs) -> Sequence[Endpoint]:
    """Leave out where the prompt or the answer don't fit; if they fit nowhere, where they fit less.

    The prompt may only be estimated: whoever has most room decides.
    """

    def room(endpoint: Endpoint) -> float:
        return math.inf if endpoint.context_length is None else endpoint.context_length

    def takes_answer(endpoint: Endpoint) -> bool:
        return endpoint.max_output is None or needs.max_tokens <= endpoint.max_output

    if len(endpoints) == 1:
        return endpoints
    total = needs.prompt_tokens + needs.max_tokens
    tests: tuple[Callable[[Endpoint], bool], ...] = (
        lambda endpoint: total <= room(endpoint) and takes_answer(endpoint),
        lambda endpoint: needs.prompt_tokens < room(endpoint) and takes_answer(endpoint),
        lambda endpoint: needs.prompt_tokens < room(endpoint),
    )
    for test in tests:
        if fitting := [endpoint for endpoint in endpoints if test(endpoint)]:
            return fitting
    most = max(map(room, endpoints))
    return [endpoint for endpoint in endpoints if room(endpoint) == most]


def _sorting(
    sort: SortBy | None, health: Health
) -> Callable[[Endpoint], tuple[bool | float, float]]:
    match sort:
        case "price":
            return lambda endpoint: (_price(endpoint), 0.0)
        case "throughput":
            return lambda endpoint: (-health.throughput(endpoint).get("p50", 0.0), _price(endpoint))
        case "latency":
            return lambda endpoint: (
                health.latency_s(endpoint).get("p50", math.inf),
                _price(endpoint),
            )
    return lambda endpoint: (not health.is_stable(endpoint), _draw(_price(endpoint)))


def _draw(price: float) -> float:
    """Draw a number whose order among others is random, weighted by 1/price².

    Efraimidis and Spirakis, Weighted random sampling with a reservoir (2006): -ln(u)/weight.
    """
    number = random.random()
    return -math.log(1.0 - number) * price**2 if price else number - 1.0  # free ones first


def _price(endpoint: Endpoint) -> float:
    """Give one price for prompt and answer."""
    return endpoint.price.prompt + endpoint.price.completion


def _is_free(price: Price) -> bool:
    return not any(getattr(price, name) for name in _PRICES)


def _is_too_dear(price: Price, most: MaxPrice) -> bool:
    limits = ((getattr(price, name), getattr(most, name)) for name in _PRICES)
    return any(limit is not None and taken > limit for taken, limit in limits)


def _position(endpoint: Endpoint, order: Sequence[str]) -> int:
    return next((at for at, name in enumerate(order) if matches(endpoint, name)), len(order))


def _without_order(routing: Routing) -> Routing:
    return Routing(min_throughput=routing.min_throughput, max_latency_s=routing.max_latency_s)


def _is_fast(endpoint: Endpoint, routing: Routing, health: Health) -> bool:
    """Say whether a host isn't known to be slower than was asked."""
    throughput, latency_s = health.throughput(endpoint), health.latency_s(endpoint)
    return all(
        throughput.get(name, math.inf) >= least for name, least in routing.min_throughput.items()
    ) and all(latency_s.get(name, 0.0) <= most for name, most in routing.max_latency_s.items())
