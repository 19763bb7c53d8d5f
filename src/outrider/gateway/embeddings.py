"""Providers of embeddings: their names, and the one in an engine process here.

The local one tokenises off the event loop, refuses what is too long before anything is computed,
and leaves the rest to the engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from outrider.engine.client import EngineClient
from outrider.engine.protocol import Embed
from outrider.errors import EngineOverloaded, InvalidRequest, ModelNotFound
from outrider.model.config import EncoderConfig
from outrider.text.embedding_tokenizer import EmbeddingTokenizer
from outrider.types import MAX_EMBEDDING_TOKENS, EmbeddingRequest, Embeddings, Usage

# Longer requests are tokenised off the event loop: about 2 ms of work.
LONG_TEXT_CHARS = 10_000


class EmbeddingProvider(Protocol):
    """Answers for one embedding model."""

    @property
    def name(self) -> str:
        """Name of the model that answers."""
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Give the vectors of a request; cancelling it drops the request."""
        ...


@dataclass(frozen=True)
class EmbeddingEntry:
    """One served embedding model."""

    provider: EmbeddingProvider
    aliases: tuple[str, ...] = ()
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        """The name that answers carry."""
        return self.provider.name


class EmbeddingCatalogue:
    """Look-up of embedding models by every name that a client may send."""

    def __init__(self, entries: Iterable[EmbeddingEntry] = ()) -> None:
        self.entries = tuple(entries)

    def has(self, name: str) -> bool:
        """Say whether a name stands for an embedding model."""
        return any(name == entry.name or name in entry.aliases for entry in self.entries)

    def find(self, name: str) -> EmbeddingEntry:
        """Give the entry of a name; raises `ModelNotFound`."""
        for entry in self.entries:
            if name == entry.name or name in entry.aliases:
                return entry
        if not self.entries:
            raise ModelNotFound(
                "no embedding model is served here; start with --embedding-model NAME", "model"
            )
        served = ", ".join(entry.name for entry in self.entries)
        shown = "".join(c if c.isprintable() else "?" for c in name[:200])
        raise ModelNotFound(f"no model {shown!r} makes embeddings here; served: {served}", "model")


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
