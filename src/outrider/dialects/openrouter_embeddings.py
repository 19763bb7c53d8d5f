"""OpenRouter's embeddings: OpenAI's, with an id, what they cost, and unknown fields ignored.

Hints (`input_type`, `user` and the like) change nothing. Inputs of other kinds than text and token
ids are refused by OpenAI's types. The form is that of OpenRouter's OpenAPI file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from outrider.dialects import openai_embeddings
from outrider.dialects.base import convert, decode_json
from outrider.dialects.openai_embeddings import DecodedEmbeddings, EmbeddingsBody
from outrider.dialects.openrouter import PROVIDER, usd
from outrider.dialects.openrouter_request import Treatment
from outrider.dialects.openrouter_routing import spellings
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.types import Embeddings

_MAPPED = ("model", "input", "dimensions", "encoding_format")
_INERT = ("user", "input_type", "session_id", "trace")
FIELDS: dict[str, Treatment] = {
    **dict.fromkeys(_MAPPED, "mapped"),
    **dict.fromkeys(_INERT, "inert"),
    "provider": "ignored",
}


def decode_request(body: bytes, request_id: str) -> tuple[DecodedEmbeddings, tuple[str, ...]]:
    """Read a request's body; gives the names of ignored fields, too."""
    fields = decode_json(body, dict[str, Any])
    ignored = Ignored()
    shared = {name: value for name, value in fields.items() if name in _MAPPED}
    for name, value in fields.items():
        if FIELDS.get(name, "ignored") == "ignored" and value not in (None, [], {}):
            ignored.add(name)
    wire = convert(drop_unknown(shared, EmbeddingsBody, "", ignored), EmbeddingsBody)
    decoded = openai_embeddings.read_request(wire, request_id, spellings(wire.model)[-1])
    return decoded, ignored.names()


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
    more = {"id": answer_id, "provider": PROVIDER, "usage": usage}
    return openai_embeddings.encode_answer(answer, encoding_format, more)
