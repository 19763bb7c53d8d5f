"""Errors of OpenRouter's wire, both ways: an integer code, and metadata with the error's type.

Codes and types are those of its OpenAPI file. `provider_code`, meant for the host's own word, has
Outrider's; `param` is ours, so that no error loses the field that it is about.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from outrider.dialects.error_codes import read_error, status_inside
from outrider.errors import (
    ContextLengthExceeded,
    EngineOverloaded,
    Forbidden,
    ModelNotFound,
    NoEndpoints,
    NotFound,
    OutriderError,
    PayloadTooLarge,
    PaymentRequired,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    RequestTimeout,
    StorageError,
    Unauthorized,
)

Object = dict[str, Any]

# The first class that fits gives code and type. An unknown model id is a 400 there, not a 404.
ERROR_TYPES: tuple[tuple[type[OutriderError], int, str], ...] = (
    (ContextLengthExceeded, 400, "context_length_exceeded"),
    (ModelNotFound, 400, "invalid_request"),
    (NotFound, 404, "not_found"),
    (PayloadTooLarge, 413, "payload_too_large"),
    (RequestTimeout, 408, "timeout"),
    (Unauthorized, 401, "authentication"),
    (PaymentRequired, 402, "payment_required"),
    (Forbidden, 403, "permission_denied"),
    (RateLimited, 429, "rate_limit_exceeded"),
    (NoEndpoints, 404, "not_found"),
    (RequestError, 400, "invalid_request"),
    (EngineOverloaded, 503, "provider_overloaded"),
    (ProviderTimeout, 504, "timeout"),
    (ProviderRateLimited, 429, "rate_limit_exceeded"),
    (ProviderUnavailable, 503, "provider_overloaded"),
    (ProviderError, 502, "provider_unavailable"),
    (StorageError, 503, "server"),
    (OutriderError, 500, "server"),
)
_UNKNOWN_MODEL = re.compile(r"\S+ is not a valid model ID")


def error_object(error: OutriderError) -> Object:
    """Write the object that stands under `error`, in answers and in chunks."""
    code, error_type = next((c, t) for kind, c, t in ERROR_TYPES if isinstance(error, kind))
    metadata: Object = {"error_type": error_type, "provider_code": error.code}
    if isinstance(error, RequestError) and error.param is not None:
        metadata["param"] = error.param
    if isinstance(error, ProviderError) or len(error.failed) > 1:
        metadata |= _told_of_hosts(error)
    return {"code": code, "message": error.message, "metadata": metadata}


def _told_of_hosts(error: OutriderError) -> Object:
    """Say which host failed, and which failed before it."""
    told: Object = {}
    if error.failed:
        *previous, last = error.failed
        told["provider_name"] = last.provider
        told["previous_errors"] = [
            {"code": one.status, "message": one.message, "provider_name": one.provider}
            for one in previous
        ]
    wait_s = getattr(error, "retry_after_s", None)
    if wait_s is not None:
        told["retry_after_seconds"] = max(1, math.ceil(wait_s))
    return told


def encode_error(error: OutriderError) -> tuple[int, bytes]:
    """Give status and body of an error answer."""
    wire = error_object(error)
    return wire["code"], msgspec.json.encode({"error": wire})


def no_route_error(path: str, status: int = 404) -> tuple[int, bytes]:
    """Give the answer for a URL or a method that isn't there."""
    what = "there is nothing" if status == 404 else "that method isn't allowed"
    metadata = {"error_type": "not_found" if status == 404 else "invalid_request"}
    error = {"code": status, "message": f"{what} at {path[:200]}", "metadata": metadata}
    return status, msgspec.json.encode({"error": error})


def decode_error(status: int, body: bytes) -> OutriderError:
    """Read an error answer: by the host's code, else by its status."""
    try:
        return error_of(msgspec.json.decode(body)["error"], status)
    except (ValueError, RecursionError, KeyError, TypeError):
        return error_of({"message": f"status {status} with an unreadable body"}, status)


def error_of(wire: object, status: int) -> OutriderError:
    """Read what stands under `error`; `status` counts where there is no code of its own."""
    fields = wire if isinstance(wire, dict) else {"message": str(wire)}
    metadata = fields.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    message = str(fields.get("message"))
    status = status_inside(fields, status)
    if status == 400 and _UNKNOWN_MODEL.fullmatch(message):
        status = 404  # which is what everybody else calls it
    code, param = str(metadata.get("provider_code")), metadata.get("param")
    return read_error(status, code, message, param, metadata)
