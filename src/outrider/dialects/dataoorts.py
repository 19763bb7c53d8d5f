"""Dataoorts' wire: POST /api/v1 with model and data, both ways.

`data` is what Workers AI takes, with other defaults; answers and errors have Workers AI's envelope
with its keys in alphabetical order. Streams, which the service doesn't document, are refused.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec

from outrider.dialects.base import (
    Answer,
    Decoded,
    Envelope,
    StreamDecoder,
    StreamEncoder,
    convert,
    decode_json,
)
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.cloudflare_wire import encode_error, error_from_wire
from outrider.errors import InvalidRequest, OutriderError, UnsupportedParameter
from outrider.types import Event, GenerationRequest, SamplingParams

DEFAULTS = SamplingParams(temperature=0.6)
# Where nobody set a limit, the service's own isn't documented. An answer of just as many tokens as
# Workers AI gives then, whose interface this is, is taken for a cut one.
LIKELY_LIMIT = 256
_POINTER = re.compile(r"'/(?=\w)")
_KNOWN = ("model", "data")


class DataoortsBody(msgspec.Struct, frozen=True):
    """The request's envelope."""

    model: str
    data: dict[str, Any]


class Dataoorts:
    """The one endpoint; see `Dialect`, and `WorkersAi` about `max_tokens`."""

    name = "dataoorts"
    keep_alive = b""

    def __init__(self, max_tokens: int | None = None) -> None:
        self._inputs = WorkersAi(DEFAULTS, max_tokens=max_tokens)
        self._has_limit = max_tokens is not None

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give no headers: none are documented."""
        del request_id, created_s
        return {}

    def decode_request(self, body: bytes, envelope: Envelope) -> Decoded:
        """Read a request's body."""
        fields = decode_json(body, dict[str, Any])
        wire = convert(fields, DataoortsBody)
        if wire.data.get("stream"):
            _refuse_stream()
        try:
            decoded = self._inputs.read_fields(
                wire.data, msgspec.structs.replace(envelope, model=wire.model, query={})
            )
        except InvalidRequest as error:
            raise _inside_data(error) from error
        outer = [name for name in fields if name not in _KNOWN]
        inner = [f"data.{name}" for name in decoded.ignored]
        return msgspec.structs.replace(decoded, ignored=tuple(sorted([*outer, *inner])))

    def encode_request(self, request: GenerationRequest) -> bytes:
        """Write a request's body; raises `UnsupportedParameter` for what the wire can't carry."""
        if request.stream:
            _refuse_stream()
        data = self._inputs.write_fields(request)
        return msgspec.json.encode({"model": request.model, "data": data})

    def encode_answer(self, answer: Answer, decoded: Decoded) -> bytes:
        """Write a whole answer's body."""
        return _sorted(self._inputs.encode_answer(answer, decoded))

    def decode_answer(self, body: bytes) -> Answer:
        """Read a whole answer's body; the finish reason isn't on the wire."""
        answer = self._inputs.decode_answer(body)
        is_likely_cut = not self._has_limit and answer.usage.completion_tokens == LIKELY_LIMIT
        if not is_likely_cut or answer.choices[0].finish_reason != "stop":
            return answer
        choice = msgspec.structs.replace(answer.choices[0], finish_reason="length")
        return msgspec.structs.replace(answer, choices=(choice,))

    def stream_encoder(self, decoded: Decoded) -> StreamEncoder:
        """Refuse: this wire has no streams."""
        del decoded
        _refuse_stream()

    def stream_decoder(self) -> StreamDecoder:
        """Refuse: this wire has no streams."""
        _refuse_stream()

    def decode_stream(self, data: bytes) -> list[Event]:
        """Refuse: this wire has no streams."""
        del data
        _refuse_stream()

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer."""
        status, body = encode_error(error, request_id)
        return status, _sorted(body)

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer: by its code, else by its status."""
        return error_from_wire(status, body)


def _sorted(body: bytes) -> bytes:
    """Sort the keys of an envelope, but not those of JSON values that the model wrote."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if result := msgspec.json.decode(
        fields.get("result", b"{}"), type=dict[str, msgspec.Raw] | None
    ):
        if "usage" in result:
            usage = msgspec.json.decode(result["usage"])
            result["usage"] = msgspec.Raw(msgspec.json.encode(usage, order="sorted"))
        fields["result"] = msgspec.Raw(msgspec.json.encode(result, order="sorted"))
    errors = msgspec.json.decode(fields.get("errors", b"[]"))
    fields["errors"] = msgspec.Raw(msgspec.json.encode(errors, order="sorted"))
    return msgspec.json.encode(fields, order="sorted")


def _inside_data(error: InvalidRequest) -> InvalidRequest:
    """Name the field where this wire has it."""
    message = _POINTER.sub("'/data/", error.message).replace("'/'", "'/data'")
    return type(error)(message, f"data.{error.param}" if error.param else "data")


def _refuse_stream() -> NoReturn:
    raise UnsupportedParameter(
        "'/data/stream' isn't supported here: this wire has no streams", "data.stream"
    )
