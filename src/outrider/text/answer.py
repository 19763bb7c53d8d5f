"""How tools take part in one answer: what is shown, what is enforced, what is read out of the text.

Turns the text of a choice into events of text and tool calls. Ids of calls are made here; the
syntax of calls belongs to `tool_calls` and that of grammars to `tool_grammar`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from outrider.text.tool_calls import Piece, TextPiece, ToolCallParser
from outrider.text.tool_enforced import EnforcedCalls
from outrider.text.tool_grammar import CALL_BEGINNINGS, FORMED_CALL_BEGINNINGS, tool_grammar
from outrider.types import (
    Finished,
    FinishReason,
    Grammar,
    NamedTool,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    ToolChoice,
)

AnswerEvent = TextDelta | ToolCallDelta | Finished


@dataclass(frozen=True)
class ToolUse:
    """The tools that one request may use, and how freely."""

    tools: tuple[Tool, ...] = ()  # that the model is shown
    grammar: Grammar | None = None  # that its answer has to match
    is_parallel: bool = True  # more than one call per answer
    has_form: bool = False  # what isn't a call is an object

    @classmethod
    def of(
        cls,
        tools: Sequence[Tool],
        choice: ToolChoice,
        is_parallel: bool,
        form: Grammar | None = None,
    ) -> ToolUse:
        """Work out what a request's tools, its choice among them and the text's form mean."""
        if not tools or choice == "none":
            return cls(grammar=form)
        if choice == "auto" and form is None and not any(tool.strict for tool in tools):
            return cls(tuple(tools), None, is_parallel)
        # A tool that is named is called exactly once (OpenAI's guide to function calling).
        is_parallel = is_parallel and not isinstance(choice, NamedTool)
        has_form = form is not None and choice == "auto"
        grammar = tool_grammar(tools, choice, is_parallel, form)
        return cls(tuple(tools), grammar, is_parallel, has_form)

    def reader(self, index: int) -> AnswerReader:
        """Start to read choice `index`."""
        return AnswerReader(index, self)


class AnswerReader:
    """Turns what one choice produces into events; text that may be part of a call is held back.

    Calls that a grammar enforces need no holding back: they come as they are made.
    """

    def __init__(self, index: int, use: ToolUse) -> None:
        self._index = index
        self._is_parallel = use.is_parallel
        self._parser = ToolCallParser(use.tools) if use.tools and not use.grammar else None
        self._enforced: EnforcedCalls | None = None
        if use.tools and use.grammar:
            beginnings = FORMED_CALL_BEGINNINGS if use.has_form else CALL_BEGINNINGS
            self._enforced = EnforcedCalls(beginnings)
        self._has_calls = False
        self._num_tokens = 0  # that no event has told of yet

    def read(
        self,
        text: str,
        logprobs: tuple[TokenLogprob, ...],
        reason: FinishReason | None,
        num_tokens: int = 0,
    ) -> list[AnswerEvent]:
        """Give the events of added text; with a `reason` the choice ends.

        Logprobs come with the tokens' own step, also if their text comes later or is a call.
        `num_tokens` were added; the next event tells of them.
        """
        self._num_tokens += num_tokens
        events = self._read(text, logprobs, reason)
        if events and self._num_tokens:
            events[0] = msgspec.structs.replace(events[0], num_tokens=self._num_tokens)
            self._num_tokens = 0
        return events

    def _read(
        self, text: str, logprobs: tuple[TokenLogprob, ...], reason: FinishReason | None
    ) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        if self._enforced is not None:
            events += self._to_events(self._enforced.push(text), logprobs)
        elif self._parser is not None:
            pieces = self._parser.push(text)
            if reason is not None:
                pieces += self._parser.finish(is_truncated=reason == "length")
            events += self._to_events(pieces, logprobs)
        elif text or logprobs:
            events.append(TextDelta(self._index, text, logprobs))
        if reason is not None:
            events.append(Finished(self._index, self._final_reason(reason)))
        return events

    def _final_reason(self, reason: FinishReason) -> FinishReason:
        """Say why the choice ended; calls are a reason only if all of them are whole."""
        is_cut = self._enforced is not None and self._enforced.is_open
        return "tool_calls" if reason == "stop" and self._has_calls and not is_cut else reason

    def _to_events(
        self, pieces: Iterable[Piece], logprobs: tuple[TokenLogprob, ...]
    ) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
        if text or logprobs:
            events.append(TextDelta(self._index, text, logprobs))
        for piece in pieces:
            if isinstance(piece, TextPiece) or (piece.call_index and not self._is_parallel):
                continue
            self._has_calls = True
            call_id, name = (new_call_id(), piece.name) if piece.is_start else ("", "")
            events.append(
                ToolCallDelta(self._index, piece.call_index, piece.arguments, call_id, name)
            )
        return events


def new_call_id() -> str:
    """Make an id that no other call has."""
    return f"call_{secrets.token_hex(12)}"
