"""Counts a request's tokens with the tokenizer and chat format of a model, without computing.

Texts are counted exactly. Images aren't decoded for it: each counts as the most that one can take.
"""

from __future__ import annotations

import asyncio

import msgspec

from outrider.gateway.prompt_size import IMAGE_TOKENS, most_prompt_tokens
from outrider.text.answer import ToolUse
from outrider.text.prompt import PromptEncoder
from outrider.types import GenerationRequest, Message, TextPart

# Longer prompts are tokenised off the event loop: about 5 ms of work.
LONG_PROMPT_BYTES = 10_000


class TokenCounter:
    """See `PromptCounter`."""

    def __init__(self, prompts: PromptEncoder) -> None:
        self._prompts = prompts

    async def count(self, request: GenerationRequest) -> int:
        """Give the number of tokens of a request's prompts."""
        if most_prompt_tokens(request) > LONG_PROMPT_BYTES:
            return await asyncio.to_thread(self._count, request)
        return self._count(request)

    def _count(self, request: GenerationRequest) -> int:
        if not request.messages:
            return sum(
                len(self._prompts.text(prompt) if isinstance(prompt, str) else prompt)
                for prompt in request.prompts
            )
        use = ToolUse.of(
            request.tools, request.tool_choice, request.parallel_tool_calls, request.grammar
        )
        texts = tuple(map(_without_images, request.messages))
        num_images = sum(len(message.images) for message in request.messages)
        prompt = self._prompts.conversation(texts, use.tools)
        return len(prompt.token_ids) + IMAGE_TOKENS * num_images


def _without_images(message: Message) -> Message:
    if isinstance(message.content, str):
        return message
    parts = tuple(part for part in message.content if isinstance(part, TextPart))
    return msgspec.structs.replace(message, content=parts)
