"""Reads the calls out of an answer that a grammar of `tool_grammar` held to them.

The grammar fixes the form, so calls are found without guessing and given out as they are made, with
their arguments exactly as the model wrote them. An answer that was cut off has the beginning of its
last call. Brackets and tags around calls are taken out; an answer that begins otherwise is text.
"""

from __future__ import annotations

import json

from outrider.text.tool_calls import CallPiece, Piece, TextPiece
from outrider.text.tool_grammar import CALL_BEGINNINGS


class EnforcedCalls:
    """Follows one answer: `push` its text as it comes."""

    def __init__(self, beginnings: str = CALL_BEGINNINGS) -> None:
        self._beginnings = beginnings
        self._is_text: bool | None = None  # the first character says it
        self._num_calls = 0
        self._depth = 0  # of braces: 1 in a call, 2 and more in its arguments
        self._string: list[str] | None = None  # the one that is being read, with its quotes
        self._is_escaped = False
        self._num_strings = 0  # of this call, outside of its arguments
        self._name = ""

    @property
    def is_open(self) -> bool:
        """Whether a call has begun that isn't complete."""
        return self._depth > 0

    def push(self, text: str) -> list[Piece]:
        """Add text; give what is known now."""
        if self._is_text is None and text:
            self._is_text = text[0] not in self._beginnings
        if self._is_text:
            return [TextPiece(text)] if text else []
        pieces: list[Piece] = []
        begin = 0  # of the arguments in this text
        for position, char in enumerate(text):
            depth = self._depth
            self._follow(char)
            if self._name:
                pieces.append(CallPiece(self._num_calls, self._name, "", is_start=True))
                self._name = ""
            if depth == 1 and self._depth == 2:
                begin = position
            elif depth == 2 and self._depth == 1:
                self._add(pieces, text[begin : position + 1])
            elif depth == 1 and self._depth == 0:
                self._num_calls += 1
        if self._depth > 1:
            self._add(pieces, text[begin:])
        return pieces

    def _add(self, pieces: list[Piece], arguments: str) -> None:
        if arguments:
            pieces.append(CallPiece(self._num_calls, "", arguments, is_start=False))

    def _follow(self, char: str) -> None:
        """Step over one character; sets `_name` where that of a call ends."""
        if self._string is not None:
            self._follow_string(self._string, char)
        elif char == '"' and self._depth:
            self._string = [char]
        elif char == "{":
            self._depth += 1
            if self._depth == 1:
                self._num_strings = 0
        elif char == "}":
            self._depth -= 1

    def _follow_string(self, string: list[str], char: str) -> None:
        if self._depth == 1:
            string.append(char)
        if self._is_escaped or char == "\\":
            self._is_escaped = not self._is_escaped
        elif char == '"':
            self._string = None
            if self._depth == 1:
                self._num_strings += 1
                if self._num_strings == 2:  # "name": is before it, "parameters": behind it
                    self._name = json.loads("".join(string))
