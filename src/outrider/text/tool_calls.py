"""Finds the calls of declared tools in what a model writes.

One pass over the text, character by character, so that the result doesn't depend on how the text
was cut, and the work is linear. What can't be a call any more is given out at once and is never
read again; a call is given out when it is complete. Text is kept byte for byte: only calls, the
marks and commas between and around them, and white space next to nothing but calls are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from outrider.text.call_runs import CallRun
from outrider.text.call_syntax import DeclaredTools
from outrider.text.literals import NotACall, Reader
from outrider.types import Tool

# A longer call is text; so a model can't make us hold more than this, whatever it writes.
MAX_CALL_CHARS = 1 << 18
_TRIGGER = re.compile(r"[\[{<`]")


class TextPiece(msgspec.Struct, frozen=True):
    """Text that is no call."""

    text: str


class CallPiece(msgspec.Struct, frozen=True):
    """A part of call `call_index`.

    The first part has its name; the joined `arguments` are a JSON object.
    """

    call_index: int
    name: str
    arguments: str
    is_start: bool


Piece = TextPiece | CallPiece


class ToolCallParser:
    """Follows one answer: `push` its text as it comes, then `finish`."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = DeclaredTools(tools)
        self._has_tools = bool(tools)
        self._pieces: list[Piece] = []
        self._text: list[str] = []  # final, but not in `_pieces` yet
        self._held: list[str] = []  # characters that may be part of a call
        self._last = ""  # the character that is being looked at
        self._is_prose = False  # nothing is held; only a trigger changes that
        self._num_calls = 0
        self._reader = self._read()
        next(self._reader)

    def push(self, text: str) -> list[Piece]:
        """Add text; give what is final now."""
        if not self._has_tools:
            return [TextPiece(text)] if text else []
        position = 0
        while position < len(text):
            if self._is_prose:
                position = self._skip_prose(text, position)
                continue
            self._last = text[position]
            self._held.append(self._last)
            position += 1
            if len(self._held) > MAX_CALL_CHARS:
                self._reader.throw(NotACall())
            else:
                self._reader.send(self._last)
        return self._take()

    def finish(self, is_truncated: bool = False) -> list[Piece]:
        """Give the rest; brackets that are missing at the end count as closed.

        Of an answer that came to its limit of tokens (`is_truncated`) nothing is completed: a call
        that isn't whole is text.
        """
        self._last = ""
        try:
            if is_truncated and self._held:
                self._reader.throw(NotACall())
            while True:
                self._reader.send("")
        except StopIteration:
            return self._take()

    def _read(self) -> Reader[None]:
        """Go through the whole text; is sent every character but those of prose."""
        char: str | None = None
        while char != "":
            run = CallRun(self._tools, self._held, self._give, is_start=char is None)
            try:
                yield from run.read(char)
                return
            except NotACall:
                char = self._release()
            if char and not _TRIGGER.match(char):
                self._text.append(char)
                self._held.clear()
                self._is_prose = True
                char = yield

    def _release(self) -> str:
        """Make text of what was held but the current character, which is given."""
        if self._last:
            self._held.pop()
        self._text.append("".join(self._held))
        self._held[:] = [self._last] if self._last else []
        return self._last

    def _skip_prose(self, text: str, position: int) -> int:
        """Make text of what can't begin a call; give the position of what can."""
        trigger = _TRIGGER.search(text, position)
        end = len(text) if trigger is None else trigger.start()
        self._text.append(text[position:end])
        self._is_prose = trigger is None
        return end

    def _give(self, name: str, arguments: str) -> None:
        self._flush_text()
        self._pieces.append(CallPiece(self._num_calls, name, arguments, is_start=True))
        self._num_calls += 1

    def _flush_text(self) -> None:
        if text := "".join(self._text):
            self._pieces.append(TextPiece(text))
        self._text.clear()

    def _take(self) -> list[Piece]:
        self._flush_text()
        pieces, self._pieces = self._pieces, []
        return pieces
