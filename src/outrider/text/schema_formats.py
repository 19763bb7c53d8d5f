"""Formats that the grammars' library takes too widely, rewritten to constraints that are exact.

Owns the calendar of RFC 3339 and the length of host names as keywords that every grammar enforces.
Rewrites only what a schema uses, never the values of its `enum` and `const`. Leap seconds are never
written: which minutes have one isn't known ahead, so an answer without them is always valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from outrider.text.schema_check import UnenforceableSchema, used_schemas

_YEAR = "[0-9]{4}"
# The Gregorian calendar's: multiples of 4 that don't end in 00, and multiples of 400.
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = f"(?:{_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_MINUTE}:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+-]{_MINUTE})"
PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}[Tt]{_TIME}$",
}
# RFC 1035 bounds a name to 255 octets with the length of its first label and the root's.
MAX_HOSTNAME_CHARS = 253


def make_formats_exact(schema: object) -> bool:
    """Rewrite the formats in a schema that `check_schema` took; say whether anything changed.

    Raises `UnenforceableSchema` where a schema that must change is also a value.
    """
    parts = [(path, part) for path, part in used_schemas(schema) if _is_wide(part)]
    if not parts:
        return False
    fixed = {id(value) for _, part in used_schemas(schema) for value in _values(part)}
    for path, part in parts:
        if id(part) in fixed:
            raise UnenforceableSchema(f"format at {path} isn't supported inside of a value")
        _narrow(path, part)
    return True


def _is_wide(schema: dict[str, Any]) -> bool:
    name = schema.get("format")
    return name == "hostname" or name in PATTERNS


def _narrow(path: str, schema: dict[str, Any]) -> None:
    if schema["format"] == "hostname":
        longest = schema.get("maxLength", MAX_HOSTNAME_CHARS)
        schema["maxLength"] = min(longest, MAX_HOSTNAME_CHARS)
        return
    pattern = PATTERNS[schema.pop("format")]
    if "pattern" not in schema:
        schema["pattern"] = pattern
        return
    others = schema.get("allOf", [])
    if not isinstance(others, list):
        raise UnenforceableSchema(f"allOf at {path} must be a list")
    schema["allOf"] = [*others, {"pattern": pattern}]


def _values(schema: dict[str, Any]) -> Iterator[object]:
    """Give the objects inside of what `enum` and `const` name, which a `$ref` can point into."""
    todo = [schema.get("enum"), schema.get("const")]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value
