"""Whose fault a request's end was, by its status and the code of its error."""

from __future__ import annotations

from typing import Literal

from outrider.errors import (
    EngineFailed,
    EngineOverloaded,
    OutriderError,
    ProviderError,
    RequestError,
)
from outrider.metering.records import Closed

Origin = Literal["client", "gateway", "provider", "engine"]


def _codes(kind: type[OutriderError]) -> frozenset[str]:
    """Give the codes of a class and of all that are derived from it."""
    return frozenset({kind.code}).union(*map(_codes, kind.__subclasses__()))


_OF_CLIENTS = _codes(RequestError)
_OF_PROVIDERS = _codes(ProviderError)
_OF_ENGINES = _codes(EngineFailed) | _codes(EngineOverloaded)


def origin_of(closed: Closed) -> Origin | None:
    """Say whose fault it was; None if nothing went wrong. A client that left is at fault itself."""
    if closed.is_cancelled:
        return "client"
    code = closed.error_code
    if closed.status < 400 and not code:
        return None
    if code in _OF_CLIENTS:
        return "client"
    if code in _OF_PROVIDERS:
        return "provider"
    return "engine" if code in _OF_ENGINES else "gateway"
