"""What a remote provider's failures are here: by status first, by the body's code second.

Texts of other machines are shortened to one printable line and never repeat the secret. Nothing
that is about our key or account there is shown to the caller.
"""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime

import msgspec

from outrider.dialects.base import Dialect
from outrider.dialects.error_codes import refusal_of_text, wait_s
from outrider.errors import (
    ContextLengthExceeded,
    Forbidden,
    OutriderError,
    PaymentRequired,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    RequestTimeout,
    Unauthorized,
)
from outrider.gateway.upstream import Upstream

MAX_TEXT_CHARS = 500
MAX_PATH_CHARS = 200
_TIMEOUTS = {408, 504, 524}
_CALLERS = {400, 404, 405, 413, 415, 422}


def error_of(
    dialect: Dialect, status: int, body: bytes, retry_after_s: float | None
) -> OutriderError:
    """Give the error that a status other than 200 stands for."""
    answered = f"the answer has status {status}"
    metadata = _metadata_of(body)
    if status == 403 and (refusal := refusal_of_text(metadata)):
        return refusal
    if status in (401, 402, 403):
        remedy = "check its key and account with `outrider providers check`"
        return ProviderDenied(f"{answered}; {remedy}", status)
    if status == 429:
        seconds = wait_s(metadata) if retry_after_s is None else retry_after_s
        return ProviderRateLimited("it takes no more requests now", seconds, status)
    if status in _TIMEOUTS:
        return ProviderTimeout(answered, status)
    if status in _CALLERS and _is_of_a_wire(body):
        error = dialect.decode_error(status, body)
        if isinstance(error, RequestError):
            return error
    if status >= 500 and _is_of_a_wire(body):
        answered += f": {dialect.decode_error(status, body).message}"
    return ProviderError(answered, status)


def told(upstream: Upstream, error: OutriderError) -> OutriderError:
    """Give what an error of a provider means for those who asked; the provider is named."""
    text = f"{upstream.display_name}: {clean(upstream, error.message)}"
    match error:
        case Unauthorized() | PaymentRequired() | Forbidden():
            return ProviderDenied(f"{upstream.display_name} refuses our key", error.status)
        case RateLimited():
            return ProviderRateLimited(text, None, error.status)  # nobody said for how long
        case RequestTimeout():
            return ProviderTimeout(text, error.status)
        case ContextLengthExceeded():  # its words are our own
            param = _clean_path(upstream, error.param)
            return ContextLengthExceeded(error.num_prompt_tokens, error.max_model_len, param)
        case RequestError():
            param = _clean_path(upstream, error.param)
            return type(error)(clean(upstream, error.message), param)
        case ProviderRateLimited():
            return ProviderRateLimited(text, error.retry_after_s, error.upstream_status)
        case ProviderUnavailable():
            return ProviderError(text, error.status)
        case ProviderDenied() if error.upstream_status == error.status:
            return ProviderError(text, error.status)  # another Outrider's key, not ours
        case ProviderError():
            return type(error)(text, error.upstream_status)
    return ProviderError(text, error.status)


def clean(upstream: Upstream, text: str) -> str:
    """Make a text of another machine fit for a message: short, one line, without the secret."""
    if upstream.secret:
        text = text.replace(upstream.secret, "•••")
    return "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT_CHARS])


def _clean_path(upstream: Upstream, param: str | None) -> str | None:
    """Make the path of a field fit for an error, as its text is."""
    return None if param is None else clean(upstream, param)[:MAX_PATH_CHARS]


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Read Retry-After: seconds or an HTTP date; None for what is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - now_s)
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def _fields_of(body: bytes) -> dict[str, object]:
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_of_a_wire(body: bytes) -> bool:
    """Say whether an error comes from a model's server and not from what stands before it."""
    fields = _fields_of(body)
    return bool(fields.get("error") or fields.get("errors")) or fields.get("object") == "error"


def _metadata_of(body: bytes) -> object:
    """Give what OpenRouter says of an error besides its code and text."""
    error = _fields_of(body).get("error")
    return error.get("metadata") if isinstance(error, dict) else None
