"""Vectors from another machine: one embedding model at one remote provider, over HTTP.

What comes back is taken for hostile: an answer has as many vectors as there were texts, of the size
that was asked for and of finite numbers, or it is a `ProviderError`. See `remote` for the rest.
"""

from __future__ import annotations

import asyncio
import re

import msgspec

from outrider.errors import OutriderError, ProviderError, RequestError
from outrider.gateway.connections import Connections
from outrider.gateway.prompt_size import estimate_text_tokens
from outrider.gateway.remote_reply import RemoteReply
from outrider.gateway.upstream import Upstream, nothing_sent
from outrider.gateway.upstream_embeddings import embedding_call_of
from outrider.gateway.upstream_errors import told
from outrider.gateway.upstream_events import MAX_ID_CHARS
from outrider.types import EmbeddingRequest, Embeddings, Usage

HEAD_BYTES = 1 << 20
VECTOR_BYTES = 128 << 10  # 4,096 values as numbers, or 24,000 as base64
LONG_BYTES = 64 << 10  # longer answers are decoded off the event loop
_TEXTS_FIELD = re.compile(r"^(input|text)(?=\[|$)")


class RemoteEmbeddings:
    """Answers for one embedding model; see `EmbeddingProvider`."""

    def __init__(self, upstream: Upstream, name: str, connections: Connections) -> None:
        """Answer as the model `name`, which is what clients call it."""
        self.name = name
        self.upstream = upstream
        self._connections = connections
        self._headers = upstream.headers()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Give the vectors of a request; see `EmbeddingProvider`."""
        with nothing_sent():
            call = embedding_call_of(self.upstream, request)
        reply = RemoteReply(self._connections, call.dialect, self.upstream.timeouts)
        try:
            headers = self._headers | request.trace_headers
            kind = await reply.open(call.url, call.body, headers)
            if kind not in ("", "application/json"):
                raise ProviderError(f"the answer is of the type {kind[:80]}, not one of this wire")
            body = await reply.whole(HEAD_BYTES + VECTOR_BYTES * len(request.texts))
            if len(body) > LONG_BYTES:
                found = await asyncio.to_thread(call.decode, body)
            else:
                found = call.decode(body)
            return self._checked(found, request)
        except OutriderError as error:
            raise _renamed(told(self.upstream, error), request.param) from error
        finally:
            reply.close()

    def _checked(self, found: Embeddings, request: EmbeddingRequest) -> Embeddings:
        """Give an answer its names here; raises `ProviderError` for one to something else."""
        if found.num_texts != len(request.texts):
            raise ProviderError(
                f"the answer has {found.num_texts} vectors for {len(request.texts)} texts"
            )
        if request.dimensions not in (None, found.dimensions):
            raise ProviderError(
                f"the answer's vectors have {found.dimensions} values and not the "
                f"{request.dimensions} that were asked for"
            )
        tokens = found.usage.prompt_tokens
        return msgspec.structs.replace(
            found,
            model=self.name,
            provider=self.upstream.display_name,
            upstream_id=found.upstream_id[:MAX_ID_CHARS],
            usage=Usage(tokens or estimate_text_tokens(request.texts), 0),
            is_estimated=not tokens,  # no text has none
        )


def _renamed(error: OutriderError, param: str) -> OutriderError:
    """Name the field of the texts as the caller's wire does."""
    if isinstance(error, RequestError) and error.param:
        error.param = _TEXTS_FIELD.sub(param, error.param)
    return error
