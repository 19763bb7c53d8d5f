"""Providers of embeddings and their names; `local_embeddings` has the one on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from outrider.errors import ModelNotFound
from outrider.types import EmbeddingRequest, Embeddings


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
