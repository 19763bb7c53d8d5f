"""OpenAI's embeddings, both ways: a text, texts, token ids or lists of them become vectors.

Every documented field is mapped or inert (`user`); unknown ones are refused, as OpenAI does. A
vector travels as numbers or, in base64, as little-endian f32.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from outrider.dialects import vectors
from outrider.dialects.base import Dialect, decode_json
from outrider.dialects.error_codes import status_inside
from outrider.dialects.openai import CHAT_COMPLETIONS
from outrider.dialects.openai_replies import UsageWire, read_as, read_usage
from outrider.dialects.openai_wire import TokenId
from outrider.errors import InvalidRequest, ProviderError
from outrider.routing_types import Routing
from outrider.types import EmbeddingRequest, Embeddings, Prompt

FORMATS = ("float", "base64")


class EmbeddingsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request; `user` is inert."""

    input: str | list[str | TokenId | list[TokenId]]
    model: str
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None


class DecodedEmbeddings(msgspec.Struct, frozen=True):
    """A decoded request, how its vectors are to be written, and who may make them."""

    request: EmbeddingRequest
    encoding_format: str = "float"
    routing: Routing = Routing()


class _VectorWire(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None  # optional at OpenRouter


class _AnswerWire(msgspec.Struct):
    """A whole answer; an error may stand in its place."""

    data: list[_VectorWire] | None = None
    model: str = ""
    usage: UsageWire | None = None
    id: str | None = None
    error: Any = None


_ANSWER = msgspec.json.Decoder(_AnswerWire)


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


def decode_answer(body: bytes, dialect: Dialect = CHAT_COMPLETIONS) -> Embeddings:
    """Read a whole answer's body; raises the error that it carries, or `ProviderError`.

    A usage that isn't there is zero tokens; `dialect` reads the error.
    """
    wire = read_as(body, _ANSWER)
    if wire.error is not None:
        raise dialect.decode_error(status_inside(wire.error), body)
    if wire.data is None:
        raise ProviderError("the answer isn't one of this wire: it has no data")
    data = vectors.join([_bytes_of(one) for one in _in_order(wire.data)])
    usage = read_usage(wire.usage)
    return Embeddings(wire.model, data, len(wire.data), "", usage, upstream_id=wire.id or "")


def _in_order(data: list[_VectorWire]) -> list[_VectorWire]:
    """Sort vectors by their places; without any they come in the order of the texts."""
    places = [one.index for one in data]
    if all(place is None for place in places):
        return data
    if sorted(-1 if place is None else place for place in places) != list(range(len(data))):
        raise ProviderError("the answer's vectors don't have the places 0, 1, 2 and so on")
    return sorted(data, key=lambda one: one.index or 0)


def _bytes_of(wire: _VectorWire) -> bytes:
    if isinstance(wire.embedding, str):
        return vectors.unpack_base64(wire.embedding)
    return vectors.pack(wire.embedding)
