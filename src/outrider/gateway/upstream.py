"""What is known of one remote provider, and how a request is put to it.

A kind fixes paths, wires and headers. What a wire can't carry is refused by name before anything
is sent, so that another provider can be asked; nothing is left out silently. The secret is in no
text that this module makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from outrider.dialects import openai, openrouter
from outrider.dialects.base import Dialect
from outrider.errors import UnsupportedParameter
from outrider.types import GenerationRequest, SamplingParams

Kind = Literal["openai", "openrouter"]


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a provider may take; a limit that is passed is a `ProviderTimeout`."""

    connect_s: float = 5.0
    first_event_s: float = 60.0  # of a stream, from the start on
    idle_s: float = 60.0  # of a stream, between events; comments are none
    total_s: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """One model at one remote provider."""

    kind: Kind
    name: str  # the provider's, in the settings
    display_name: str  # the provider's, as people read it
    base_url: str  # what the wire's paths follow, such as https://host/v1
    model: str  # what the provider calls the model
    secret: str = field(default="", repr=False)
    timeouts: Timeouts = Timeouts()

    def headers(self) -> dict[str, str]:
        """Give the headers of every request."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "outrider",
        }
        if self.secret:
            headers["authorization"] = f"Bearer {self.secret}"
        return headers


@dataclass(frozen=True)
class Call:
    """A request in the form in which a provider gets it."""

    dialect: Dialect
    url: str
    request: GenerationRequest

    def encode(self) -> bytes:
        """Write the body; raises `UnsupportedParameter` for what the wire can't carry."""
        return self.dialect.encode_request(self.request)


_DIALECTS: Mapping[Kind, tuple[Dialect, Dialect]] = {
    "openai": (openai.CHAT_COMPLETIONS, openai.COMPLETIONS),
    "openrouter": (openrouter.CHAT_COMPLETIONS, openrouter.COMPLETIONS),
}


def call_of(upstream: Upstream, request: GenerationRequest) -> Call:
    """Give the call of a request; raises `UnsupportedParameter` for what can't be asked there."""
    chat, text = _DIALECTS[upstream.kind]
    base = upstream.base_url.rstrip("/")
    if request.reject_if_busy:
        raise UnsupportedParameter(
            f"{upstream.display_name} can't be told to refuse when it is busy",
            "options.rejectIfBusy",
        )
    if request.prompts:
        return Call(text, f"{base}/completions", _with_defaults(request, upstream))
    return Call(chat, f"{base}/chat/completions", _with_defaults(request, upstream))


def _with_defaults(request: GenerationRequest, upstream: Upstream) -> GenerationRequest:
    """Name the model as the provider does, and send what the caller's wire sets by itself.

    The code of embedded functions stays here: this server runs it.
    """
    neutral = SamplingParams()
    own = {
        name
        for name in SamplingParams.__struct_fields__
        if getattr(request.sampling, name) != getattr(neutral, name)
    }
    return msgspec.structs.replace(
        request, model=upstream.model, given=request.given | own, functions=()
    )
