"""How a request for vectors is put to a remote provider; see `upstream`.

OpenAI's and OpenRouter's hosts are asked for base64, which is exact and a fifth of the bytes; one
that sends numbers all the same is understood. Workers AI is asked on its endpoint of OpenAI's kind,
which counts tokens, and on the native one for a pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import msgspec

from outrider.dialects import (
    cloudflare_embeddings,
    cloudflare_openai,
    openai,
    openai_embeddings,
    openrouter,
)
from outrider.dialects.base import Dialect
from outrider.dialects.capabilities import Kind
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import UnsupportedParameter
from outrider.gateway.upstream import Upstream
from outrider.types import EmbeddingRequest, Embeddings


@dataclass(frozen=True)
class EmbeddingCall:
    """A request in the form in which a provider gets it; `dialect` reads its errors."""

    dialect: Dialect
    url: str
    body: bytes
    decode: Callable[[bytes], Embeddings]


def embedding_call_of(upstream: Upstream, request: EmbeddingRequest) -> EmbeddingCall:
    """Give the call of a request; raises `UnsupportedParameter` for what can't be asked there."""
    request = msgspec.structs.replace(request, model=upstream.model)
    return _CALLS[upstream.kind](upstream, request)


def _shared_call(dialect: Dialect, upstream: Upstream, request: EmbeddingRequest) -> EmbeddingCall:
    if request.pooling is not None:
        raise UnsupportedParameter(
            f"{upstream.display_name} can't be told how to pool; leave it out", "pooling"
        )
    return EmbeddingCall(
        dialect,
        f"{upstream.base_url}/embeddings",
        openai_embeddings.encode_request(request, "base64"),
        partial(openai_embeddings.decode_answer, dialect=dialect),
    )


def _workers_ai_call(upstream: Upstream, request: EmbeddingRequest) -> EmbeddingCall:
    if request.pooling is not None:
        return EmbeddingCall(
            WorkersAi(),
            f"{upstream.base_url}/ai/run/{quote(upstream.model, safe='/@:')}",
            cloudflare_embeddings.encode_request(request),
            partial(cloudflare_embeddings.decode_answer, model=upstream.model),
        )
    # Both endpoints run the same models, and the native one's codec knows what they take.
    cloudflare_embeddings.check_carried(request)
    dialect = cloudflare_openai.EMBEDDINGS
    return EmbeddingCall(
        dialect,
        f"{upstream.base_url}/ai/v1/embeddings",
        openai_embeddings.encode_request(request),
        partial(openai_embeddings.decode_answer, dialect=dialect),
    )


_CALLS: Mapping[Kind, Callable[[Upstream, EmbeddingRequest], EmbeddingCall]] = {
    "openai": partial(_shared_call, openai.CHAT_COMPLETIONS),
    "openrouter": partial(_shared_call, openrouter.CHAT_COMPLETIONS),
    "workers-ai": _workers_ai_call,
}
