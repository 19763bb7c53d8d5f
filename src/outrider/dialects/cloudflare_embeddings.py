"""Workers AI's embeddings on the native run endpoint, both ways: `text` in, `shape` and `data` out.

The form is that of the published schemas of the bge models. Fields that no schema has are ignored
and named, as everywhere on this wire.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from outrider.dialects.base import decode_json
from outrider.dialects.cloudflare_wire import decode_reply, mismatch
from outrider.errors import EngineFailed, InvalidRequest, UnsupportedParameter
from outrider.types import EmbeddingRequest, Embeddings, Usage

FIELDS = {"text": "mapped", "pooling": "mapped", "requests": "refused"}
MAX_TEXTS = 100  # of the published schemas


class _Result(msgspec.Struct):
    shape: list[int]
    data: list[list[float]]
    pooling: str = ""


class _Answer(msgspec.Struct):
    result: _Result


def decode_request(body: bytes, request_id: str, model: str) -> tuple[EmbeddingRequest, list[str]]:
    """Read a request's body; gives the names of ignored fields, too."""
    fields = decode_json(body, dict[str, Any])
    if fields.get("requests"):
        raise UnsupportedParameter("the asynchronous batch of embeddings isn't offered", "requests")
    text = fields.get("text")
    if text is None:
        raise InvalidRequest("required properties at '/' are 'text'", "text")
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, list):
        raise mismatch("/text", text, "string", "array")
    for index, item in enumerate(texts):
        if not isinstance(item, str):
            raise mismatch(f"/text/{index}", item, "string")
    if len(texts) > MAX_TEXTS:
        raise InvalidRequest(f"Length of '/text' must be <= {MAX_TEXTS}", "text")
    request = EmbeddingRequest(
        request_id=request_id,
        model=model,
        texts=tuple(texts),
        param="text",
        pooling=_pooling(fields),
    )
    return request, sorted(name for name in fields if name not in FIELDS)


def _pooling(fields: dict[str, Any]) -> Literal["mean", "cls"] | None:
    if "pooling" not in fields:
        return None
    match fields["pooling"]:
        case "mean":
            return "mean"
        case "cls":
            return "cls"
        case _:
            raise InvalidRequest("'/pooling' must be one of 'mean', 'cls'", "pooling")


def encode_request(request: EmbeddingRequest) -> bytes:
    """Write the body that a client would send; raises `UnsupportedParameter`."""
    if request.dimensions is not None:
        raise UnsupportedParameter("Workers AI has no dimensions", "dimensions")
    if not all(isinstance(text, str) for text in request.texts):
        raise UnsupportedParameter("Workers AI takes texts, not token ids", request.param)
    body: dict[str, Any] = {"text": list(request.texts)}
    if request.pooling is not None:
        body["pooling"] = request.pooling
    return msgspec.json.encode(body)


def encode_answer(answer: Embeddings) -> Iterator[bytes]:
    """Write a whole answer's body, vector by vector."""
    shape = [answer.num_texts, answer.dimensions]
    yield b'{"result":{"shape":' + msgspec.json.encode(shape) + b',"data":['
    for index in range(answer.num_texts):
        yield b"," if index else b""
        yield msgspec.json.encode(answer.vector(index))
    yield b'],"pooling":' + msgspec.json.encode(answer.pooling)
    yield b'},"success":true,"errors":[],"messages":[]}'


def decode_answer(body: bytes, model: str) -> Embeddings:
    """Read a whole answer's body; this wire carries neither the model's name nor a usage."""
    result = decode_reply(body, _Answer).result
    sizes = {len(vector) for vector in result.data}
    if len(sizes) != 1 or [len(result.data), *sizes] != result.shape:
        raise EngineFailed("the answer's vectors don't have the shape that it says")
    data = b"".join(struct.pack(f"<{len(vector)}f", *vector) for vector in result.data)
    return Embeddings(model, data, len(result.data), result.pooling, Usage(0, 0))
