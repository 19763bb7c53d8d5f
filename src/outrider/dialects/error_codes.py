"""The errors that a stable code stands for, on the wires whose errors carry Outrider's codes.

Another Outrider says what went wrong by these; what only its texts know, such as counts of tokens,
isn't made up here.
"""

from __future__ import annotations

import re

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


# Only the message holds the counts of a `ContextLengthExceeded`; without them it is read as its
# base class.
_COUNTS = re.compile(r"prompt has (\d[\d,]{0,24}) tokens but max_model_len is (\d[\d,]{0,24}) ")


def read_error(
    code: str, by_status: type[OutriderError], message: str, param: object
) -> OutriderError:
    """Read an error by its code, else as the class that its status stands for.

    A `param` that isn't a text is none: another machine may send anything.
    """
    path = param if isinstance(param, str) else None
    counts = _COUNTS.match(message) if code == ContextLengthExceeded.code else None
    if counts:
        num_tokens, limit = (int(count.replace(",", "")) for count in counts.groups())
        return ContextLengthExceeded(num_tokens, limit, path)
    return _make_error(BY_CODE.get(code, by_status), message, path)


def _make_error(kind: type[OutriderError], message: str, param: str | None) -> OutriderError:
    if issubclass(kind, ProviderRateLimited):
        return kind(message, None)
    if issubclass(kind, RequestError) and not issubclass(kind, RateLimited):
        return kind(message, param)
    return kind(message)
