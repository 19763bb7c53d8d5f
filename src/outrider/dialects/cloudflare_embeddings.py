"""Workers AI's embeddings on the native run endpoint, both ways: `text` in, `shape` and `data` out.

The form is that of the published schemas of the bge models. Fields that no schema has are ignored
and named, as everywhere on this wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from outrider.dialects import vectors
from outrider.dialects.cloudflare_refusals import decode_fields, read_as, refused
from outrider.dialects.cloudflare_types import published
from outrider.dialects.cloudflare_wire import decode_reply, error_from_wire
from outrider.errors import ProviderError, UnsupportedParameter
from outrider.types import EmbeddingRequest, Embeddings, Usage

FIELDS = {"text": "mapped", "pooling": "mapped", "requests": "refused"}
MAX_TEXTS = 100  # of the published schemas


class TextInput(msgspec.Struct):
    """A request: one text or several."""

    text: str | Annotated[list[str], Meta(max_length=MAX_TEXTS)]
    pooling: Annotated[str, published(enum=["mean", "cls"])] | UnsetType = UNSET


class VectorsWire(msgspec.Struct):
    """The answer's vectors."""

    shape: list[int]
    data: list[list[float]]
    pooling: str = ""


class _Answer(msgspec.Struct):
    result: VectorsWire | None = None
    success: bool = True


def decode_request(body: bytes, request_id: str, model: str) -> tuple[EmbeddingRequest, list[str]]:
    """Read a request's body; gives the names of ignored fields, too."""
    fields = decode_fields(body)
    if fields.get("requests"):
        raise UnsupportedParameter("'/requests' needs ?queueRequest=true", "requests")
    wire = read_as(fields, TextInput)
    request = EmbeddingRequest(
        request_id=request_id,
        model=model,
        texts=(wire.text,) if isinstance(wire.text, str) else tuple(wire.text),
        param="text",
        pooling=_pooling(wire.pooling),
    )
    return request, sorted(name for name in fields if name not in FIELDS)


def _pooling(wire: str | UnsetType) -> Literal["mean", "cls"] | None:
    match wire:
        case "mean":
            return "mean"
        case "cls":
            return "cls"
        case str():
            raise refused("/pooling", "must be one of 'mean', 'cls'")
    return None


def encode_request(request: EmbeddingRequest) -> bytes:
    """Write the body that a client would send; raises `UnsupportedParameter`."""
    check_carried(request)
    body: dict[str, Any] = {"text": list(request.texts)}
    if request.pooling is not None:
        body["pooling"] = request.pooling
    return msgspec.json.encode(body)


def check_carried(request: EmbeddingRequest) -> None:
    """Refuse what the service doesn't take; raises `UnsupportedParameter`."""
    if request.dimensions is not None:
        raise UnsupportedParameter("Workers AI has no dimensions", "dimensions")
    if not all(isinstance(text, str) for text in request.texts):
        raise UnsupportedParameter("Workers AI takes texts, not token ids", request.param)
    if len(request.texts) > MAX_TEXTS:
        raise UnsupportedParameter(
            f"{request.param} has {len(request.texts):,} texts; Workers AI takes {MAX_TEXTS}",
            request.param,
        )


def encode_answer(answer: Embeddings) -> Iterator[bytes]:
    """Write a whole answer's body, vector by vector."""
    shape = [answer.num_texts, answer.dimensions]
    yield b'{"result":{"shape":' + msgspec.json.encode(shape) + b',"data":['
    for index in range(answer.num_texts):
        yield b"," if index else b""
        yield msgspec.json.encode(answer.vector(index))
    yield b"]"
    if answer.pooling:
        yield b',"pooling":' + msgspec.json.encode(answer.pooling)
    yield b'},"success":true,"errors":[],"messages":[]}'


def decode_answer(body: bytes, model: str) -> Embeddings:
    """Read a whole answer's body; this wire carries neither the model's name nor a usage.

    Raises the error that stands in its place, or `ProviderError`.
    """
    wire = decode_reply(body, _Answer)
    result = wire.result
    if not wire.success or result is None:
        raise error_from_wire(500, body)
    sizes = {len(vector) for vector in result.data}
    if len(sizes) != 1 or [len(result.data), *sizes] != result.shape:
        raise ProviderError("the answer's vectors don't have the shape that it says")
    data = vectors.join([vectors.pack(vector) for vector in result.data])
    return Embeddings(model, data, len(result.data), result.pooling, Usage(0, 0))
