"""Workers AI's asynchronous batch, both ways: `requests[]` in, `responses[]` out, polls between.

What one request holds belongs to the codec of its model. An item that failed has `success` false
and the errors that it would have got alone; the service's own form of that isn't published.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from outrider.dialects.base import decode_json
from outrider.dialects.cloudflare_refusals import mismatch
from outrider.dialects.cloudflare_wire import ErrorWire, UsageWire, decode_reply, usage_to_wire
from outrider.errors import InvalidRequest
from outrider.types import Usage

Phase = Literal["queued", "running"]
FIELDS = {
    "requests": "mapped",
    "requests[].external_reference": "mapped",
    "request_id": "mapped",
}
MAX_REFERENCE_CHARS = 512
MAX_REQUEST_ID_CHARS = 100


_HEAD, _TAIL = b'{"result":', b',"success":true,"errors":[],"messages":[]}'


class Queued(msgspec.Struct, frozen=True):
    """What a caller wants to be run, request by request as it was sent."""

    requests: tuple[dict[str, Any], ...]  # without their references
    references: tuple[str | None, ...]


class Poll(msgspec.Struct, frozen=True):
    """A question after a batch."""

    request_id: str


class _Envelope(msgspec.Struct):
    result: msgspec.Raw
    success: bool = True
    errors: list[ErrorWire] = []


class Response(msgspec.Struct):
    """What became of one request; one that failed has `errors`."""

    id: int
    result: msgspec.Raw
    success: bool = True
    external_reference: str | None = None
    errors: list[ErrorWire] | UnsetType = UNSET


class Pending(msgspec.Struct):
    """A batch that isn't complete; it names its model when it is queued."""

    status: Phase
    request_id: str
    model: str | UnsetType = UNSET


class PendingReply(msgspec.Struct):
    """An answer while a batch isn't complete."""

    result: Pending
    success: bool = True
    errors: list[ErrorWire] = []
    messages: list[Any] = []


class Complete(msgspec.Struct):
    """A complete batch."""

    responses: list[Response]
    usage: UsageWire


class CompleteReply(msgspec.Struct):
    """An answer once a batch is complete."""

    result: Complete
    success: bool = True
    errors: list[ErrorWire] = []
    messages: list[Any] = []


class _Result(msgspec.Struct):
    status: str | None = None
    request_id: str | None = None
    responses: list[Response] | None = None


class _Reply(msgspec.Struct):
    result: _Result


def read_body(body: bytes) -> Queued | Poll:
    """Read what was sent to the queue: requests to run, or the id of earlier ones."""
    fields = decode_json(body, dict[str, Any])
    match "requests" in fields, "request_id" in fields:
        case True, False:
            return _read_requests(fields["requests"])
        case False, True:
            request_id = fields["request_id"]
            if not isinstance(request_id, str):
                raise mismatch("/request_id", request_id, "string")
            return Poll(request_id[:MAX_REQUEST_ID_CHARS])
        case True, True:
            raise InvalidRequest("send either 'requests' or 'request_id'", "request_id")
        case _:
            raise InvalidRequest(
                "required properties at '/' are 'requests' (to queue them) or 'request_id' (to "
                "ask for them)",
                "requests",
            )


def is_poll(body: bytes) -> bool:
    """Say whether a body that came without `queueRequest` asks for a batch."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(fields, dict) and set(fields) == {"request_id"}


def _read_requests(value: object) -> Queued:
    if not isinstance(value, list):
        raise mismatch("/requests", value, "array")
    if not value:
        raise InvalidRequest("Length of '/requests' must be >= 1", "requests")
    requests, references = [], []
    for index, request in enumerate(value):
        if not isinstance(request, dict):
            raise mismatch(f"/requests/{index}", request, "object")
        reference = request.pop("external_reference", None)
        pointer = f"/requests/{index}/external_reference"
        if not isinstance(reference, str | None):
            raise mismatch(pointer, reference, "string")
        if reference is not None and len(reference) > MAX_REFERENCE_CHARS:
            raise InvalidRequest(
                f"Length of '{pointer}' must be <= {MAX_REFERENCE_CHARS}",
                f"requests[{index}].external_reference",
            )
        requests.append(request)
        references.append(reference)
    return Queued(tuple(requests), tuple(references))


def encode_queued(queued: Queued) -> bytes:
    """Write the body that queues requests, as a client would."""
    requests = [
        request if reference is None else {**request, "external_reference": reference}
        for request, reference in zip(queued.requests, queued.references, strict=True)
    ]
    return msgspec.json.encode({"requests": requests})


def encode_poll(poll: Poll) -> bytes:
    """Write the body that asks for a batch, as a client would."""
    return msgspec.json.encode({"request_id": poll.request_id})


def encode_accepted(request_id: str, model: str) -> bytes:
    """Write that requests were queued."""
    return msgspec.json.encode(PendingReply(Pending("queued", request_id, model)))


def encode_pending(request_id: str, phase: Phase) -> bytes:
    """Write that a batch isn't complete."""
    return msgspec.json.encode(PendingReply(Pending(phase, request_id)))


def encode_response(position: int, reference: str | None, answer: bytes) -> bytes:
    """Write what became of a request, out of the body that it would have got alone."""
    wire = msgspec.json.decode(answer, type=_Envelope)
    errors = UNSET if wire.success else wire.errors
    return msgspec.json.encode(Response(position, wire.result, wire.success, reference, errors))


def encode_complete(usage: Usage) -> tuple[bytes, bytes]:
    """Give what stands before and behind the responses of a complete batch, joined by commas."""
    totals = msgspec.json.encode(usage_to_wire(usage))
    return _HEAD + b'{"responses":[', b'],"usage":' + totals + b"}" + _TAIL


def decode_status(body: bytes) -> tuple[str, str] | list[Response]:
    """Read an answer: status and request id, or the responses of a complete batch."""
    result = decode_reply(body, _Reply).result
    if result.responses is not None:
        return result.responses
    return result.status or "", result.request_id or ""
