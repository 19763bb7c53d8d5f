"""Tool calls as Python writes them: [f(a=1, b="x"), g()].

Owns the way from a call's JSON arguments to that text; `tool_calls` reads it back to the same
JSON. Every JSON object can be written: a key that is no keyword stands in **{...}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from outrider.text.conversation import JsonNumber, quoted
from outrider.text.literals import MAX_WORD_CHARS

# Stand inside of schemas' keys, and before "=" in a call too, although Python doesn't have them.
_MARKS = str.maketrans(".$-", "___")
_CONSTANTS = {True: "True", False: "False", None: "None"}


def render_calls(calls: Iterable[tuple[str, Mapping[str, object]]]) -> str:
    """Write calls, each a name with its arguments, as one list."""
    return "[" + ", ".join(render_call(name, arguments) for name, arguments in calls) + "]"


def render_call(name: str, arguments: Mapping[str, object]) -> str:
    """Write one call."""
    keywords = {key: value for key, value in arguments.items() if _is_keyword(key)}
    parts = [f"{key}={render_value(value)}" for key, value in keywords.items()]
    others = {key: value for key, value in arguments.items() if key not in keywords}
    if others:
        parts.append(f"**{render_value(others)}")
    return f"{name}({', '.join(parts)})"


def _is_keyword(key: str) -> bool:
    is_word = key[:1].isidentifier() and key.translate(_MARKS).isidentifier()
    return is_word and len(key) <= MAX_WORD_CHARS


def render_value(value: object) -> str:
    """Write a JSON value as a Python literal; a `JsonNumber` as it is."""
    if isinstance(value, JsonNumber):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, Mapping):
        pairs = (f"{quoted(key)}: {render_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(render_value, value)) + "]"
    return repr(value)
