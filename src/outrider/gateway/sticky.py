"""Which endpoint the next request of a conversation is sent to: the one whose cache knows it.

A session named by the client stays where it was answered; other conversations stay only where
their prompt was found in a cache that is cheaper than reading it again. Ten minutes without a
request end it, and only so many are remembered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from outrider.gateway.endpoint import Endpoint
from outrider.types import GenerationRequest

IDLE_S = 600.0
MAX_CONVERSATIONS = 10_000

Conversation = tuple[str, str]  # whose, and which
EndpointKey = tuple[str, str]


class Sticky:
    """Remembers who answered."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Conversation, tuple[EndpointKey, float]] = OrderedDict()

    def find(self, conversation: Conversation, now: float) -> EndpointKey | None:
        """Give who answered last, if that wasn't long ago."""
        kept = self._kept.get(conversation)
        return kept[0] if kept is not None and now < kept[1] else None

    def keep(self, conversation: Conversation, endpoint: Endpoint, now: float) -> None:
        """Remember who answered."""
        self._kept[conversation] = (endpoint.key, now + IDLE_S)
        self._kept.move_to_end(conversation)
        while len(self._kept) > MAX_CONVERSATIONS:
            self._kept.popitem(last=False)


def conversation_of(request: GenerationRequest) -> str:
    """Name a conversation by how it began: its first instructions and its first words."""
    instructions = next((m.text for m in request.messages if m.role == "system"), "")
    words = next((m.text for m in request.messages if m.role != "system"), "")
    texts = (str(len(instructions)), instructions, words, *map(str, request.prompts[:1]))
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()


def has_cheap_cache(endpoint: Endpoint) -> bool:
    """Say whether cached tokens cost less there than others."""
    return endpoint.price.cached is not None and endpoint.price.cached < endpoint.price.prompt
