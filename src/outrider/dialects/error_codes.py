"""The errors that codes and statuses stand for on OpenAI's wire and OpenRouter's.

Another Outrider says what went wrong by its stable codes, everybody else by a status. What only
texts know, such as counts of tokens, isn't made up here.
"""

from __future__ import annotations

import math
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


BY_STATUS: dict[int, type[OutriderError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: ModelNotFound,
    408: RequestTimeout,
    413: PayloadTooLarge,
    422: InvalidRequest,
    429: ProviderRateLimited,
    502: ProviderError,
    503: EngineOverloaded,
    504: ProviderTimeout,
    524: ProviderTimeout,
    529: EngineOverloaded,
}
# Only the message holds the counts of a `ContextLengthExceeded`; without them it is read as its
# base class.
_COUNTS = re.compile(r"prompt has (\d[\d,]{0,24}) tokens but max_model_len is (\d[\d,]{0,24}) ")


def read_error(
    status: int, code: str, message: str, param: object, metadata: object
) -> OutriderError:
    """Read an error by its code, else by its status; `metadata` is OpenRouter's.

    A `param` that isn't a text is none: another machine may send anything.
    """
    path = param if isinstance(param, str) else None
    counts = _COUNTS.match(message) if code == ContextLengthExceeded.code else None
    if counts:
        num_tokens, limit = (int(count.replace(",", "")) for count in counts.groups())
        return ContextLengthExceeded(num_tokens, limit, path)
    if status == 403 and (refusal := refusal_of_text(metadata)):
        return refusal
    kind = BY_CODE.get(code) or BY_STATUS.get(status, EngineFailed)
    if issubclass(kind, ProviderRateLimited):
        return kind(message, wait_s(metadata), kind.status)
    return _make_error(kind, message, path)


def status_inside(error: object, otherwise: int = 500) -> int:
    """Give the status of an error in the body of a 200: its code, if that is one."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else otherwise


def refusal_of_text(metadata: object) -> InvalidRequest | None:
    """Give the error of a 403 that is OpenRouter's moderation, which is no matter of keys."""
    if isinstance(metadata, dict) and ("reasons" in metadata or "patterns" in metadata):
        return InvalidRequest("the provider's moderation refuses the text of the request")
    return None


def wait_s(metadata: object) -> float | None:
    """Give for how long OpenRouter's metadata ask to wait; None if they don't say."""
    seconds = metadata.get("retry_after_seconds") if isinstance(metadata, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _make_error(kind: type[OutriderError], message: str, param: str | None) -> OutriderError:
    if issubclass(kind, ProviderError) and not issubclass(kind, ProviderUnavailable):
        return kind(message, kind.status)
    if issubclass(kind, RequestError) and not issubclass(kind, RateLimited):
        return kind(message, param)
    return kind(message)
