"""The operations of administration in the OpenAPI document: requests, batches, providers."""

from __future__ import annotations

from typing import Any

from outrider.dialects import administration as kinds
from outrider.dialects import openai_answers
from outrider.server.openapi import Body, Operation, Schema, Wire, errors

_WIRE = Wire("Outrider", errors((400, 401, 403, 404, 408, 413, 500, 503), openai_answers.ErrorBody))
_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": kinds.MAX_ROWS}
_REQUESTS: dict[str, Schema] = {
    "since": _TIME,
    "until": _TIME,
    "key": _TEXT,
    "model": _TEXT,
    "provider": _TEXT,
    "status": {"type": "string", "pattern": f"^([0-9]{{3}}|{'|'.join(kinds.STATUS_WORDS)})$"},
    "limit": _LIMIT,
    "before": {"type": "integer", "minimum": 1},
    "format": {"type": "string", "enum": ["json", "csv"]},
}
_BATCHES: dict[str, Schema] = {
    "limit": _LIMIT,
    "after": _TEXT,
    "state": {"type": "string", "enum": ["unfinished"]},
}
_READING = (400, 408, 413)  # of what is wrong with a body


def administration_operations() -> list[Operation]:
    """Give the operations."""
    providers, batches = "/outrider/v1/providers", "/outrider/v1/batches"
    chosen = Body(kinds.EndpointChoice)
    return [
        _operation(
            "GET", "/outrider/v1/requests", "List the last requests.", kinds.RequestList,
            (400, 503), query=_REQUESTS,
        ),
        _operation(
            "GET", batches, "List everybody's batches.", kinds.BatchList, (400, 404, 503),
            query=_BATCHES,
        ),
        _operation(
            "POST", batches + "/{batch_id}/cancel", "Stop anybody's batch.", kinds.BatchRow,
            (400, 404, 503),
        ),
        _operation("GET", providers, "Say how every provider is doing.", kinds.EndpointList),
        _operation(
            "POST", providers + "/check", "Ask a provider what it can do.", kinds.Checked,
            (*_READING, 404), body=chosen,
        ),
        _operation(
            "POST", providers + "/reset", "Let a provider be asked again.", kinds.EndpointRow,
            (*_READING, 404), body=chosen,
        ),
    ]  # fmt: skip


def _operation(
    method: str,
    path: str,
    summary: str,
    answer: type[Any],
    statuses: tuple[int, ...] = (),
    **fields: Any,  # noqa: ANN401
) -> Operation:
    every = (*statuses, 401, 500)
    return Operation(method, path, summary, _WIRE, (answer,), statuses=every, **fields)
