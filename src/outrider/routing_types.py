"""What a caller may ask of routing, and what is noted of a request on its way.

Wires fill `Routing`; the router honours it and writes `Trace`; metering reads the trace. Money is
counted in whole millionths of a US dollar (microusd), prices per million tokens: a price of $0.08
per million tokens is 80,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

Percentile = Literal["p50", "p75", "p90", "p99"]
SortBy = Literal["price", "throughput", "latency", "exacto"]
KeyKind = Literal["inference", "management"]


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a host takes, in microusd: per million tokens, per request, per image."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None  # of a prompt's cached tokens; None: as `prompt`
    request: int = 0
    image: int = 0


class MaxPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a host may take at most; None: anything. Units are those of `Price`."""

    prompt: int | None = None
    completion: int | None = None
    request: int | None = None
    image: int | None = None


class WantedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model that may answer, and what its suffixes ask for."""

    names: tuple[str, ...]  # as it was sent, then without its suffixes, one after the other
    is_free_only: bool = False  # :free, unless a model has that very name
    sort: SortBy | None = None  # :nitro, :floor and :exacto; None: as `Routing` says


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request may go; the defaults let it go anywhere (OpenRouter's `provider` object)."""

    models: tuple[WantedModel, ...] = ()  # best first; empty: as the request's names say
    order: tuple[str, ...] = ()  # hosts to try first, in this order; then no balancing
    only: tuple[str, ...] = ()  # no other hosts
    ignore: tuple[str, ...] = ()  # not these hosts
    allow_fallbacks: bool = True
    require_parameters: bool = False  # only hosts that know every parameter that was sent
    denies_data_collection: bool = False
    requires_zero_retention: bool = False
    quantizations: tuple[str, ...] = ()
    sort: SortBy | None = None
    sorts_across_models: bool = False  # `partition: none`
    max_price: MaxPrice = MaxPrice()
    # Hosts that miss these come later; tokens per second, and seconds to the first token.
    min_throughput: dict[Percentile, float] = {}
    max_latency_s: dict[Percentile, float] = {}
    session: str = ""  # requests of one session stay with one host


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One host's try at a request."""

    provider: str  # the host's name in the settings
    model: str
    status: int  # as HTTP has it; 200 is an answer, 0 none at all
    error_code: str = ""
    duration_ms: int = 0
    upstream_id: str = ""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends a request; `key` is the SHA-256 of the key, in hex, empty without one."""

    key: str = ""
    kind: KeyKind = "inference"
    name: str = ""
    allowed_models: tuple[str, ...] = ()  # empty: all
    io_logging: bool = False  # prompts and answers are kept
    app_url: str = ""  # HTTP-Referer: the identity of an app
    app_title: str = ""
    app_categories: tuple[str, ...] = ()  # what the app says it is
    user_agent: str = ""
    # Whose files, batches and cached prompts these are: SHA-256 of the token, known or not.
    owner: str = ""

    def may_use(self, names: Iterable[str]) -> bool:
        """Say whether the caller may use a model that has these names."""
        return not self.allowed_models or any(name in self.allowed_models for name in names)


class AttemptSpan(Protocol):
    """One try, for who follows requests over several machines."""

    headers: dict[str, str]  # what the host is told

    def end(self, attempt: Attempt, tokens: tuple[int, int] | None, reasons: Sequence[str]) -> None:
        """Say what came of it: tokens of prompt and answer if it is complete, finish reasons."""
        ...


class Spans(Protocol):
    """Takes the tries of one request."""

    def attempt(self, provider: str, model: str, base_url: str) -> AttemptSpan:
        """Begin a try; the model is named as the host calls it."""
        ...


class Trace:
    """What is noted of one request while it is routed; belongs to that request alone."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.provider = ""  # of the attempt that answers; empty until one is under way
        self.model = ""
        self.price = Price()
        self.sized: tuple[object, tuple[int, int]] | None = None  # a request and its tokens' range
        self.prompt_tokens_estimate = 0  # counted before the request was sent
        self.first_event_s: float | None = None  # after the attempt that answers began
        self.spans: Spans | None = None  # None: nobody follows
