"""OpenAI's batches, both ways: batch objects, the lines of their input and those of their results.

A line that can't be run at all is a `LineError` and fails its batch; what is wrong inside of a
line's body is found when it runs and becomes that line's own result.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from outrider.batch_types import Batch, Item, LineError, Status
from outrider.dialects.base import check_size, convert, decode_json
from outrider.dialects.openai_files import check_expiry, decode_object
from outrider.errors import InvalidRequest, UnsupportedParameter

Object = dict[str, Any]

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
OTHER_ENDPOINTS = (
    "/v1/responses",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
WINDOW, WINDOW_S = "24h", 86_400
MAX_CUSTOM_ID_CHARS = 512
MAX_METADATA, MAX_KEY_CHARS, MAX_VALUE_CHARS = 16, 64, 512
MAX_LIST, DEFAULT_LIST = 100, 20

# What becomes of the fields of a new batch, and of those of a line of its input.
BATCH_FIELDS = dict.fromkeys(
    ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"), "mapped"
)
LINE_FIELDS = dict.fromkeys(("custom_id", "method", "url", "body"), "mapped")

# Why an item has no answer of its own.
UNRUN: dict[Status, tuple[str, str]] = {
    "expired": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
}


class _Expiry(msgspec.Struct, forbid_unknown_fields=True):
    anchor: str
    seconds: int


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """What asks for a batch."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: _Expiry | None = None


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class NewBatch(msgspec.Struct, frozen=True):
    """What a caller wants to be run."""

    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None = None
    keep_results_s: int | None = None  # None: as long as the server keeps them


class _LineErrorWire(msgspec.Struct):
    code: str
    line: int | None
    message: str
    param: str | None


class _ErrorsWire(msgspec.Struct):
    data: list[_LineErrorWire]
    object: Literal["list"] = "list"


class _CountsWire(msgspec.Struct):
    total: int
    completed: int
    failed: int


class _CachedWire(msgspec.Struct):
    cached_tokens: int


class _ReasoningWire(msgspec.Struct):
    reasoning_tokens: int = 0


class _UsageWire(msgspec.Struct):
    input_tokens: int
    input_tokens_details: _CachedWire
    output_tokens: int
    output_tokens_details: _ReasoningWire
    total_tokens: int


class BatchWire(msgspec.Struct, kw_only=True):
    """A batch object."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: _ErrorsWire | None
    input_file_id: str
    completion_window: str = WINDOW
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: _CountsWire
    usage: _UsageWire
    metadata: dict[str, str] | None


class BatchesPage(msgspec.Struct, kw_only=True):
    """A page of a list of batches."""

    object: Literal["list"] = "list"
    data: list[BatchWire]
    first_id: str | None
    last_id: str | None
    has_more: bool


def read_create(body: bytes) -> NewBatch:
    """Read the body of a new batch."""
    wire = decode_json(body, CreateBody)
    if wire.endpoint in OTHER_ENDPOINTS:
        raise UnsupportedParameter(
            f"batches of {wire.endpoint} aren't supported here; endpoint is one of "
            + ", ".join(ENDPOINTS),
            "endpoint",
        )
    if wire.endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"endpoint is {wire.endpoint[:100]!r}; it is one of " + ", ".join(ENDPOINTS), "endpoint"
        )
    if wire.completion_window != WINDOW:
        raise InvalidRequest(
            f"completion_window is {wire.completion_window[:50]!r}; it must be {WINDOW}",
            "completion_window",
        )
    _check_metadata(wire.metadata or {})
    expiry, keep_s = wire.output_expires_after, None
    if expiry is not None:
        keep_s = check_expiry(expiry.anchor, expiry.seconds, "output_expires_after")
    return NewBatch(wire.input_file_id, wire.endpoint, wire.metadata, keep_s)


def encode_create(batch: NewBatch) -> bytes:
    """Write the body of a new batch, as a client would."""
    body: Object = {
        "input_file_id": batch.input_file_id,
        "endpoint": batch.endpoint,
        "completion_window": WINDOW,
    }
    if batch.metadata is not None:
        body["metadata"] = batch.metadata
    if batch.keep_results_s is not None:
        body["output_expires_after"] = {"anchor": "created_at", "seconds": batch.keep_results_s}
    return msgspec.json.encode(body)


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > MAX_METADATA:
        raise InvalidRequest(
            f"metadata has {len(metadata)} keys; at most {MAX_METADATA} are allowed", "metadata"
        )
    for key, value in metadata.items():
        if len(key) > MAX_KEY_CHARS or len(value) > MAX_VALUE_CHARS:
            raise InvalidRequest(
                f"metadata.{key[:MAX_KEY_CHARS]!r} is too long; keys have up to {MAX_KEY_CHARS} "
                f"characters and values up to {MAX_VALUE_CHARS}",
                "metadata",
            )


def batch_object(batch: Batch) -> BatchWire:
    """Give a batch's object."""
    usage = batch.usage
    errors = [_LineErrorWire(e.code, e.line, e.message, e.param) for e in batch.errors]
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling")
    return BatchWire(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=_ErrorsWire(errors) if errors else None,
        input_file_id=batch.input_file_id,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=batch.created_s,
        expires_at=batch.deadline_s,
        request_counts=_CountsWire(batch.num_requests, batch.num_completed, batch.num_failed),
        usage=_UsageWire(
            usage.prompt_tokens,
            _CachedWire(usage.cached_tokens),
            usage.completion_tokens,
            _ReasoningWire(),
            usage.prompt_tokens + usage.completion_tokens,
        ),
        metadata=batch.metadata,
        **{f"{name}_at": getattr(batch, f"{name}_s") for name in (*times, "cancelled")},
    )


