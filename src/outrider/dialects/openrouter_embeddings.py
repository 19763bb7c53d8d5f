"""OpenRouter's embeddings: OpenAI's, with who may answer, an id, and what they cost.

Unknown fields are ignored and named; hints (`input_type`, `user` and the like) change nothing.
Inputs of other kinds than text and token ids are refused by OpenAI's types. The form is that of
OpenRouter's OpenAPI file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from outrider.dialects import openai_embeddings
from outrider.dialects.base import convert, decode_json
from outrider.dialects.openai_embeddings import DecodedEmbeddings, EmbeddingsBody
from outrider.dialects.openrouter import PROVIDER, usd
from outrider.dialects.openrouter_request import Treatment
from outrider.dialects.openrouter_routing import (
    Preferences,
    RoutingFields,
    read_routing,
    spellings,
)
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.types import Embeddings

_MAPPED = ("model", "input", "dimensions", "encoding_format", "provider")
_INERT = ("user", "input_type", "session_id", "trace")
FIELDS: dict[str, Treatment] = {
    **dict.fromkeys(_MAPPED, "mapped"),
    **dict.fromkeys(_INERT, "inert"),
}


class RoutedEmbeddingsBody(EmbeddingsBody, frozen=True, forbid_unknown_fields=True):
    """OpenAI's body, and who may answer."""

    provider: Preferences | None = None


def decode_request(body: bytes, request_id: str) -> tuple[DecodedEmbeddings, tuple[str, ...]]:
    """Read a request's body; gives the names of ignored fields, too."""
    fields = decode_json(body, dict[str, Any])
    ignored = Ignored()
    known = {name: value for name, value in fields.items() if name in _MAPPED}
    for name, value in fields.items():
        if name not in FIELDS and value not in (None, [], {}):
            ignored.add(name)
    wire = convert(drop_unknown(known, RoutedEmbeddingsBody, "", ignored), RoutedEmbeddingsBody)
    routing = read_routing(RoutingFields(model=wire.model, provider=wire.provider))
    decoded = openai_embeddings.read_request(wire, request_id, spellings(wire.model)[-1])
    return msgspec.structs.replace(decoded, routing=routing), ignored.names()


def encode_answer(
    answer: Embeddings, encoding_format: str, answer_id: str, cost_microusd: int = 0
) -> Iterator[bytes]:
    """Write a whole answer's body, vector by vector."""
    tokens = answer.usage.prompt_tokens
    usage = {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "cost": usd(cost_microusd),
        "is_byok": False,
    }
    more = {"id": answer_id, "provider": answer.provider or PROVIDER, "usage": usage}
    return openai_embeddings.encode_answer(answer, encoding_format, more)
