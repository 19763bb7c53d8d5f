"""One model at one host: what it takes and costs, what it can do, and who answers for it.

Facts only, as the settings or the local engine state them; how the endpoint is doing stands in
`health`. A host is what OpenRouter calls a provider: `Provider` here is what makes the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from outrider.gateway.provider import Provider
from outrider.routing_types import Price
from outrider.types import GenerationRequest

LOCAL = "local"  # the name of this server as a host of its own engine
FREE = Price()


@dataclass(frozen=True, kw_only=True)
class Host:
    """A configured provider: whose machines these are and what it does with the data."""

    name: str = LOCAL  # in the settings, and in the header of attempts
    display_name: str = "Outrider"  # in answers
    is_local: bool = True  # an engine of this server; has a supervisor and needs no breaker
    collects_data: bool = False  # may store prompts or train on them
    has_zero_retention: bool = True
    base_url: str = ""  # empty: this server
    max_concurrent: int | None = None  # requests that run at a time; None: no limit
    requests_per_minute: int | None = None
    region: str | None = None  # where data stays: eu or us
    privacy_policy_url: str | None = None
    terms_of_service_url: str | None = None
    status_page_url: str | None = None
    headquarters: str | None = None  # codes of countries
    datacenters: tuple[str, ...] = ()


class PromptCounter(Protocol):
    """Knows the tokenizer of a model."""

    async def count(self, request: GenerationRequest) -> int:
        """Give the number of tokens of a request's prompts, exactly."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Endpoint:
    """One model at one host; two with equal `key` are the same one before and after a reload."""

    host: Host
    model: str  # what clients name
    provider: Provider
    upstream_model: str = ""  # what the host calls it; empty: the same
    price: Price = FREE
    context_length: int | None = None  # tokens of prompt and answer; None: the host will say
    max_output: int | None = None  # tokens of an answer
    quantization: str = "unknown"
    # By OpenRouter's names, such as `tools` and `structured_outputs`; None: all that there are.
    supported_parameters: frozenset[str] | None = None
    reads_images: bool = True
    has_choices: bool = True  # several answers to one request
    counter: PromptCounter | None = None  # None: prompts are estimated

    @property
    def key(self) -> tuple[str, str]:
        """What the endpoint's health is kept under."""
        return self.host.name, self.model

    def supports(self, parameter: str) -> bool:
        """Say whether the host honours a parameter."""
        return self.supported_parameters is None or parameter in self.supported_parameters
