"""Python and JSON literals, read one character at a time and given as JSON text.

Every reader is a generator: it is sent the next character, "" at the end of the text, and takes
time linear in what it reads. It returns a value with the character behind it, or None if that one
wasn't needed yet. What is no literal raises `NotACall` at the first character that shows it. At
the end of the text, brackets that are open behind a complete value count as closed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Reader = Generator[None, str, T]
# A value and the character behind it, None if that one hasn't been read.
Read = tuple[T, str | None]

MAX_DEPTH = 100  # each level is a generator, so this also bounds the work per character
MAX_NUMBER_CHARS = 4000  # Python's own JSON reader refuses numbers above 4,300 digits
MAX_BASED_CHARS = 1000  # hexadecimal and so on, which is longer in decimal
MAX_WORD_CHARS = 256

_CONSTANTS = {"True": "true", "False": "false", "None": "null"}
_CONSTANTS |= {text: text for text in _CONSTANTS.values()}
_NUMBER_CHARS = frozenset("0123456789abcdefABCDEFxXoO_.+-")
_DECIMAL = re.compile(r"([+-]?)(0|[1-9][0-9]*|)(?:\.([0-9]*))?([eE][+-]?[0-9]+)?")
_BASED = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+)")
_ESCAPES = {
    **{char: char for char in "\"'\\/"},
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "a": "\a",
    "v": "\v",
    "\n": "",
}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_WORD_MARKS = (".", "$", "-")
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotACall(Exception):
    """What was read is no call of a declared tool, so it is text."""


def skip_space(char: str | None) -> Reader[str]:
    """Give the first character that isn't white space."""
    while char is None or char.isspace():
        char = yield
    return char


def read_value(char: str, depth: int = 0) -> Reader[Read[str]]:
    """Read the value that begins with `char`; give it as JSON text."""
    if depth > MAX_DEPTH:
        raise NotACall
    if char in ("[", "("):
        return (yield from _read_sequence(char, depth + 1)), None
    if char == "{":
        return (yield from read_object(depth + 1)), None
    if char in ('"', "'"):
        return (yield from _read_strings(char))
    if char and char in "+-.0123456789":
        return (yield from _read_number(char))
    word, after = yield from read_word(char)
    return (yield from read_constant(word, after))


def read_object(depth: int = 0) -> Reader[str]:
    """Read what stands behind "{" up to "}"; give it as JSON text.

    Of a key that is given twice the last value counts, as in Python and in JSON's readers.
    """
    items: dict[str, str] = {}
    char = yield from skip_space(None)
    while char != "}":
        key, is_bare, after = yield from _read_key(char)
        char = yield from skip_space(after)
        # Meta's own writer of Python lists (tool_utils.py) puts dictionaries as {key=value}.
        if char != ":" and not (is_bare and char == "="):
            raise NotACall
        char = yield from skip_space(None)
        items[key], after = yield from read_value(char, depth)
        char = yield from next_item(after, "}")
    return json_object(items)


def next_item(after: str | None, end: str) -> Reader[str]:
    """Step over the comma behind a value; give `end` or the next value's first character."""
    char = yield from skip_space(after)
    if char == "":
        return end
    if char == ",":
        char = yield from skip_space(None)
    elif char != end:
        raise NotACall
    return char


def json_object(items: dict[str, str]) -> str:
    """Write an object out of keys and values that are JSON text."""
    return "{" + ",".join(f"{json_string(key)}:{value}" for key, value in items.items()) + "}"


def json_string(text: str) -> str:
    """Write a string as JSON that is valid Unicode even if the string isn't."""
    return json.dumps(text, ensure_ascii=_SURROGATE.search(text) is not None)


def read_word(char: str) -> Reader[tuple[str, str]]:
    """Read a bare word, which may be a keyword of a schema: with dots, hyphens and dollars."""
    if not char.isidentifier():
        raise NotACall
    word = ""
    while char and (f"_{char}".isidentifier() or char in _WORD_MARKS):
        word += char
        if len(word) > MAX_WORD_CHARS:
            raise NotACall
        char = yield
    return word, char


def read_constant(word: str, after: str) -> Reader[Read[str]]:
    """Give a bare word's value: a constant, or the raw string that it opens."""
    if word in ("r", "R") and after in ('"', "'"):
        text, next_char = yield from read_string(after, is_raw=True)
        return json_string(text), next_char
    if word not in _CONSTANTS:
        raise NotACall
    return _CONSTANTS[word], after


def read_string(quote: str, is_raw: bool = False) -> Reader[Read[str]]:
    """Read what stands behind an opening quote; line ends inside are allowed."""
    parts: list[str] = []
    char = yield
    if char == quote:
        char = yield
        if char != quote:
            return "", char
        yield from _read_long_string(quote, is_raw, parts)
        return _paired("".join(parts)), None
    while char != quote:
        if char == "":
            raise NotACall
        if char == "\\":
            char = yield from _read_escape(is_raw, parts)
        else:
            parts.append(char)
            char = yield
    return _paired("".join(parts)), None


