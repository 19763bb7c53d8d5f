"""The errors that a stable code stands for, on the wires whose errors carry Outrider's codes.

Another Outrider says what went wrong by these; what only its texts know, such as counts of tokens,
isn't made up here.
"""

from __future__ import annotations

from outrider.errors import (
    Conflict,
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    NoEndpoints,
    NotFound,
    OutriderError,
    PayloadTooLarge,
    PaymentRequired,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    RequestTimeout,
    StorageError,
    Unauthorized,
    UnsupportedParameter,
)

BY_CODE: dict[str, type[OutriderError]] = {
    ContextLengthExceeded.code: InvalidRequest,
    **{
        kind.code: kind
        for kind in (
            InvalidRequest,
            UnsupportedParameter,
            ModelNotFound,
            NotFound,
            Conflict,
            PayloadTooLarge,
            RequestTimeout,
            Unauthorized,
            PaymentRequired,
            Forbidden,
            RateLimited,
            NoEndpoints,
            EngineOverloaded,
            EngineFailed,
            ProviderError,
            ProviderTimeout,
            ProviderRateLimited,
            ProviderUnavailable,
            ProviderDenied,
            StorageError,
        )
    },
}


def make_error(kind: type[OutriderError], message: str, param: str | None) -> OutriderError:
    """Make an error of a class that `BY_CODE` or a wire's table of statuses names."""
    if issubclass(kind, ProviderRateLimited):
        return kind(message, None)
    if issubclass(kind, RequestError) and not issubclass(kind, RateLimited):
        return kind(message, param)
    return kind(message)
