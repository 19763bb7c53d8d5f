"""How many tokens a request's prompts have, as far as it can be said without a tokenizer.

The bound holds for every tokenizer whose tokens are at least a byte long, so a prompt that fits by
it fits; the estimate is right to a third or so for texts that models are good at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from outrider.routing_types import Trace
from outrider.types import GenerationRequest, Prompt

BYTES_PER_TOKEN = 4  # of English text
TURN_TOKENS = 10  # the marks around a message, at most
IMAGE_TOKENS = 2_500  # Llama 4 cuts an image into at most 17 tiles of 144 tokens and their marks


def prompt_tokens_range(request: GenerationRequest) -> tuple[int, int]:
    """Give about how many tokens the prompts have, and a number that they don't exceed."""
    around = _around(request)
    num_bytes = sum(map(_num_bytes, _texts(request))) + _tools(request)
    return around // 2 + -(-num_bytes // BYTES_PER_TOKEN), around + num_bytes


def known_range(request: GenerationRequest, trace: Trace) -> tuple[int, int]:
    """Give the range of a request that is asked for it several times on its way."""
    if trace.sized is None or trace.sized[0] is not request:
        trace.sized = request, prompt_tokens_range(request)
    return trace.sized[1]


def most_prompt_tokens(request: GenerationRequest) -> int:
    """Give a number of tokens that the prompts don't exceed."""
    return prompt_tokens_range(request)[1]


def estimate_text_tokens(texts: Iterable[Prompt]) -> int:
    """Give about how many tokens texts have."""
    return sum(
        -(-_num_bytes(text) // BYTES_PER_TOKEN) if isinstance(text, str) else len(text)
        for text in texts
    )


def _around(request: GenerationRequest) -> int:
    """Count what isn't text: marks, images, and prompts that are tokens already."""
    num_images = sum(len(message.images) for message in request.messages)
    tokens = sum(len(prompt) for prompt in request.prompts if not isinstance(prompt, str))
    return TURN_TOKENS * (1 + len(request.messages)) + IMAGE_TOKENS * num_images + tokens


def _texts(request: GenerationRequest) -> Iterator[str]:
    for prompt in request.prompts:
        if isinstance(prompt, str):
            yield prompt
    for message in request.messages:
        yield message.text
        for call in message.tool_calls:
            yield call.name
            yield call.arguments


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _tools(request: GenerationRequest) -> int:
    return len(msgspec.json.encode(request.tools)) if request.tools else 0
