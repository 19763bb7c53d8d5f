"""One sequence: a prompt, one of its choices and how far it is computed.

Knows no phases: a sequence is behind while `num_computed_tokens < num_tokens`, and the scheduler
lets it catch up. Blocks are written here by the block manager only; tokens by the engine only.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from outrider.engine.detokenizer import Detokenizer
from outrider.engine.drafter import Drafter
from outrider.engine.prompt_images import PromptImages
from outrider.engine.sampler import SamplerState
from outrider.types import SamplingParams, TokenLogprob

TOKEN_BYTES = 4  # of one entry of array("i")

CacheRoot = tuple[str, str | int]  # blocks are shared only between sequences of equal roots


@dataclass(frozen=True, slots=True)
class SequenceId:
    """Who a sequence belongs to; `seq_id` is also its age, lower is older."""

    seq_id: int
    request_id: str
    index: int  # prompt index * n + choice
    choice: int
    cache_root: CacheRoot


class LogprobBuffer:
    """Holds logprobs back until the text of their token is certain.

    A token is released once text up to its first byte was sent, so that tokens lying wholly in a
    stop string are never reported, and those of a finished text always are.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[int, TokenLogprob]] = deque()
        self._num_token_bytes = 0
        self._num_sent_bytes = 0

    def push(self, logprob: TokenLogprob, num_text_bytes: int) -> None:
        """Add the next token, which adds `num_text_bytes` to the text (0 if special)."""
        self._held.append((self._num_token_bytes, logprob))
        self._num_token_bytes += num_text_bytes

    def release(self, text: str, *, everything: bool = False) -> tuple[TokenLogprob, ...]:
        """Give the logprobs that `text` completes, or all that are held."""
        self._num_sent_bytes += len(text.encode())
        released = []
        while self._held and (everything or self._held[0][0] < self._num_sent_bytes):
            released.append(self._held.popleft()[1])
        return tuple(released)


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one choice of one prompt; compared by identity."""

    id: SequenceId
    sampling: SamplingParams
    token_ids: array[int]  # prompt, then output
    num_prompt_tokens: int
    max_num_tokens: int  # where the sequence ends, prompt included
    sampler: SamplerState
    detokenizer: Detokenizer
    logprobs: LogprobBuffer | None  # None: not asked for
    images: PromptImages | None = None
    lookup: Items[int] = ()  # text that the answer is expected to be like
    drafter: Drafter | None = None  # None: nothing is guessed, or not yet
    # Guessed tokens after `token_ids` that the step at hand verifies; empty between steps.
    draft: array[int] = field(default_factory=lambda: array("i"))
    # Blocks of the layers that see everything and of the chunked ones, by position // block size.
    block_table: array[int] = field(default_factory=lambda: array("i"))
    chunk_table: array[int] = field(default_factory=lambda: array("i"))
    num_freed_blocks: int = 0  # leading entries of `chunk_table` that no later token can see
    num_computed_tokens: int = 0
    num_registered_blocks: int = 0  # full blocks that the prefix cache knows
    num_cached_tokens: int | None = None  # prefix hits of the first admission; None: not yet
    is_finished: bool = False
    is_background: bool = False  # gives way to all that aren't
    siblings: list[Sequence] = field(default_factory=list)  # wait until the prompt is computed

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and output."""
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_predicted_tokens(self) -> int:
        """Tokens of `lookup` that were generated."""
        return self.drafter.num_predicted if self.drafter is not None else 0

    def block_content(self, block_index: int, block_size: int) -> bytes:
        """Give what one full block holds, in the form that the prefix cache compares."""
        start = block_index * block_size
        content = self.token_ids[start : start + block_size].tobytes()
        return content if self.images is None else content + self.images.key(start, block_size)


def to_token_array(token_ids: Items[int]) -> array[int]:
    """Copy token ids, already checked against the vocabulary, to a growable int32 array."""
    tokens = array("i", token_ids)
    assert tokens.itemsize == TOKEN_BYTES
    return tokens
