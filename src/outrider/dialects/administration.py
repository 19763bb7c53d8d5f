"""What the administration page reads and sends: requests, batches and the state of providers.

Own endpoints that no other service has, so plain JSON in snake_case with errors in OpenAI's form.
Times are ISO 8601 in UTC, money is in US dollars. Nothing here holds what was asked or answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from outrider.batch_types import Batch
from outrider.dialects.base import decode_json
from outrider.dialects.csv_table import encode_csv
from outrider.errors import InvalidRequest
from outrider.ledger_types import LogEntry, LogFilter

MICRO = 1_000_000
MAX_ROWS, DEFAULT_ROWS = 1000, 50
STATUS_WORDS = {"ok": (200, 299), "refused": (400, 499), "failed": (500, 599)}


class AttemptRow(msgspec.Struct):
    """One host's try at a request."""

    provider: str
    model: str
    status: int
    error_code: str
    duration_ms: int


class RequestRow(msgspec.Struct, kw_only=True):
    """One request of the ledger."""

    id: str
    created_at: str
    key: str | None
    key_name: str | None
    app_url: str | None
    app_title: str | None
    wire: str
    api_type: str
    model: str
    provider: str | None
    status: int
    error_code: str | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float
    first_token_ms: int | None
    duration_ms: int
    is_streamed: bool
    is_cancelled: bool
    attempts: list[AttemptRow]


class RequestList(msgspec.Struct):
    """A page of requests, newest first; `next` goes back as `before`, null at the end."""

    data: list[RequestRow]
    next: int | None


class RequestQuery(NamedTuple):
    """Which requests are wanted, and how."""

    wanted: LogFilter
    before: int | None
    limit: int
    is_csv: bool


class BatchRow(msgspec.Struct, kw_only=True):
    """One batch, whoever owns it."""

    id: str
    wire: str
    endpoint: str
    model: str | None
    status: str
    key: str | None
    key_name: str | None
    created_at: str
    deadline_at: str
    ended_at: str | None
    num_requests: int
    num_completed: int
    num_failed: int
    prompt_tokens: int
    completion_tokens: int


class BatchList(msgspec.Struct):
    """A page of batches, newest first."""

    data: list[BatchRow]
    has_more: bool


class Counted(msgspec.Struct):
    """Good and bad results of a time."""

    good: int
    failed: int


class Failure(msgspec.Struct):
    """What failed last."""

    code: str
    upstream_status: int | None
    ago_s: float


class EndpointRow(msgspec.Struct, kw_only=True):
    """One model at one provider, and how it is doing."""

    provider: str
    provider_name: str
    model: str
    is_local: bool
    is_ready: bool
    breaker: Literal["closed", "open", "half_open"]
    wait_s: float | None  # until somebody is sent there again; null: until a reload or a reset
    cooldown_s: float
    denial: bool  # it doesn't take our key
    running: int  # requests at the provider, of all its models
    max_concurrent: int | None
    requests_per_minute: int | None
    results_30s: Counted
    results_5m: Counted
    results_30m: Counted
    results_1d: Counted
    last_error: Failure | None


class EndpointList(msgspec.Struct):
    """All endpoints, in the order in which they are asked by default."""

    data: list[EndpointRow]
    retries_left: float  # second tries that all requests together may still make
    max_retries: float


class EndpointChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The body that names an endpoint."""

    provider: str
    model: str


class Checked(msgspec.Struct, kw_only=True):
    """What a check of one endpoint has shown."""

    provider: str
    model: str
    is_answering: bool
    problem: str | None
    answer_s: float | None
    proven: list[str]
    failed: dict[str, str]


def read_choice(body: bytes) -> EndpointChoice:
    """Read which endpoint is meant; raises `InvalidRequest`."""
    return decode_json(body, EndpointChoice)


def read_requests(query: Mapping[str, str]) -> RequestQuery:
    """Read which requests are wanted; raises `InvalidRequest`."""
    texts = {name: query[name] for name in ("key", "model", "provider") if query.get(name)}
    lowest, highest = _read_status(query.get("status", ""))
    form = query.get("format", "json")
    if form not in ("json", "csv"):
        raise InvalidRequest("format must be json or csv", "format")
    before = query.get("before")
    return RequestQuery(
        LogFilter(
            **texts,
            since_ms=_read_time(query, "since"),
            until_ms=_read_time(query, "until"),
            lowest_status=lowest,
            highest_status=highest,
        ),
        None if not before else _read_whole(before, "before", 10**18),
        _read_whole(query.get("limit") or str(DEFAULT_ROWS), "limit", MAX_ROWS),
        form == "csv",
    )


def _read_status(text: str) -> tuple[int | None, int | None]:
    if not text:
        return None, None
    if text in STATUS_WORDS:
        return STATUS_WORDS[text]
    if len(text) == 3 and text.isascii() and text.isdigit():
        return int(text), int(text)
    words = ", ".join(STATUS_WORDS)
    raise InvalidRequest(f"status must be three digits or one of {words}", "status")


def _read_whole(text: str, name: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        raise InvalidRequest(f"{name} must be a whole number from 1 to {most:,}", name)
    return int(text)


def _read_time(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{name} must be a date or a time as ISO 8601 has it, such as 2026-01-31T12:00:00Z",
            name,
        ) from error


def request_row(entry: LogEntry, name_of: Callable[[str], str | None]) -> RequestRow:
    """Show a request; `name_of` gives the names of keys."""
    return RequestRow(
        id=entry.id,
        created_at=iso_time(entry.created_ms / 1000),
        key=entry.key or None,
        key_name=name_of(entry.key),
        app_url=entry.app_url or None,
        app_title=entry.app_title or None,
        wire=entry.wire,
        api_type=entry.api_type,
        model=entry.model,
        provider=entry.provider or None,
        status=entry.status,
        error_code=entry.error_code or None,
        finish_reason=entry.finish_reason or None,
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        cached_tokens=entry.cached_tokens,
        cost_usd=entry.cost_microusd / MICRO,
        first_token_ms=entry.first_token_ms,
        duration_ms=entry.duration_ms,
        is_streamed=entry.is_streamed,
        is_cancelled=entry.is_cancelled,
        attempts=[
            AttemptRow(one.provider, one.model, one.status, one.error_code, one.duration_ms)
            for one in entry.attempts
        ],
    )


def encode_requests(rows: Sequence[RequestRow]) -> bytes:
    """Write requests as a table; of their attempts their number."""
    names = [name for name in RequestRow.__struct_fields__ if name != "attempts"]
    cells = ([*(getattr(row, name) for name in names), len(row.attempts)] for row in rows)
    return encode_csv([*names, "num_attempts"], cells)


def batch_row(batch: Batch, name_of: Callable[[str], str | None]) -> BatchRow:
    """Show a batch; `name_of` gives the names of keys."""
    ends = (batch.completed_s, batch.failed_s, batch.expired_s, batch.cancelled_s)
    ended_s = next((end for end in ends if end is not None), None)
    return BatchRow(
        id=batch.id,
        wire=batch.wire,
        endpoint=batch.endpoint,
        model=batch.model or None,
        status=batch.status,
        key=batch.owner or None,
        key_name=name_of(batch.owner),
        created_at=iso_time(batch.created_s),
        deadline_at=iso_time(batch.deadline_s),
        ended_at=None if ended_s is None else iso_time(ended_s),
        num_requests=batch.num_requests,
        num_completed=batch.num_completed,
        num_failed=batch.num_failed,
        prompt_tokens=batch.prompt_tokens,
        completion_tokens=batch.completion_tokens,
    )


def iso_time(time_s: float) -> str:
    """Write a time."""
    time = datetime.fromtimestamp(time_s, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
