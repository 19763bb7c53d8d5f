"""Conversations as token ids, in the formats that models were trained on.

A format is typed code: control tokens are placed by id and everything else goes through
`Tokenizer.encode`, so no content can end a turn or open another. Each format opens a new turn
for the assistant, also when the conversation ends with one of its messages, unless that one is
open. Refuses a conversation for a model that has no format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from outrider.errors import CheckpointError, InvalidRequest
from outrider.text.chat_chatml import ChatML as ChatML
from outrider.text.chat_llama3 import Llama3 as Llama3
from outrider.text.chat_llama4 import Llama4 as Llama4
from outrider.text.conversation import Conversation as Conversation
from outrider.text.conversation import refuse_images as refuse_images
from outrider.text.tokenizer import Tokenizer


class ChatFormat(Protocol):
    """How one family of models writes a conversation."""

    @property
    def stop_token_names(self) -> tuple[str, ...]:
        """Control tokens that end an answer; a tokenizer may lack all but the first."""
        ...

    def encode(self, conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        ...

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        ...


@dataclass(frozen=True)
class NoChat:
    """A base model continues text; it takes no conversation."""

    stop_token_names: ClassVar[tuple[str, ...]] = ()

    def encode(self, conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
        """Refuse: nothing says how this model would read a conversation."""
        del conversation, tokenizer
        raise InvalidRequest(
            "this model has no chat format that Outrider knows; send a prompt instead of messages",
            "messages",
        )

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        return tokenizer.prefix_ids


def chat_format(name: str, default_system: str = "") -> ChatFormat:
    """Find a format by the name that a checkpoint gives it."""
    if name == "chatml":
        return ChatML(default_system)
    if name == "llama3":
        return Llama3(default_system)
    if name == "llama4":
        return Llama4(default_system)
    if name == "none":
        return NoChat()
    raise CheckpointError(f"chat format {name!r} is unknown; use chatml, llama3, llama4 or none")


def stop_token_ids(chat: ChatFormat, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Give the ids of the format's stop tokens that the tokenizer has."""
    names = chat.stop_token_names
    return tuple(tokenizer.special(name) for name in names if tokenizer.has_special(name))
