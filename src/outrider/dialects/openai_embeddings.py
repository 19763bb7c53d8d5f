"""OpenAI's embeddings, both ways: a text, texts, token ids or lists of them become vectors.

Every documented field is mapped or inert (`user`); unknown ones are refused, as OpenAI does. A
vector travels as numbers or, in base64, as little-endian f32.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from outrider.dialects.base import decode_json
from outrider.dialects.openai_wire import TokenId
from outrider.errors import EngineFailed, InvalidRequest
from outrider.types import EmbeddingRequest, Embeddings, Prompt, Usage

FORMATS = ("float", "base64")


class EmbeddingsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request; `user` is inert."""

    input: str | list[str | TokenId | list[TokenId]]
    model: str
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None


class DecodedEmbeddings(msgspec.Struct, frozen=True):
    """A decoded request and how its vectors are to be written."""

    request: EmbeddingRequest
    encoding_format: str = "float"


class _VectorWire(msgspec.Struct):
    index: int
    embedding: list[float] | str


class _UsageWire(msgspec.Struct):
    prompt_tokens: int


class _AnswerWire(msgspec.Struct):
    data: list[_VectorWire]
    model: str
    usage: _UsageWire


def decode_request(body: bytes, request_id: str) -> DecodedEmbeddings:
    """Read a request's body; raises `InvalidRequest` with the path of the field."""
    wire = decode_json(body, EmbeddingsBody)
    return read_request(wire, request_id, wire.model)


def read_request(wire: EmbeddingsBody, request_id: str, model: str) -> DecodedEmbeddings:
    """Read the fields of a request, for the model of this name."""
    wanted = wire.encoding_format or "float"
    if wanted not in FORMATS:
        raise InvalidRequest(
            f"encoding_format is {wanted[:50]!r}; it must be float or base64", "encoding_format"
        )
    request = EmbeddingRequest(
        request_id=request_id,
        model=model,
        texts=read_texts(wire.input, "input"),
        dimensions=wire.dimensions,
    )
    return DecodedEmbeddings(request, wanted)


def read_texts(value: str | list[Any], param: str) -> tuple[Prompt, ...]:
    """Give the texts of a string, a list of strings, token ids, or a list of those."""
    if isinstance(value, str):
        return (value,)
    kinds = {type(item) for item in value}
    if len(kinds) > 1:
        raise InvalidRequest(f"{param} mixes texts and token ids; send one kind", param)
    if kinds == {int}:
        return (tuple(value),)
    return tuple(item if isinstance(item, str) else tuple(item) for item in value)


def encode_request(request: EmbeddingRequest, encoding_format: str = "float") -> bytes:
    """Write the body that a client would send."""
    texts = [text if isinstance(text, str) else list(text) for text in request.texts]
    body: dict[str, Any] = {"input": texts, "model": request.model}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if encoding_format != "float":
        body["encoding_format"] = encoding_format
    return msgspec.json.encode(body)


def encode_answer(
    answer: Embeddings, encoding_format: str, more: Mapping[str, Any] | None = None
) -> Iterator[bytes]:
    """Write a whole answer's body, vector by vector: thousands of numbers take time.

    `more` holds what a service adds behind the vectors, or has instead of what is there.
    """
    yield b'{"object":"list","data":['
    for index in range(answer.num_texts):
        value: object = answer.vector(index)
        if encoding_format == "base64":
            value = base64.b64encode(answer.vector_bytes(index)).decode()
        yield b"," if index else b""
        yield msgspec.json.encode({"object": "embedding", "index": index, "embedding": value})
    tokens = answer.usage.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = {"model": answer.model, "usage": usage, **(more or {})}
    yield b"]," + msgspec.json.encode(rest)[1:]


def decode_answer(body: bytes) -> Embeddings:
    """Read a whole answer's body; raises `EngineFailed`, since the caller isn't to blame."""
    try:
        wire = msgspec.json.decode(body, type=_AnswerWire)
        vectors = [_bytes_of(one) for one in sorted(wire.data, key=lambda one: one.index)]
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise EngineFailed(f"the answer isn't one of OpenAI's embeddings: {error}") from error
    sizes = {len(vector) for vector in vectors}
    if len(sizes) != 1 or sizes.pop() % 4:
        raise EngineFailed("the answer's vectors are none, of several sizes or cut off")
    usage = Usage(wire.usage.prompt_tokens, 0)
    return Embeddings(wire.model, b"".join(vectors), len(vectors), "", usage)


def _bytes_of(wire: _VectorWire) -> bytes:
    if isinstance(wire.embedding, str):
        return base64.b64decode(wire.embedding, validate=True)
    return struct.pack(f"<{len(wire.embedding)}f", *wire.embedding)
