"""ChatML, with the tool tags that its models share.

<|im_start|>role⏎content<|im_end|>⏎ per message; content is taken as it is. Calls stand in
<tool_call>, results in <tool_response> of a tool's turn (the convention of Hermes 2 Pro, whose
calls are also those of Qwen and SmolLM2). Text between two control tokens is encoded in one
piece, which gives exactly the ids of the model's own template. Refuses images.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from outrider.text.tool_prompts import Tag, chatml_tools, cut_tags
from outrider.types import Message


@dataclass(frozen=True)
class ChatML:
    """<|im_start|>role⏎content<|im_end|>⏎ per message; content is taken as it is."""

    default_system: str = ""
    stop_token_names: ClassVar[tuple[str, ...]] = ("<|im_end|>", "<|endoftext|>")

    def encode(self, conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        messages = conversation.messages
        check_messages(messages)
        refuse_images(messages)
        start, end = tokenizer.special("<|im_start|>"), tokenizer.special("<|im_end|>")
        newline = tokenizer.encode("\n")
        tools = chatml_tools(conversation.tools) if conversation.tools else []
        token_ids: list[int] = []
        if messages[0].role != "system" and (self.default_system or tools):
            parts = _joined("\n\n", [self.default_system], tools)
            text = _encode(["system\n", *parts], tokenizer, "tools")
            token_ids += [start, *text, end, *newline]
            tools = []
        for index, message in enumerate(messages):
            parts = _joined("\n\n", _content(index, message), tools if index == 0 else [])
            text = _encode([f"{message.role}\n", *parts], tokenizer, content_param(index))
            token_ids += [start, *text]
            if message.is_open:
                return token_ids
            token_ids += [end, *newline]
        return [*token_ids, start, *tokenizer.encode("assistant\n")]

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        return tokenizer.prefix_ids


def _content(index: int, message: Message) -> list[str]:
    if message.role == "tool":
        return [*cut_tags("<tool_response>\n"), message.text, *cut_tags("\n</tool_response>")]
    contents = [[message.text]]
    for number, call in enumerate(message.tool_calls):
        arguments = arguments_json(call.arguments, call_param(index, number))
        body = f'{{"name": {quoted(call.name)}, "arguments": {arguments}}}'
        contents.append([*cut_tags("<tool_call>\n"), body, *cut_tags("\n</tool_call>")])
    return _joined("\n", *contents)


def _joined(between: str, *contents: list[str]) -> list[str]:
    """Join contents, each a list of parts, leaving out the empty ones."""
    result: list[str] = []
    for parts in contents:
        if any(parts):
            result += [between, *parts] if result else parts
    return result


def _encode(parts: Sequence[str], tokenizer: Tokenizer, param: str) -> list[int]:
    """Encode a turn; tags go by id if the tokenizer has them, as its own template would."""
    token_ids: list[int] = []
    text = ""
    for part in parts:
        if isinstance(part, Tag) and tokenizer.has_special(part):
            token_ids += [*tokenizer.encode(text, param), tokenizer.special(part)]
            text = ""
        else:
            text += part
    return [*token_ids, *tokenizer.encode(text, param)]
