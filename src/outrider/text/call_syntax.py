"""The ways in which models write a call, read one character at a time.

Python calls f(a=1), JSON objects {"name": …, "parameters": …} in all their variants, and the
names of declared tools. A name is followed only as long as it can still become a declared one;
everything else raises `NotACall` at the first character that shows it. An argument given twice
and positional arguments whose names can only be guessed are no call.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrider.text.literals import (
    NotACall,
    Read,
    Reader,
    json_object,
    json_string,
    next_item,
    read_constant,
    read_object,
    read_string,
    read_value,
    read_word,
    skip_space,
)
from outrider.types import Tool

_KEYS = ("name", "function", "parameters", "arguments", "type", "id", "index", "call_id")


class Words:
    """A set of words that can be asked whether a text begins one of them."""

    def __init__(self, words: Iterable[str]) -> None:
        self._sorted = sorted(set(words))

    def is_prefix(self, text: str) -> bool:
        """Say whether a word begins with the text."""
        index = bisect_left(self._sorted, text)
        return index < len(self._sorted) and self._sorted[index].startswith(text)

    def read(self, char: str) -> Reader[tuple[str, str]]:
        """Read on as long as a word can come of it; give that and the character behind it."""
        text = ""
        while char and self.is_prefix(text + char):
            text += char
            char = yield
        return text, char

    def __contains__(self, text: str) -> bool:
        index = bisect_left(self._sorted, text)
        return index < len(self._sorted) and self._sorted[index] == text


class DeclaredTools:
    """The tools of a request by their names."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        # Llama 3's built-in tools were called as brave_search.call(query="…"), and Llama 4 still
        # knows that form.
        self._tools = {f"{tool.name}.call": tool for tool in tools}
        self._tools |= {tool.name: tool for tool in tools}
        self._names = Words(self._tools)
        self._quoted = {json_string(name)[1:-1]: tool for name, tool in self._tools.items()}
        self._quoted |= {json.dumps(name)[1:-1]: tool for name, tool in self._tools.items()}
        self._quoted |= self._tools
        self._quoted_names = Words(self._quoted)

    def read(self, char: str) -> Reader[tuple[Tool, str]]:
        """Read a declared name; give its tool and the character behind it."""
        name, char = yield from self._names.read(char)
        tool = self._tools.get(name.rstrip())
        if tool is None:
            raise NotACall
        return tool, char

    def read_quoted(self, quote: str) -> Reader[Tool]:
        """Read a declared name, with or without JSON's escapes, and its closing quote."""
        char = yield
        name, char = yield from self._quoted_names.read(char)
        tool = self._quoted.get(name)
        if tool is None or char != quote:
            raise NotACall
        return tool


def read_call(tools: DeclaredTools, char: str) -> Reader[tuple[Tool, str]]:
    """Read name(…) up to its closing parenthesis; give the arguments as JSON text."""
    tool, char = yield from tools.read(char)
    if (yield from skip_space(char)) != "(":
        raise NotACall
    return tool, (yield from _read_arguments(tool))


def _read_arguments(tool: Tool) -> Reader[str]:
    positional: list[str] = []
    named: dict[str, str] = {}
    char = yield from skip_space(None)
    while char != ")":
        if char == "*":
            yield from _read_unpacked(named)
            after = None
        else:
            name, value, after = yield from _read_argument(char)
            if name in named or (not name and named):
                raise NotACall
            if name:
                named[name] = value
            else:
                positional.append(value)
        char = yield from next_item(after, ")")
    items = dict(zip(_positional_names(tool, len(positional)), positional, strict=True))
    if items.keys() & named.keys():
        raise NotACall
    return json_object(items | named)


def _read_argument(char: str) -> Reader[tuple[str, str, str | None]]:
    """Read name=value or a value alone, whose name is ""."""
    if not char.isidentifier():
        value, after = yield from read_value(char)
        return "", value, after
    word, char = yield from read_word(char)
    if char in ('"', "'"):
        value, after = yield from read_constant(word, char)
        return "", value, after
    char = yield from skip_space(char)
    if char != "=":
        value, after = yield from read_constant(word, char)
        return "", value, after
    value, after = yield from read_value((yield from skip_space(None)))
    return word, value, after


def _read_unpacked(named: dict[str, str]) -> Reader[None]:
    """Read **{…} into the named arguments; this is how names that are no keywords are given."""
    if (yield) != "*" or (yield from skip_space(None)) != "{":
        raise NotACall
    char = yield from skip_space(None)
    while char != "}":
        if char not in ('"', "'"):
            raise NotACall
        key, after = yield from read_string(char)
        if (yield from skip_space(after)) != ":" or key in named:
            raise NotACall
        named[key], after = yield from read_value((yield from skip_space(None)))
        char = yield from next_item(after, "}")


