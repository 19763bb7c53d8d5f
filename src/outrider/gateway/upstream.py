"""What is known of one remote provider, and how a request is put to it.

A kind fixes paths, wires and headers. What a wire can't carry is refused by name before anything
is sent, so that another provider can be asked; nothing is left out silently. The secret is in no
text that this module makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

import msgspec
from msgspec.structs import astuple

from outrider.config_providers import Timeouts
from outrider.dialects import (
    cloudflare,
    cloudflare_openai,
    cloudflare_sampling,
    dataoorts,
    openai,
    openrouter,
)
from outrider.dialects.base import Dialect
from outrider.dialects.capabilities import Kind
from outrider.errors import UnsupportedParameter
from outrider.types import GenerationRequest, SamplingParams

NEUTRAL = SamplingParams()
# Only Workers AI's native endpoint documents these.
_NATIVE_ONLY = ("top_k", "repetition_penalty")


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """One model at one remote provider."""

    kind: Kind
    name: str  # the provider's, in the settings
    display_name: str  # the provider's, as people read it
    base_url: str  # what the wire's paths follow, such as https://host/v1
    model: str  # what the provider calls the model
    secret: str = field(default="", repr=False)
    max_output: int | None = None  # tokens of an answer; asked for where a wire's default is less
    timeouts: Timeouts = field(default_factory=Timeouts)

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


class Call(NamedTuple):
    """A request in the form in which a provider gets it."""

    dialect: Dialect
    url: str
    request: GenerationRequest

    def encode(self) -> bytes:
        """Write the body; raises `UnsupportedParameter` for what the wire can't carry."""
        return self.dialect.encode_request(self.request)


@contextmanager
def nothing_sent() -> Iterator[None]:
    """Note on what is refused inside that no provider has heard of it."""
    try:
        yield
    except UnsupportedParameter as error:
        error.was_sent = False
        raise


def call_of(upstream: Upstream, request: GenerationRequest) -> Call:
    """Give the call of a request; raises `UnsupportedParameter` for what can't be asked there."""
    # The code of embedded functions stays here: this server runs it.
    request = msgspec.structs.replace(
        request, model=upstream.model, functions=(), given=_sent(request)
    )
    return _CALLS[upstream.kind](upstream, request)


def _openai_call(upstream: Upstream, request: GenerationRequest) -> Call:
    return _shared_call(upstream, request, openai.CHAT_COMPLETIONS, openai.COMPLETIONS)


def _openrouter_call(upstream: Upstream, request: GenerationRequest) -> Call:
    return _shared_call(upstream, request, openrouter.CHAT_COMPLETIONS, openrouter.COMPLETIONS)


def _shared_call(
    upstream: Upstream, request: GenerationRequest, chat: Dialect, text: Dialect
) -> Call:
    if request.reject_if_busy:
        raise UnsupportedParameter(
            f"{upstream.display_name} can't be told to refuse when it is busy",
            "options.rejectIfBusy",
        )
    if request.prompts:
        return Call(text, f"{upstream.base_url.rstrip('/')}/completions", request)
    return Call(chat, f"{upstream.base_url.rstrip('/')}/chat/completions", request)


def _workers_ai_call(upstream: Upstream, request: GenerationRequest) -> Call:
    """Give conversations to the endpoint of OpenAI's kind, whose answers have finish reasons.

    Prompts, and what only the native endpoint documents, go there. Schemas go with whole answers:
    the service has no streams of them.
    """
    base = upstream.base_url.rstrip("/")
    sent = request.given
    native = _native_request(upstream, request, cloudflare_sampling.DEFAULTS)
    is_native = bool(request.prompts) or any(name in sent for name in _NATIVE_ONLY)
    if is_native:
        dialect = cloudflare.WorkersAi(max_tokens=native.sampling.max_tokens)
        return Call(dialect, f"{base}/ai/run/{quote(upstream.model, safe='/@:')}", native)
    # Both endpoints take the same values, and the native one's codec knows which.
    cloudflare.check_carried(native)
    sampling = _with_limit(upstream, request)
    chat = msgspec.structs.replace(
        request,
        sampling=sampling,
        given=sent if sampling.max_tokens is None else sent | {"max_tokens"},
        prediction="",
        stream=native.stream,
    )
    return Call(cloudflare_openai.CHAT_COMPLETIONS, f"{base}/ai/v1/chat/completions", chat)


def _dataoorts_call(upstream: Upstream, request: GenerationRequest) -> Call:
    """Ask for a whole answer, since the service has no streams."""
    native = _native_request(upstream, request, dataoorts.DEFAULTS)
    if native.reject_if_busy:
        raise UnsupportedParameter(
            f"{upstream.display_name} can't be told to refuse when it is busy",
            "options.rejectIfBusy",
        )
    native = msgspec.structs.replace(native, stream=False)
    wire = dataoorts.Dataoorts(native.sampling.max_tokens)
    return Call(wire, upstream.base_url, native)


def _native_request(
    upstream: Upstream, request: GenerationRequest, defaults: SamplingParams
) -> GenerationRequest:
    """Leave to the service what the caller leaves to it; it has its own defaults."""
    sampling = _with_limit(upstream, request)
    left = {name: getattr(defaults, name) for name in _FIELDS if name not in request.given}
    if sampling.max_tokens is not None:
        left.pop("max_tokens", None)
    return msgspec.structs.replace(
        request,
        sampling=msgspec.structs.replace(sampling, **left),
        stream=request.stream and request.grammar is None,
    )


def _with_limit(upstream: Upstream, request: GenerationRequest) -> SamplingParams:
    """Ask for all that the model gives where the caller sets no limit: the service cuts early."""
    if request.sampling.max_tokens is not None:
        return request.sampling
    return msgspec.structs.replace(request.sampling, max_tokens=upstream.max_output)


def _sent(request: GenerationRequest) -> frozenset[str]:
    """Give the sampling fields that the caller sent, and those that its wire sets by itself."""
    sampling = request.sampling
    if sampling == NEUTRAL:
        return request.given
    values = zip(_FIELDS, astuple(sampling), _NEUTRAL_VALUES, strict=True)
    return request.given.union([name for name, value, neutral in values if value != neutral])


_FIELDS, _NEUTRAL_VALUES = SamplingParams.__struct_fields__, astuple(NEUTRAL)
_CALLS: Mapping[Kind, Callable[[Upstream, GenerationRequest], Call]] = {
    "openai": _openai_call,
    "openrouter": _openrouter_call,
    "workers-ai": _workers_ai_call,
    "dataoorts": _dataoorts_call,
}
