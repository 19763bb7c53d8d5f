"""docs/compat.md says what becomes of fields inside of others, and the codecs do that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from outrider.dialects import cloudflare, openai, openai_wire, openrouter, openrouter_request
from outrider.dialects.base import Decoded, Dialect, Envelope
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.errors import InvalidRequest, UnsupportedParameter

PAGE = Path(__file__).parents[1] / "docs" / "compat.md"
WIRES = {
    "OpenAI chat": openai_wire.INSIDE,
    "OpenRouter chat": openrouter_request.INSIDE,
    "Workers AI": cloudflare.INSIDE,
}
CODECS: dict[str, Dialect] = {
    "OpenAI chat": openai.CHAT_COMPLETIONS,
    "OpenRouter chat": openrouter.CHAT_COMPLETIONS,
    "Workers AI": cloudflare.WorkersAi(),
}
ENVELOPE = Envelope(request_id="r")
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
FUNCTION = {
    "name": "f",
    "description": "Does it.",
    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
    "strict": True,
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}}}
HINTS = {"reasoning": "hm", "reasoning_content": "hm", "reasoning_details": [{}], "model": "x"}
CACHE = {"cache_control": {"type": "ephemeral"}}
CONVERSATION: list[dict[str, Any]] = [
    {
        "role": "user",
        "name": "Ann",
        "content": [
            {"type": "text", "text": "Look", **CACHE},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        ],
    },
    {"role": "assistant", "content": "So", "tool_calls": [{**CALL, "index": 0}], **HINTS, **CACHE},
    {"role": "tool", "tool_call_id": "c", "content": "24"},
    {"role": "user", "content": "Go on"},
]
OLD_ANSWER = {"refusal": "no", "annotations": [{}], "provider_specific_fields": {"a": 1}}
CONVERSATION[1] |= OLD_ANSWER
PERCENTILES = ("p50", "p75", "p90", "p99")
CUTOFFS = ("preferred_min_throughput", "preferred_max_latency")
WISHES = {
    **{name: ["a"] for name in ("order", "only", "ignore")},
    **dict.fromkeys(("allow_fallbacks", "require_parameters", "zdr"), False),
    "data_collection": "deny",
    "quantizations": ["fp8"],
    "sort": "price",
    "max_price": dict.fromkeys(("prompt", "completion", "request", "image", "audio"), 1),
    **dict.fromkeys(CUTOFFS, 1),
}
BASE = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
WRAPPER = {"name": "n", "description": "d", "schema": SCHEMA, "strict": True}
# Together they have every field that is mapped or inert; the last is one of Workers AI.
BODIES: list[dict[str, Any]] = [
    {
        **BASE,
        "messages": CONVERSATION,
        "tools": [{"type": "function", "function": FUNCTION, **CACHE}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": WRAPPER},
        "prediction": {"type": "content", "content": [{"type": "text", "text": "p"}]},
        "usage": {"include": True},
    },
    {**BASE, "provider": {"require_parameters": False}, "verbosity": "medium"},
    {**BASE, "provider": WISHES},
    {**BASE, "provider": {**WISHES, "sort": {"by": "price", "partition": "none"}}},
    {**BASE, "provider": {**WISHES, **dict.fromkeys(CUTOFFS, dict.fromkeys(PERCENTILES, 1))}},
    {**BASE, "response_format": {"type": "grammar", "grammar": 'start: "a"'}},
    {
        **BASE,
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": True},
    },
    {**BASE, "structured_outputs": {"json": SCHEMA}},
    {**BASE, "structured_outputs": {"regex": "a"}},
    {**BASE, "structured_outputs": {"choice": ["a", "b"]}},
    {**BASE, "structured_outputs": {"grammar": 'start: "a"'}},
    {
        **BASE,
        "messages": [
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": "b"}}]},
            {"role": "user", "content": "Hi"},
        ],
        "tools": [{"type": "function", **FUNCTION}],
        "functions": [{"name": "f", "code": "args.a"}],
        "options": {"rejectIfBusy": True},
    },
]
REFUSED: dict[str, Any] = {
    "messages[].function_call": [{"role": "assistant", "function_call": {"name": "f"}}],
    "messages[].audio": [{"role": "assistant", "audio": {"id": "a"}}],
    "messages[].tool_calls[].custom": [
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}
    ],
    **{
        f"messages[].content[].{kind}": [{"role": "user", "content": [{"type": kind, kind: {}}]}]
        for kind in ("input_audio", "file", "refusal")
    },
    "tools[].custom": [{"type": "custom", "custom": {}}],
    "tool_choice.custom": {"type": "custom", "custom": {}},
    "provider.enforce_distillable_text": {"enforce_distillable_text": True},
    "tool_choice.allowed_tools": {"type": "allowed_tools", "allowed_tools": {}},
}
ROWS = [
    pytest.param(wire, path, how, id=f"{wire} {path}")
    for wire, fields in WIRES.items()
    for path, how in fields.items()
]


def table() -> str:
    """Write the page's table: one row per path, one column per wire."""
    paths = sorted({path for fields in WIRES.values() for path in fields})
    rows = [f"| field | {' | '.join(WIRES)} |", "|---" * (len(WIRES) + 1) + "|"]
    for path in paths:
        rows.append(f"| `{path}` | {' | '.join(w.get(path, '–') for w in WIRES.values())} |")
    return "\n".join(rows) + "\n"


