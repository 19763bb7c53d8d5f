"""How the items of each wire become calls, and what comes back their results.

An item is decoded, answered and written by the same codec as if it had come alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from outrider.batch_types import Batch, Item, Status, Wire
from outrider.dialects import (
    cloudflare_batch,
    cloudflare_embeddings,
    openai,
    openai_batches,
    openai_embeddings,
)
from outrider.dialects.base import Answer, Decoded, Dialect, Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import EngineFailed, InvalidRequest
from outrider.gateway.embeddings import EmbeddingCatalogue
from outrider.server.embeddings import OPENAI_EMBEDDINGS
from outrider.server.generate import Services
from outrider.types import EmbeddingRequest, Embeddings


class GenerateCall(NamedTuple):
    """A request for text and how its answer is written."""

    decoded: Decoded
    encode: Callable[[Answer], bytes]


class EmbedCall(NamedTuple):
    """A request for vectors and how they are written."""

    request: EmbeddingRequest
    encode: Callable[[Embeddings], bytes]


Call = GenerateCall | EmbedCall


class BatchWire(Protocol):
    """What a batch has of its wire."""

    def dialect(self, batch: Batch) -> Dialect:
        """Give the codec that names the wire and writes its errors."""
        ...

    def call(self, batch: Batch, line: bytes, envelope: Envelope) -> Call:
        """Read an item; raises a `RequestError`."""
        ...

    def result(self, item: Item, request_id: str, status: int, body: bytes) -> bytes:
        """Write an item's result from the answer or the error that it got."""
        ...

    def unrun(self, batch: Batch, item: Item, status: Status) -> bytes:
        """Write the result of an item that never ran."""
        ...


class OpenAiItems:
    """Items of /v1/batches."""

    def dialect(self, batch: Batch) -> Dialect:
        """Give the endpoint's codec."""
        return _OPENAI[batch.endpoint]

    def call(self, batch: Batch, line: bytes, envelope: Envelope) -> Call:
        """Read the body of a line."""
        body = openai_batches.body_of(line)
        dialect = self.dialect(batch)
        if dialect is OPENAI_EMBEDDINGS:
            wanted = openai_embeddings.decode_request(body, envelope.request_id)
            form = wanted.encoding_format
            return EmbedCall(
                wanted.request,
                lambda answer: b"".join(openai_embeddings.encode_answer(answer, form)),
            )
        return _generate(dialect, body, envelope)

    def result(self, item: Item, request_id: str, status: int, body: bytes) -> bytes:
        """Write a line of the output or the error file."""
        return openai_batches.encode_result(item.custom_id, request_id, status, body)

    def unrun(self, batch: Batch, item: Item, status: Status) -> bytes:
        """Write a line of the error file."""
        return openai_batches.encode_unrun(item, batch.id, status)


class WorkersAiItems:
    """Items of the asynchronous batch; their `custom_id` is the reference as JSON."""

    def __init__(self, embeddings: EmbeddingCatalogue, dialect: Dialect) -> None:
        self._embeddings = embeddings
        self._dialect = dialect

    def dialect(self, batch: Batch) -> Dialect:
        """Give the native codec."""
        del batch
        return self._dialect

    def call(self, batch: Batch, line: bytes, envelope: Envelope) -> Call:
        """Read a request, for text or for vectors as the model has it."""
        if self._embeddings.has(batch.model):
            request, _ = cloudflare_embeddings.decode_request(
                line, envelope.request_id, batch.model
            )
            return EmbedCall(
                request, lambda answer: b"".join(cloudflare_embeddings.encode_answer(answer))
            )
        return _generate(self._dialect, line, envelope)

    def result(self, item: Item, request_id: str, status: int, body: bytes) -> bytes:
        """Write an entry of `responses`."""
        del request_id, status
        reference = msgspec.json.decode(item.custom_id)
        return cloudflare_batch.encode_response(item.position, reference, body)

    def unrun(self, batch: Batch, item: Item, status: Status) -> bytes:
        """Write an entry of `responses` with an error."""
        _, message = openai_batches.UNRUN[status]
        code, body = self._dialect.encode_error(EngineFailed(message), batch.id)
        return self.result(item, batch.id, code, body)


def make_wires(services: Services) -> dict[Wire, BatchWire]:
    """Give what there is for each wire."""
    native = WorkersAi(are_calls_flat=services.config.workers_ai_tool_calls == "flat")
    return {"openai": OpenAiItems(), "workers-ai": WorkersAiItems(services.embeddings, native)}


def _generate(dialect: Dialect, body: bytes, envelope: Envelope) -> GenerateCall:
    decoded = dialect.decode_request(body, envelope)
    if decoded.request.stream:
        raise InvalidRequest("a request in a batch can't be streamed; leave stream out", "stream")
    # A batch waits by its nature, whatever its requests say.
    request = msgspec.structs.replace(decoded.request, is_background=True, reject_if_busy=False)
    decoded = msgspec.structs.replace(decoded, request=request)
    return GenerateCall(decoded, lambda answer: dialect.encode_answer(answer, decoded))


def check_request(wire: BatchWire, batch: Batch, line: bytes, place: str) -> None:
    """Refuse an item that its codec can't read, with the place where it stands."""
    try:
        wire.call(batch, line, Envelope(request_id=batch.id, model=batch.model))
    except InvalidRequest as error:
        param = f"{place}.{error.param}" if error.param else place
        raise InvalidRequest(f"{place}: {error.message}", param) from error


_OPENAI: dict[str, Dialect] = {
    "/v1/chat/completions": openai.CHAT_COMPLETIONS,
    "/v1/completions": openai.COMPLETIONS,
    "/v1/embeddings": OPENAI_EMBEDDINGS,
}