def _positional_names(tool: Tool, count: int) -> list[str]:
    """Name positional arguments by the schema's order; only if there's one way to do it.

    Python would have required parameters first, so a schema that mixes them is ambiguous.
    """
    if count == 0:
        return []
    names = list(_properties(tool))
    required = _required(tool)
    if count > len(names):
        raise NotACall
    if sorted(names, key=lambda name: name not in required)[:count] != names[:count]:
        raise NotACall
    return names[:count]


def _is_schema(arguments: str) -> bool:
    if '"type":"object"' not in arguments or '"properties":{' not in arguments:
        return False
    items = json.loads(arguments)
    return items.get("type") == "object" and isinstance(items.get("properties"), dict)


def _properties(tool: Tool) -> dict[str, object]:
    properties = tool.parameters.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(tool: Tool) -> list[object]:
    required = tool.parameters.get("required")
    return required if isinstance(required, list) else []


@dataclass
class _Call:
    """What is known of a call while its object is read."""

    tool: Tool | None = None
    arguments: str | None = None
    is_nested: bool = False  # inside of "function": {…}


def read_call_object(tools: DeclaredTools, can_be_bare: bool) -> Reader[tuple[Tool, str]]:
    """Read what stands behind "{" of a JSON call up to its "}".

    Without arguments it is a call only if it `can_be_bare` and its tool needs none; with a schema
    in their place it is the tool's definition, which models like to repeat.
    """
    call = _Call()
    yield from _read_fields(tools, call)
    if call.tool is None:
        raise NotACall
    if call.arguments is None and (_required(call.tool) or not can_be_bare):
        raise NotACall
    arguments = call.arguments or "{}"
    if _is_schema(arguments) and "properties" not in _properties(call.tool):
        raise NotACall
    return call.tool, arguments


def _read_fields(tools: DeclaredTools, call: _Call) -> Reader[None]:
    seen: set[str] = set()
    char = yield from skip_space(None)
    while char != "}":
        key = yield from read_choice(char, _KEY_WORDS)
        if key in seen or (yield from skip_space(None)) != ":":
            raise NotACall
        seen.add(key)
        char = yield from skip_space(None)
        after = yield from _read_field(tools, call, key, char)
        char = yield from next_item(after, "}")


def _read_field(tools: DeclaredTools, call: _Call, key: str, char: str) -> Reader[str | None]:
    """Read one value; give the character behind it, None if that one hasn't been read."""
    is_quoted = char in ('"', "'")
    if key == "type":
        yield from read_choice(char, _TYPE_WORDS)
        return None
    if key in ("name", "function"):
        if call.tool is not None:
            raise NotACall
        if is_quoted:
            call.tool = yield from tools.read_quoted(char)
        elif key == "function" and char == "{" and not call.is_nested:
            call.is_nested = True
            yield from _read_fields(tools, call)
            call.is_nested = False
        else:
            raise NotACall
        return None
    if key in ("parameters", "arguments"):
        if call.arguments is not None:
            raise NotACall
        call.arguments, after = yield from _read_json_arguments(char)
        return after
    _, after = yield from read_value(char)
    return after


def _read_json_arguments(char: str) -> Reader[Read[str]]:
    """Read an object, a string that holds one, or null."""
    if char == "{":
        return (yield from read_object()), None
    if char in ('"', "'"):
        text, after = yield from read_string(char)
        return parse_object(text), after
    value, after = yield from read_value(char)
    if value != "null":
        raise NotACall
    return "{}", after


def read_choice(char: str, words: Words) -> Reader[str]:
    """Read one of a few words in quotes, and its closing quote."""
    if char not in ('"', "'"):
        raise NotACall
    quote, word = char, ""
    while (char := (yield)) != quote:
        word += char
        if not char or not words.is_prefix(word):
            raise NotACall
    if word not in words:
        raise NotACall
    return word


def parse_object(text: str) -> str:
    """Read a whole text as one object; blank text is an empty one."""
    if not text.strip():
        return "{}"
    reader = _read_only_object()
    next(reader)
    try:
        for char in text:
            reader.send(char)
        reader.send("")
    except StopIteration as end:
        return str(end.value)
    raise NotACall


def _read_only_object() -> Reader[str]:
    if (yield from skip_space(None)) != "{":
        raise NotACall
    value = yield from read_object()
    if (yield from skip_space(None)) != "":
        raise NotACall
    return value


_KEY_WORDS = Words(_KEYS)
_TYPE_WORDS = Words(["function", "function_call", "tool_call"])
