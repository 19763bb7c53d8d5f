"""Token by token to text that is final: whole characters, and never a part of a stop string.

One `Detokenizer` follows one sequence. Text is held back while it could still become a stop
string; the first stop string to be complete wins (of several, the longest) and the text ends
right before it. The result doesn't depend on how the text was cut into tokens, and the work is
linear in the text.
"""

from __future__ import annotations

import codecs
from typing import Protocol


class TokenText(Protocol):
    """What is asked of a tokenizer."""

    def token_bytes(self, token_id: int) -> bytes:
        """Give the bytes of a token."""
        ...

    def is_special(self, token_id: int) -> bool:
        """Say whether a token stands for no text."""
        ...


class NoText:
    """Stands in for the tokenizer of a model that has none: no token has text."""

    def token_bytes(self, token_id: int) -> bytes:
        """Give no bytes for any token."""
        del token_id
        return b""

    def is_special(self, token_id: int) -> bool:
        """Say of every token that it stands for no text."""
        del token_id
        return True


class Detokenizer:
    """The text of one sequence; `push` every token, then `flush`."""

    def __init__(self, tokenizer: TokenText, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [_StopString(text) for text in stop]
        self._held = ""
        self._is_stopped = False

    def push(self, token_id: int) -> tuple[str, bool]:
        """Add a token; give the text that is final now and whether a stop string was met."""
        if self._is_stopped or self._tokenizer.is_special(token_id):
            return "", self._is_stopped
        text = self._decoder.decode(self._tokenizer.token_bytes(token_id))
        return self._release(text), self._is_stopped

    def flush(self) -> str:
        """Give the text that was held back; the sequence has ended."""
        if self._is_stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True))
        if self._is_stopped:
            return text
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        if not self._stops or not text:
            return text
        pending = self._held + text
        for position, char in enumerate(text, start=len(self._held) + 1):
            longest = 0
            for stop in self._stops:
                if stop.advance(char):
                    longest = max(longest, len(stop.text))
            if longest:
                self._is_stopped = True
                self._held = ""
                return pending[: position - longest]
        final = len(pending) - max(stop.num_matched for stop in self._stops)
        self._held = pending[final:]
        return pending[:final]


class _StopString:
    """Matches one string in a stream of characters (Knuth, Morris and Pratt 1977)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.num_matched = 0  # characters of `text` that the stream ends with
        self._fallbacks = _fallbacks(text)

    def advance(self, char: str) -> bool:
        """Take the next character; say whether the string is complete. Not called after that."""
        matched = self.num_matched
        while matched and self.text[matched] != char:
            matched = self._fallbacks[matched - 1]
        self.num_matched = matched + (self.text[matched] == char)
        return self.num_matched == len(self.text)


def _fallbacks(text: str) -> list[int]:
    """Give for every prefix the length of its longest proper prefix that also ends it."""
    fallbacks = [0] * len(text)
    matched = 0
    for index in range(1, len(text)):
        while matched and text[matched] != text[index]:
            matched = fallbacks[matched - 1]
        matched += text[matched] == text[index]
        fallbacks[index] = matched
    return fallbacks