def holders(value: Any, steps: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """Give each object that has the field at the end of a path."""
    first, *rest = steps
    if first == "[]":
        for item in value if isinstance(value, list) else ():
            yield from holders(item, rest)
    elif isinstance(value, dict) and first in value:
        if rest:
            yield from holders(value[first], rest)
        else:
            yield value, first


def split(path: str) -> list[str]:
    return re.findall(r"\[\]|[^.\[\]]+", path)


def other(value: Any) -> Any:
    """Give a value of the same type that says something else."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
    return type(value)()


def read(wire: str, body: dict[str, Any]) -> Decoded | None:
    """Give what a codec reads; None if it refuses."""
    if wire == "OpenAI chat":  # which refuses what only the others have
        body = drop_unknown(body, openai_wire.ChatBody, "", Ignored())
    try:
        return CODECS[wire].decode_request(json.dumps(body).encode(), ENVELOPE)
    except InvalidRequest:
        return None


def readings(wire: str, path: str) -> Iterator[tuple[Decoded, Decoded | None, Decoded | None]]:
    """Give what is read of the bodies with a field, with it changed, and without it."""
    for whole in BODIES:
        if not any(True for _ in holders(whole, split(path))):
            continue
        before = read(wire, whole)
        if before is None:
            continue
        changed, without = deepcopy(whole), deepcopy(whole)
        for holder, name in holders(changed, split(path)):
            holder[name] = other(holder[name])
        for holder, name in holders(without, split(path)):
            del holder[name]
        yield before, read(wire, changed), read(wire, without)


def test_the_table_of_fields_inside_of_others_is_that_of_the_codecs() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), table()


@pytest.mark.parametrize(("wire", "path", "how"), ROWS)
def test_a_field_inside_of_another_is_treated_as_the_table_says(
    wire: str, path: str, how: str
) -> None:
    if how == "refused":
        name = split(path)[0]
        tools = [{"type": "function", "function": FUNCTION}]
        body = {**BASE, "tools": tools, name: REFUSED[path]}
        with pytest.raises(UnsupportedParameter) as caught:
            CODECS[wire].decode_request(json.dumps(body).encode(), ENVELOPE)
        assert caught.value.param and caught.value.param.startswith(name)
        return
    cases = list(readings(wire, path))
    assert cases, f"no body of the test has {path}"
    if how == "inert":
        assert all(before == changed for before, changed, _ in cases)
    else:
        assert any(before != changed or before != without for before, changed, without in cases)
    assert all(path not in before.ignored for before, _, _ in cases)


def test_every_field_of_openais_types_has_a_row() -> None:
    names: set[str] = set()
    for field in msgspec.structs.fields(openai_wire.ChatBody):
        names |= paths_of(msgspec.inspect.type_info(field.type), field.name)
    assert names == set(openai_wire.INSIDE)


def paths_of(info: msgspec.inspect.Type, path: str) -> set[str]:
    """Give the paths of all fields of structs inside of a type."""
    match info:
        case msgspec.inspect.StructType():
            found: set[str] = set()
            for field in info.fields:
                inside = f"{path}.{field.encode_name}"
                found |= {inside} | paths_of(field.type, inside)
            return found
        case msgspec.inspect.ListType():
            return paths_of(info.item_type, f"{path}[]")
        case msgspec.inspect.UnionType():
            return set().union(*(paths_of(one, path) for one in info.types))
    return set()