def _read_long_string(quote: str, is_raw: bool, parts: list[str]) -> Reader[None]:
    """Read a string between three quotes on each side."""
    num_quotes = 0
    char: str = yield
    while True:
        if char == "":
            raise NotACall
        if char == "\\":
            num_quotes = 0
            char = yield from _read_escape(is_raw, parts)
            continue
        num_quotes = num_quotes + 1 if char == quote else 0
        parts.append(char)
        if num_quotes == 3:
            del parts[-3:]
            return
        char = yield


def _read_escape(is_raw: bool, parts: list[str]) -> Reader[str]:
    """Read what stands behind a backslash; give the character behind the escape."""
    char = yield
    if char == "":
        raise NotACall
    if is_raw:
        parts.append(f"\\{char}")
        return (yield)
    if char in _HEX_DIGITS:
        parts.append((yield from _read_hex(_HEX_DIGITS[char])))
        return (yield)
    if char in "01234567":
        return (yield from _read_octal(char, parts))
    if char == "N":
        parts.append((yield from _read_character_name()))
        return (yield)
    parts.append(_ESCAPES.get(char, f"\\{char}"))
    return (yield)


def _read_hex(num_digits: int) -> Reader[str]:
    digits = ""
    for _ in range(num_digits):
        char = yield
        if char == "" or char not in "0123456789abcdefABCDEF":
            raise NotACall
        digits += char
    if int(digits, 16) > 0x10FFFF:
        raise NotACall
    return chr(int(digits, 16))


def _read_octal(char: str, parts: list[str]) -> Reader[str]:
    digits = ""
    while char and char in "01234567" and len(digits) < 3:
        digits += char
        char = yield
    parts.append(chr(int(digits, 8)))
    return char


def _read_character_name() -> Reader[str]:
    name = ""
    char = yield
    if char != "{":
        raise NotACall
    while (char := (yield)) != "}":
        name += char
        if char == "" or len(name) > MAX_WORD_CHARS:
            raise NotACall
    import unicodedata  # a megabyte that almost no answer needs

    try:
        return unicodedata.lookup(name)
    except KeyError:
        raise NotACall from None


def _paired(text: str) -> str:
    """Join surrogates that were escaped one by one, as JSON writes characters beyond U+FFFF."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _read_strings(quote: str) -> Reader[Read[str]]:
    """Read strings that stand one after the other, which Python joins."""
    text, after = yield from read_string(quote)
    parts = [text]
    char = yield from skip_space(after)
    while char in ('"', "'"):
        text, after = yield from read_string(char)
        parts.append(text)
        char = yield from skip_space(after)
    return json_string("".join(parts)), char


def _read_number(char: str) -> Reader[Read[str]]:
    text = ""
    while char and char in _NUMBER_CHARS:
        if char in "+-" and text[-1:] not in ("", "e", "E"):
            break
        text += char
        if len(text) > MAX_NUMBER_CHARS:
            raise NotACall
        char = yield
    return _json_number(text), char


def _json_number(text: str) -> str:
    """Write a Python number as JSON, digit by digit as it is."""
    if "_" in text:
        if re.search(r"(?<![0-9a-fA-FxXoO])_|_(?![0-9a-fA-F])", text):
            raise NotACall
        text = text.replace("_", "")
    if len(text) <= MAX_BASED_CHARS and (based := _BASED.fullmatch(text)):
        sign = "-" if based[1] == "-" else ""
        return f"{sign}{int(based[2], 0)}"
    decimal = _DECIMAL.fullmatch(text)
    if decimal is None or not (decimal[2] or decimal[3]):
        raise NotACall
    sign = "-" if decimal[1] == "-" else ""
    fraction = "" if decimal[3] is None else f".{decimal[3] or '0'}"
    return f"{sign}{decimal[2] or '0'}{fraction}{decimal[4] or ''}"


def _read_sequence(opening: str, depth: int) -> Reader[str]:
    """Read a list or a tuple; a value in mere parentheses is itself."""
    end = "]" if opening == "[" else ")"
    items: list[str] = []
    has_comma = False
    char = yield from skip_space(None)
    while char != end:
        item, after = yield from read_value(char, depth)
        items.append(item)
        char = yield from skip_space(after)
        has_comma |= char == ","
        char = yield from next_item(char, end)
    if end == ")" and len(items) == 1 and not has_comma:
        return items[0]
    return "[" + ",".join(items) + "]"


def _read_key(char: str) -> Reader[tuple[str, bool, str | None]]:
    """Read a key of a dictionary: a string, a bare word or a number, which JSON quotes."""
    if char in ('"', "'"):
        key, after = yield from read_string(char)
        return key, False, after
    if char and char in "+-.0123456789":
        key, after = yield from _read_number(char)
        return key, False, after
    word, char = yield from read_word(char)
    return _CONSTANTS.get(word, word), word not in _CONSTANTS, char
