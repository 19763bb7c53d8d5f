"""Llama 4's chat format, token for token as Meta's reference writes it.

Checked against chat_format.py of llama-models: header, content as it is (every part encoded by
itself), <|eot|>; a turn that calls tools and a tool's result end in <|eom|> instead. Calls are
written as one Python list, without the python markers of the Hugging Face template. Refuses
images whose token ids it isn't given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from outrider.errors import InvalidRequest
from outrider.text.conversation import (
    Conversation,
    call_param,
    check_messages,
    content_param,
    parse_arguments,
    part_param,
    refuse_images,
)
from outrider.text.pythonic import render_calls
from outrider.text.tokenizer import Tokenizer
from outrider.text.tool_prompts import llama4_tools
from outrider.types import Message, TextPart, ToolCall


@dataclass(frozen=True)
class Llama4:
    """A header with the role, two line ends, the content and <|eot|> or <|eom|> per message."""

    default_system: str = ""
    stop_token_names: ClassVar[tuple[str, ...]] = ("<|eot|>", "<|eom|>", "<|end_of_text|>")

    def encode(self, conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
        """Give the ids of a conversation, up to where the assistant's answer begins."""
        messages = conversation.messages
        check_messages(messages)
        num_images = sum(len(message.images) for message in messages)
        if num_images and not conversation.images:
            refuse_images(messages)
        if num_images != len(conversation.images):
            raise InvalidRequest(
                f"messages have {num_images} images but {len(conversation.images)} were encoded",
                "messages",
            )
        writer = _Writer(tokenizer, iter(conversation.images))
        writer.token_ids += self.raw_prefix(tokenizer)
        tools = llama4_tools(conversation.tools) if conversation.tools else ""
        if messages[0].role != "system" and (self.default_system or tools):
            writer.system(self.default_system, tools)
            tools = ""
        for index, message in enumerate(messages):
            writer.message(index, message, tools if index == 0 else "")
        if not messages[-1].is_open:
            writer.header("assistant")
        return writer.token_ids

    def raw_prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Give the ids that stand before a prompt that isn't a conversation."""
        return (tokenizer.special("<|begin_of_text|>"),)


class _Writer:
    """The ids of one conversation, as they grow."""

    def __init__(self, tokenizer: Tokenizer, images: Iterator[Sequence[int]]) -> None:
        self.token_ids: list[int] = []
        self._tokenizer = tokenizer
        self._images = images

    def header(self, role: str) -> None:
        special, encode = self._tokenizer.special, self._tokenizer.encode
        self.token_ids += [special("<|header_start|>"), *encode(role), special("<|header_end|>")]
        # By itself, also if the content begins with a line end: so does the reference.
        self.token_ids += encode("\n\n")

    def system(self, text: str, tools: str) -> None:
        """Write a system turn that the conversation doesn't have."""
        self.header("system")
        self._text("\n\n".join(part for part in (text, tools) if part), "tools")
        self._end("<|eot|>")

    def message(self, index: int, message: Message, tools: str) -> None:
        """Write one turn; `tools` goes behind its content."""
        self.header("ipython" if message.role == "tool" else message.role)
        self._content(index, message)
        if tools:
            self._text(f"\n\n{tools}" if message.content else tools, "tools")
        if message.tool_calls:
            self._calls(index, message.tool_calls)
        if message.is_open:
            return
        is_last = bool(message.tool_calls) or message.role == "tool"
        self._end("<|eom|>" if is_last else "<|eot|>")

    def _content(self, index: int, message: Message) -> None:
        if isinstance(message.content, str):
            self._text(message.content, content_param(index))
            return
        for number, part in enumerate(message.content):
            if isinstance(part, TextPart):
                self._text(part.text, part_param(index, number))
            else:
                self.token_ids += next(self._images)

    def _calls(self, index: int, tool_calls: tuple[ToolCall, ...]) -> None:
        params = [call_param(index, number) for number in range(len(tool_calls))]
        calls = [
            (call.name, parse_arguments(call.arguments, param))
            for call, param in zip(tool_calls, params, strict=True)
        ]
        self._text(render_calls(calls), f"messages[{index}].tool_calls")

    def _text(self, text: str, param: str) -> None:
        self.token_ids += self._tokenizer.encode(text, param)

    def _end(self, name: str) -> None:
        self.token_ids.append(self._tokenizer.special(name))
