"""Embeddings from an engine process on this machine.

It tokenises off the event loop, refuses what is too long before anything is computed, and leaves
the rest to the engine.
"""

from __future__ import annotations

import asyncio

from outrider.engine.client import EngineClient
from outrider.engine.protocol import Embed
from outrider.errors import EngineOverloaded, InvalidRequest
from outrider.model.config import EncoderConfig
from outrider.text.embedding_tokenizer import EmbeddingTokenizer
from outrider.types import MAX_EMBEDDING_TOKENS, EmbeddingRequest, Embeddings, Usage

# Longer requests are tokenised off the event loop: about 2 ms of work.
LONG_TEXT_CHARS = 10_000


class LocalEmbeddings:
    """Embeds in one engine process; at most `max_pending` requests at a time."""

    def __init__(
        self,
        client: EngineClient,
        config: EncoderConfig,
        tokenizer: EmbeddingTokenizer,
        name: str,
        max_pending: int,
    ) -> None:
        self.name = name
        self._client = client
        self._config = config
        self._tokenizer = tokenizer
        self._max_pending = max_pending
        self._num_pending = 0

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Give the vectors of a request; see `EmbeddingProvider`."""
        if self._num_pending >= self._max_pending:
            raise EngineOverloaded(
                f"{self._num_pending} requests are running or waiting for {self.name}; "
                "try again later or start with a larger --max-queue"
            )
        self._num_pending += 1
        try:
            return await self._embed(request)
        finally:
            self._num_pending -= 1

    async def _embed(self, request: EmbeddingRequest) -> Embeddings:
        self._check_dimensions(request.dimensions)
        if sum(map(len, request.texts)) > LONG_TEXT_CHARS:
            encoding = asyncio.to_thread(self._tokenizer.encode, request.texts, request.param)
            texts = await encoding
        else:
            texts = self._tokenizer.encode(request.texts, request.param)
        num_tokens = sum(map(len, texts))
        if num_tokens > MAX_EMBEDDING_TOKENS:
            raise InvalidRequest(
                f"{request.param} has {num_tokens:,} tokens in all; at most "
                f"{MAX_EMBEDDING_TOKENS:,} are taken at once: send several requests",
                request.param,
            )
        embed = Embed(
            request.request_id, tuple(map(tuple, texts)), request.pooling, request.dimensions
        )
        data = await self._client.embed(embed)
        pooling = request.pooling or self._config.pooling
        return Embeddings(self.name, data, len(texts), pooling, Usage(num_tokens, 0))

    def _check_dimensions(self, dimensions: int | None) -> None:
        size = self._config.hidden_size
        if dimensions is not None and not 1 <= dimensions <= size:
            raise InvalidRequest(
                f"dimensions is {dimensions}; vectors of {self.name} can have 1 to {size}",
                "dimensions",
            )