def encode_batch(batch: Batch) -> bytes:
    """Write a batch's object."""
    return msgspec.json.encode(batch_object(batch))


def encode_batches(batches: list[Batch], has_more: bool) -> bytes:
    """Write a page of batches."""
    page = BatchesPage(
        data=[batch_object(batch) for batch in batches],
        first_id=batches[0].id if batches else None,
        last_id=batches[-1].id if batches else None,
        has_more=has_more,
    )
    return msgspec.json.encode(page)


def decode_batch(body: bytes) -> Batch:
    """Read a batch's object; the wire doesn't say whose it is and how long results are kept."""
    wire = decode_object(body, BatchWire)
    errors = wire.errors.data if wire.errors else []
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling")
    return Batch(
        id=wire.id,
        owner="",
        wire="openai",
        endpoint=wire.endpoint,
        input_file_id=wire.input_file_id,
        status=wire.status,
        created_s=wire.created_at,
        deadline_s=wire.expires_at,
        keep_results_s=0,
        output_file_id=wire.output_file_id,
        error_file_id=wire.error_file_id,
        num_requests=wire.request_counts.total,
        num_completed=wire.request_counts.completed,
        num_failed=wire.request_counts.failed,
        prompt_tokens=wire.usage.input_tokens,
        completion_tokens=wire.usage.output_tokens,
        cached_tokens=wire.usage.input_tokens_details.cached_tokens,
        metadata=wire.metadata,
        errors=tuple(LineError(e.code, e.message, e.line, e.param) for e in errors),
        **{f"{name}_s": getattr(wire, f"{name}_at") for name in (*times, "cancelled")},
    )


def read_line(line: bytes, endpoint: str, number: int) -> str | LineError:
    """Give the custom_id of a line of the input, or what is wrong with it."""
    try:
        check_size(line)
        value = msgspec.json.decode(line)
    except InvalidRequest as error:
        return LineError("invalid_line", error.message, number)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return LineError("invalid_json_line", "This line is not parseable as valid JSON.", number)
    try:
        wire = convert({**value, "body": None} if isinstance(value, dict) else value, _LineHead)
    except InvalidRequest as error:
        is_missing = "missing" in error.message
        code = "missing_required_parameter" if is_missing else "invalid_line"
        return LineError(code, error.message, number, error.param)
    if not 1 <= len(wire.custom_id) <= MAX_CUSTOM_ID_CHARS:
        message = f"custom_id must have 1 to {MAX_CUSTOM_ID_CHARS} characters"
        return LineError("invalid_custom_id", message, number, "custom_id")
    if wire.method != "POST":
        return LineError("invalid_method", "method must be POST", number, "method")
    if wire.url != endpoint:
        message = f"url must be the batch's endpoint, {endpoint}"
        return LineError("invalid_url", message, number, "url")
    if not isinstance(value.get("body"), dict):
        is_missing = "body" not in value
        code = "missing_required_parameter" if is_missing else "invalid_line"
        return LineError(code, "body must be an object", number, "body")
    return wire.custom_id


class _LineHead(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: None


def body_of(line: bytes) -> bytes:
    """Give the body of a line that `read_line` has found good."""
    return bytes(decode_json(line, _Line).body)


def encode_line(custom_id: str, endpoint: str, body: bytes) -> bytes:
    """Write a line of an input, as a client would."""
    return msgspec.json.encode(_Line(custom_id, "POST", endpoint, msgspec.Raw(body)))


def encode_result(custom_id: str, request_id: str, status: int, body: bytes) -> bytes:
    """Write the line of a request that was answered, with an answer or an error."""
    response = {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    return _result(custom_id, request_id, response, None)


def encode_unrun(item: Item, batch_id: str, status: Status) -> bytes:
    """Write the line of a request that was never answered."""
    code, message = UNRUN[status]
    name = f"{batch_id.removeprefix('batch_')}_{item.position}"
    return _result(item.custom_id, name, None, {"code": code, "message": message})


def _result(custom_id: str, name: str, response: Object | None, error: Object | None) -> bytes:
    return msgspec.json.encode(
        {
            "id": f"batch_req_{name}",
            "custom_id": custom_id,
            "response": response,
            "error": error,
        }
    )
