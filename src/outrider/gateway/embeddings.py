"""Models that make embeddings: who answers for each, and their names.

They are apart from those that write text: a name stands for one or the other. An endpoint has the
same facts, and the same health, as one for text.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from outrider.errors import ModelNotFound
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.provider import Provider
from outrider.types import EmbeddingRequest, Embeddings, Event, GenerationRequest


class EmbeddingProvider(Protocol):
    """Answers for one embedding model."""

    @property
    def name(self) -> str:
        """Name of the model that answers."""
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Give the vectors of a request; cancelling it drops the request."""
        ...


class _NoText:
    """What an endpoint for embeddings has where others have what writes text."""

    name = ""
    is_ready = True

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        raise ModelNotFound(f"{request.model} makes embeddings and no text", "model")


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingEndpoint(Endpoint):
    """One embedding model at one host; `context_length` is that of each text."""

    embedder: EmbeddingProvider
    provider: Provider = _NoText()  # noqa: RUF009 - it has no state


def own_endpoint(embedder: EmbeddingProvider) -> EmbeddingEndpoint:
    """Give the endpoint of a model on this machine."""
    return EmbeddingEndpoint(host=Host(), model=embedder.name, embedder=embedder)


def own_entry(embedder: EmbeddingProvider) -> Entry:
    """Give the entry of a model that this machine alone has."""
    endpoint = own_endpoint(embedder)
    return Entry(endpoint.provider, endpoints=(endpoint,))


class EmbeddingCatalogue(Catalogue):
    """Look-up of embedding models by every name that a client may send."""

    def has(self, *names: str) -> bool:
        """Say whether a name stands for an embedding model."""
        return any(name in self._by_name for name in names)

    def find(self, *names: str) -> Entry:
        """Give the entry for the first name that is served; raises `ModelNotFound`."""
        for name in names:
            if entry := self._by_name.get(name):
                return entry
        if not self.entries:
            raise ModelNotFound(
                "no embedding model is served here; start with --embedding-model NAME", "model"
            )
        served = ", ".join(entry.name for entry in self.entries)
        shown = "".join(c if c.isprintable() else "?" for c in "".join(names[:1])[:200])
        raise ModelNotFound(f"no model {shown!r} makes embeddings here; served: {served}", "model")
