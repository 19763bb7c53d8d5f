"""Counts the tokens of one answer by its events, while its usage isn't known.

A host that says how many tokens an event has is believed; else an event with text is one, which is
what most hosts send. Nothing here knows prices or accounts.
"""

from __future__ import annotations

import msgspec

from outrider.types import Completed, Finished, TextDelta, ToolCallDelta, Usage

CHARS_PER_TOKEN = 4  # about, where nobody counts them


class AnswerCount:
    """Counts the events of one answer while its usage isn't known."""

    def __init__(self, completion_tokens: int) -> None:
        self.total = completion_tokens  # with what was counted before
        self.prompt_tokens = 0
        self.is_begun = False
        self.is_prompt_estimated = True
        self.has_tool_calls = False
        self.is_unstated = False  # the answer ended without its usage
        self._before = completion_tokens
        self._num_chars = 0
        self._is_counted = False  # the host says how many tokens an event has

    def add(self, event: TextDelta | ToolCallDelta | Finished) -> None:
        """Count an event; one token if the host doesn't say, which is what most hosts send."""
        self.is_begun = True
        self.has_tool_calls |= isinstance(event, ToolCallDelta)
        if event.num_tokens:
            self._is_counted = True
            self.total += event.num_tokens
        elif not self._is_counted and not isinstance(event, Finished):
            self.total += 1
            text = event.text if isinstance(event, TextDelta) else event.arguments
            self._num_chars += len(text)

    def stated(self, event: Completed) -> Completed:
        """Give the end with a usage: counted here if the host states none, else it would be free.

        A whole answer is one event, so its length counts if that is more.
        """
        usage = event.usage
        if usage.prompt_tokens or usage.completion_tokens or not self.is_begun:
            return event
        self.is_unstated = True
        least = -(-self._num_chars // CHARS_PER_TOKEN)
        counted = Usage(self.prompt_tokens, max(self.total - self._before, least))
        return msgspec.structs.replace(event, usage=counted)

    @property
    def is_estimated(self) -> bool:
        """Whether any of the counts is our own."""
        return not self._is_counted or self.is_prompt_estimated
