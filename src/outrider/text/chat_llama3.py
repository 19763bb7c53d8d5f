"""Llama 3's chat format, with the JSON calls of Llama 3.1.

A header with the role, two line ends, the stripped content and <|eot_id|> per message, encoded
in one piece as the model's own template is. Calls are JSON objects with name and parameters;
results stand in a turn of the role ipython. Refuses images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from outrider.text.conversation import (
    Conversation,
    arguments_json,
    call_param,
    check_messages,
    content_param,
    quoted,
    refuse_images,
)
from outrider.text.tokenizer import Tokenizer
from outrider.text.tool_prompts import llama3_tools
from outrider.types import Message


@dataclass(frozen=True)
class Llama3:
    """A header with the role, two line ends, the stripped content and <|eot_id|> per message."""

    default_system: str = ""
    stop_token_names: ClassVar[tuple[str, ...]] = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")

    def encode(self, conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        messages = conversation.messages
        check_messages(messages)
        refuse_images(messages)
        end = tokenizer.special("<|eot_id|>")
        tools = llama3_tools(conversation.tools) if conversation.tools else ""
        token_ids = list(self.raw_prefix(tokenizer))
        if messages[0].role != "system" and (self.default_system or tools):
            text = _joined(self.default_system.strip(), tools)
            header = self._header("system", tokenizer)
            token_ids += [*header, *tokenizer.encode(f"\n\n{text}", "tools"), end]
            tools = ""
        for index, message in enumerate(messages):
            text = _joined(_content(index, message), tools if index == 0 else "")
            header = self._header(message.role, tokenizer)
            token_ids += [*header, *tokenizer.encode(f"\n\n{text}", content_param(index))]
            if message.is_open:
                return token_ids
            token_ids.append(end)
        return [*token_ids, *self._header("assistant", tokenizer), *tokenizer.encode("\n\n")]

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        return (tokenizer.special("<|begin_of_text|>"),)

    def _header(self, role: str, tokenizer: Tokenizer) -> list[int]:
        name = "ipython" if role == "tool" else role
        start = tokenizer.special("<|start_header_id|>")
        return [start, *tokenizer.encode(name), tokenizer.special("<|end_header_id|>")]


def _content(index: int, message: Message) -> str:
    # An answer goes on behind the last character that was sent, also if that is a space.
    text = message.text.lstrip() if message.is_open else message.text.strip()
    calls = []
    for number, call in enumerate(message.tool_calls):
        arguments = arguments_json(call.arguments, call_param(index, number))
        calls.append(f'{{"name": {quoted(call.name)}, "parameters": {arguments}}}')
    # Several calls in one turn are separated the way Llama 3.1 itself does it.
    return _joined(text, "; ".join(calls))


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
