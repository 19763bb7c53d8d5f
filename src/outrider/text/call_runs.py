"""A run of calls: what opens it, the calls, and what stands between and behind them.

Owns the list of characters that are held back: what is found to be a call or its syntax is taken
out of it, the rest stays for the parser to give out as text. `NotACall` ends a run.
"""

from __future__ import annotations

from collections.abc import Callable

from outrider.text.call_syntax import (
    DeclaredTools,
    Words,
    read_call,
    read_call_object,
)
from outrider.text.literals import NotACall, Reader, read_object, skip_space
from outrider.types import Tool

_FUNCTION = "<function="
_FUNCTION_END = "</function>"
_OPENERS = ("<|python_start|>", "<|python_tag|>", "<tool_call>")
_CLOSERS = ("<|python_end|>", "</tool_call>", _FUNCTION_END)
_TAGS = Words([*_OPENERS, *_CLOSERS, _FUNCTION])
_MAX_LANGUAGE_CHARS = 20

Give = Callable[[str, str], None]


class CallRun:
    """Reads one run; gives each call, by name and arguments, as soon as it is complete.

    `held` are the characters read so far that aren't given out, the current one included.
    """

    def __init__(self, tools: DeclaredTools, held: list[str], give: Give, is_start: bool) -> None:
        self._tools = tools
        self._held = held
        self._give = give
        # f() without a list around it and an object with nothing but a name are calls only where
        # the answer or a mark begins, and behind such a call.
        self._can_be_bare = is_start
        self._has_call = False
        self._has_mark = False
        self._has_fence = False
        self._is_open = False  # a mark stands here that no call has followed yet
        self._has_comma = False

    def read(self, char: str | None) -> Reader[None]:
        """Read up to the end of the text; raises `NotACall` if something else comes before it."""
        while True:
            char = yield from skip_space(char)
            if char == "":
                if self._is_open or not self._has_call:
                    raise NotACall
                self._held.clear()
                return
            if char == "<":
                char = yield from self._read_tag()
            elif char == "`":
                char = yield from self._read_fence()
            elif char in (",", ";") and self._has_call and not (self._has_comma or self._is_open):
                self._has_comma = True
                char = None
            elif char == "[":
                char = yield from self._read_list()
            elif char == "{":
                yield from self._read_object()
                char = None
            else:
                char = yield from self._read_bare(char)

    def _add(self, call: tuple[Tool, str], num_chars: int) -> None:
        """Give a call and take the first characters, which are its own, out of those held."""
        self._has_call = True
        self._is_open = self._has_comma = False
        del self._held[:num_chars]
        self._give(call[0].name, call[1])

    def _open(self) -> None:
        self._is_open = self._has_mark = self._can_be_bare = True

    def _close(self) -> None:
        if not self._has_call or self._is_open:
            raise NotACall
        self._held.clear()

    def _read_tag(self) -> Reader[str | None]:
        tag = yield from _read_tag()
        if tag == _FUNCTION:
            yield from self._read_function()
        elif tag in _OPENERS:
            self._open()
        else:
            self._close()
        return None

    def _read_fence(self) -> Reader[str | None]:
        for _ in range(2):
            if (yield) != "`":
                raise NotACall
        if self._has_fence and not self._is_open:
            self._has_fence = False
            self._close()
            return None
        self._has_fence = True
        self._open()
        return (yield from _skip_language())

    def _read_function(self) -> Reader[None]:
        """Read <function=name>{…}; its end tag is that of any call, and not asked for."""
        char = yield
        tool, char = yield from self._tools.read(char)
        if char != ">":
            raise NotACall
        arguments = "{}"
        char = yield from skip_space(None)
        if char == "{":
            arguments = yield from read_object()
        elif char != "<" or (yield from _read_tag()) != _FUNCTION_END:
            raise NotACall
        self._add((tool, arguments), len(self._held))

    def _read_object(self) -> Reader[None]:
        call = yield from read_call_object(self._tools, self._can_be_bare)
        self._add(call, len(self._held))

    def _read_bare(self, char: str) -> Reader[str]:
        """Read name(…), which has its line for itself."""
        if not self._can_be_bare:
            raise NotACall
        call = yield from read_call(self._tools, char)
        num_chars = len(self._held)
        char = yield
        while char in (" ", "\t", "\r"):
            char = yield
        if not (char in ("", "\n", ",", ";") or self._is_end(char)):
            raise NotACall
        self._add(call, num_chars)
        return char

    def _read_list(self) -> Reader[str | None]:
        """Read a list of calls; each is given when what follows it shows that the list goes on."""
        char = yield from skip_space(None)
        while True:
            if char == "{":
                yield from self._read_object()
                char = yield from skip_space(None)
            else:
                call = yield from read_call(self._tools, char)
                num_chars = len(self._held)
                char = yield from skip_space(None)
                if not (char in ("", ",", ";", "]") or self._is_end(char)):
                    raise NotACall
                self._add(call, num_chars)
            if char in (",", ";"):
                char = yield from skip_space(None)
            if char == "]":
                self._held.clear()
                return None
            if char == "" or self._is_end(char):
                return char

    def _is_end(self, char: str) -> bool:
        """Say whether the end of a mark may begin here, so that a bracket is missing."""
        return self._has_mark and char in ("<", "`")


def _read_tag() -> Reader[str]:
    """Read what stands behind "<"; give the whole tag."""
    text = "<"
    while text not in _TAGS:
        char = yield
        text += char
        if not char or not _TAGS.is_prefix(text):
            raise NotACall
    return text


def _skip_language() -> Reader[str]:
    """Skip the language that a code fence names; give the character behind it."""
    char = yield
    num_chars = 0
    while char.isalnum() or char in ("_", "-", "+"):
        num_chars += 1
        if num_chars > _MAX_LANGUAGE_CHARS:
            raise NotACall
        char = yield
    return char
