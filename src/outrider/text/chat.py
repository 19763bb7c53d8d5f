"""Conversations as token ids, in the formats that models were trained on.

A format is typed code: control tokens are placed by id and everything else goes through
`Tokenizer.encode`, so no content can end a turn or open another. Text between two control tokens
is encoded in one piece, which gives exactly the ids of the model's own template. Refuses a
conversation for a model that has no format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from outrider.errors import CheckpointError, InvalidRequest
from outrider.text.tokenizer import Tokenizer
from outrider.types import Message


class ChatFormat(Protocol):
    """How one family of models writes a conversation."""

    @property
    def stop_token_names(self) -> tuple[str, ...]:
        """Control tokens that end an answer; a tokenizer may lack all but the first."""
        ...

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        ...

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        ...


@dataclass(frozen=True)
class ChatML:
    """<|im_start|>role⏎content<|im_end|>⏎ per message; content is taken as it is."""

    default_system: str = ""
    stop_token_names: ClassVar[tuple[str, ...]] = ("<|im_end|>", "<|endoftext|>")

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        _check_messages(messages)
        start, end = tokenizer.special("<|im_start|>"), tokenizer.special("<|im_end|>")
        newline = tokenizer.encode("\n")
        token_ids: list[int] = []
        if self.default_system and messages[0].role != "system":
            token_ids += [start, *tokenizer.encode(f"system\n{self.default_system}"), end, *newline]
        for index, message in enumerate(messages):
            text = f"{message.role}\n{message.content}"
            token_ids += [start, *tokenizer.encode(text, _param(index)), end, *newline]
        return [*token_ids, start, *tokenizer.encode("assistant\n")]

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        return tokenizer.prefix_ids


@dataclass(frozen=True)
class Llama3:
    """A header with the role, two line ends, the stripped content and <|eot_id|> per message."""

    default_system: str = ""
    stop_token_names: ClassVar[tuple[str, ...]] = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        _check_messages(messages)
        end = tokenizer.special("<|eot_id|>")
        token_ids = list(self.raw_prefix(tokenizer))
        if self.default_system and messages[0].role != "system":
            text = f"\n\n{self.default_system.strip()}"
            token_ids += [*self._header("system", tokenizer), *tokenizer.encode(text), end]
        for index, message in enumerate(messages):
            text = f"\n\n{message.content.strip()}"
            header = self._header(message.role, tokenizer)
            token_ids += [*header, *tokenizer.encode(text, _param(index)), end]
        return [*token_ids, *self._header("assistant", tokenizer), *tokenizer.encode("\n\n")]

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        return (tokenizer.special("<|begin_of_text|>"),)

    def _header(self, role: str, tokenizer: Tokenizer) -> list[int]:
        name = "ipython" if role == "tool" else role
        start = tokenizer.special("<|start_header_id|>")
        return [start, *tokenizer.encode(name), tokenizer.special("<|end_header_id|>")]


@dataclass(frozen=True)
class NoChat:
    """A base model continues text; it takes no conversation."""

    stop_token_names: ClassVar[tuple[str, ...]] = ()

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Refuse: nothing says how this model would read a conversation."""
        del messages, tokenizer
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
    if name == "none":
        return NoChat()
    raise CheckpointError(f"chat format {name!r} is unknown; use chatml, llama3 or none")


def stop_token_ids(chat: ChatFormat, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Give the ids of the format's stop tokens that the tokenizer has."""
    names = chat.stop_token_names
    return tuple(tokenizer.special(name) for name in names if tokenizer.has_special(name))


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidRequest("messages is empty; send at least one message", "messages")


def _param(index: int) -> str:
    return f"messages[{index}].content"
