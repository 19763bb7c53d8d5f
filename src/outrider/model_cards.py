"""What the catalogues of the wires show: models, the hosts that answer for them, and how they do.

Facts only, in the domain's units; wires write them in their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from outrider.routing_types import Price
from outrider.types import ImageTiles


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody measured of a model, as published; never measured or guessed here."""

    benchmark: str
    score: float
    unit: str = "%"
    setting: str = ""  # which weights and how they were asked
    source: str  # a number without one isn't shown


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model wherever it runs; None or empty where nothing was published."""

    title: str
    author: str
    summary: str
    license: str
    license_url: str
    released: str | None = None  # YYYY-MM-DD
    hugging_face_id: str
    source: str  # where all of this was published
    knowledge_cutoff: str | None = None  # YYYY-MM
    parameters: int | None = None
    active_parameters: int | None = None  # for each token, where only some of them work
    architecture: str = ""
    trained_context: int | None = None
    trained_tokens: int | None = None
    languages: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    strengths: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class HostCard(msgspec.Struct, frozen=True, kw_only=True):
    """One host; addresses and countries are as its operator wrote them."""

    slug: str
    name: str
    collects_data: bool = False
    has_zero_retention: bool = True
    region: str | None = None
    privacy_policy_url: str | None = None
    terms_of_service_url: str | None = None
    status_page_url: str | None = None
    headquarters: str | None = None
    datacenters: tuple[str, ...] = ()


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint has shown lately; None, or nothing in a mapping, while it isn't known."""

    is_available: bool = True
    uptime_5m: float | None = None  # shares of good answers
    uptime_30m: float | None = None
    uptime_1d: float | None = None
    latency_s: Mapping[str, float] = {}  # p50, p75, p90 and p99 of half an hour
    throughput: Mapping[str, float] = {}  # tokens per second


class EndpointCard(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one host."""

    host: HostCard
    price: Price = Price()
    context_length: int | None = None
    max_output: int | None = None
    quantization: str = "unknown"
    supported_parameters: frozenset[str] = frozenset()  # OpenRouter's names
    reads_images: bool = False
    caches_prompts: bool = False  # by itself, for less money or time
    shown: Shown = Shown()


class ModelListing(msgspec.Struct, frozen=True, kw_only=True):
    """One model at all its hosts; the first is asked by default, and one that generates has one."""

    name: str
    endpoints: tuple[EndpointCard, ...]
    created_s: int = 0
    defaults: Mapping[str, float] = {}  # its own sampling defaults
    makes_embeddings: bool = False  # and no text
    facts: ModelFacts | None = None  # for a model that is recognised by its name
    image_tiles: ImageTiles | None = None  # of the model that runs here

    @property
    def context_length(self) -> int | None:
        """The longest context of all hosts."""
        known = [card.context_length for card in self.endpoints if card.context_length]
        return max(known, default=None)

    @property
    def reads_images(self) -> bool:
        """Whether any host takes images."""
        return any(card.reads_images for card in self.endpoints)

    @property
    def supported_parameters(self) -> frozenset[str]:
        """What any host supports."""
        return frozenset().union(*(card.supported_parameters for card in self.endpoints))

    @property
    def cheapest(self) -> EndpointCard:
        """The host with the lowest price of a prompt's and an answer's token together."""
        return min(self.endpoints, key=lambda card: card.price.prompt + card.price.completion)
