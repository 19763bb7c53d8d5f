"""The parser of tool calls: every style, every cut, and no text lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.text.conversation import parse_arguments
from outrider.text.pythonic import render_call, render_calls
from outrider.text.tool_calls import MAX_CALL_CHARS, CallPiece, Piece, TextPiece, ToolCallParser
from outrider.types import Tool

WEATHER = Tool(
    "get_weather",
    "",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
MIXED = Tool("mixed", "", {"properties": {"a": {}, "b": {}}, "required": ["b"]})
TOOLS = [WEATHER, MIXED, Tool("now"), Tool("a.b-c"), Tool("get"), Tool('na"mé')]

Call = tuple[str, str]


def merged(pieces: list[Piece]) -> list[str | Call]:
    """Give text in one piece between the calls, and calls as name and arguments."""
    result: list[str | Call] = []
    for piece in pieces:
        if isinstance(piece, CallPiece):
            assert piece.is_start
            assert piece.call_index == sum(isinstance(item, tuple) for item in result)
            result.append((piece.name, piece.arguments))
        elif result and isinstance(result[-1], str):
            result[-1] += piece.text
        else:
            assert piece.text
            result.append(piece.text)
    return result


def parsed(text: str, tools: list[Tool] = TOOLS, is_truncated: bool = False) -> list[str | Call]:
    parser = ToolCallParser(tools)
    return merged(parser.push(text) + parser.finish(is_truncated))


def streamed(text: str, tools: list[Tool], cuts: list[int]) -> list[str | Call]:
    parser = ToolCallParser(tools)
    pieces: list[Piece] = []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += parser.push(text[begin:end])
    return merged(pieces + parser.finish())


def check_every_cut(text: str, tools: list[Tool] = TOOLS) -> None:
    whole = parsed(text, tools)
    assert streamed(text, tools, list(range(1, len(text)))) == whole
    for cut in range(len(text) + 1):
        assert streamed(text, tools, [cut]) == whole


PARIS = ("get_weather", '{"city":"Paris"}')
NOW = ("now", "{}")

ACCEPTED: list[tuple[str, list[str | Call]]] = [
    ('[get_weather(city="Paris")]', [PARIS]),
    ("[get_weather(city='Paris'), now()]", [PARIS, NOW]),
    ('[ get_weather ( city = "Paris" , ) , now( ) , ]', [PARIS, NOW]),
    ("[now(); now()]", [NOW, NOW]),
    ("[now()]\n[now()]", [NOW, NOW]),
    ("[a.b-c(x=-1, y=+2, z=None)]", [("a.b-c", '{"x":-1,"y":2,"z":null}')]),
    ("[get(x-y=1, $a.b=2)]", ["[get(x-y=1, $a.b=2)]"]),
    ("[get(x-y=1, a.b$=2)]", [("get", '{"x-y":1,"a.b$":2}')]),
    ('[get(**{"x y": 1}, z=2)]', [("get", '{"x y":1,"z":2}')]),
    ("[get(x=(1, [2]), y={'a': {b: true}})]", [("get", '{"x":[1,[2]],"y":{"a":{"b":true}}}')]),
    ('[get_weather("Paris")]', [PARIS]),
    ('[get_weather("Paris", 3)]', [("get_weather", '{"city":"Paris","days":3}')]),
    ('[get_weather("Paris", days=3)]', [("get_weather", '{"city":"Paris","days":3}')]),
    ("[get_weather(r'\\d')]", [("get_weather", '{"city":"\\\\d"}')]),
    ("[now.call()]", [NOW]),
    ("get_weather(city='Paris')", [PARIS]),
    ("\n now() \n now(); now()\n", [NOW, NOW, NOW]),
    ('{"name": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
    ('{"type": "function", "name": "get_weather", "arguments": {"city": "Paris"}}', [PARIS]),
    ('{"parameters": {"city": "Paris"}, "name": "get_weather"}', [PARIS]),
    ('{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}', [PARIS]),
    ("{'name': 'get_weather', 'parameters': {'city': 'Paris'}}", [PARIS]),
    ('{"id": "call_1", "type": "function", "index": 0, "function": {"name": "now"}}', [NOW]),
    ('{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}', [PARIS]),
    ('{"function": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
    ('{"name": "now"}', [NOW]),
    ('{"calls": [{"name": "now", "arguments": {}}]}', ['{"calls": ', NOW, "}"]),
    ('{"name": "now", "arguments": null}', [NOW]),
    ('{"name": "now", "arguments": ""}', [NOW]),
    ('{"name": "na\\"m\\u00e9"}', [('na"mé', "{}")]),
    ('{"name": "na\\"mé"}', [('na"mé', "{}")]),
    ('[{"name": "now"}, {"name": "now"}]', [NOW, NOW]),
    ('{"name": "now"}{"name": "now"}', [NOW, NOW]),
    ('{"name": "now"}; {"name": "now"} , {"name": "now"};', [NOW, NOW, NOW]),
    ("<|python_start|>[now()]<|python_end|>", [NOW]),
    ("[now()]<|python_end|>", [NOW]),
    ("<|python_tag|>{\"name\": \"now\"}", [NOW]),
    ('<function=get_weather>{"city": "Paris"}</function>', [PARIS]),
    ("<function=now></function>", [NOW]),
    ('<function=now>{}</function>\n<function=get_weather>{"city": "Paris"}', [NOW, PARIS]),
    ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', [NOW]),
    ('<tool_call>[{"name": "now"}, {"name": "now"}]</tool_call>', [NOW, NOW]),
    ("<tool_call>now()</tool_call>\n<tool_call>\nnow()\n</tool_call>", [NOW, NOW]),
    ("```python\n[now()]\n```", [NOW]),
    ('```json\n{"name": "now"}\n```\n```\n[now()]\n```', [NOW, NOW]),
    ("```tool_code\nnow()\n```", [NOW]),
    ("Let me see.\n\n[now()]", ["Let me see.\n\n", NOW]),
    ("[now()]\n\nDone.", [NOW, "\n\nDone."]),
    ("a [now()] b [now()], c", ["a ", NOW, " b ", NOW, ", c"]),
    ("[1] See [now()]", ["[1] See ", NOW]),
    ("[[now()]]", ["[", NOW, "]"]),
    ("好的[now()]。", ["好的", NOW, "。"]),
    ("<b>[now()]</b>", ["<b>", NOW, "</b>"]),
    ("[get(x=1, x=2), now()]", ["[get(x=1, x=2), now()]"]),
    ('{"name": "get", "parameters": {"x": 1, "x": 2}}', [("get", '{"x":2}')]),
    # What is missing at the end.
    ("[now()", [NOW]),
    ("[now(", ["[now("]),
    ('[get_weather(city="Paris"', [PARIS]),
    ("[get(x=[1, {'a': 2", [("get", '{"x":[1,{"a":2}]}')]),
    ('{"name": "get_weather", "parameters": {"city": "Paris"', [PARIS]),
    ('[{"name": "now"}', [NOW]),
    ("<|python_start|>[now()<|python_end|>", [NOW]),
    ("```\n[now()\n```", [NOW]),
    ("[now(), bad(x)]", [NOW, ", bad(x)]"]),
    ("[now(),", [NOW]),
]  # fmt: skip

# Not one of these is a call; the text comes out as it is.
REFUSED = [
    "", " ", "\n\n", "Hello.", "[now", "now", "now ", "get_weather is a tool", "[unknown(x=1)]",
    "[]", "[[]]", "{}", "[1, 2]", "[now]", "[now() is", "call now() and [now(] and", "x = now()",
    "[nowhere()]", "[no(x=1)]", '{"name": "unknown", "parameters": {}}', '{"name": 3}', '{"name"',
    '{"name": "get_weather"}', '{"parameters": {}}', '{"name": "now", "name": "now"}',
    '{"name": "now", "parameters": {}, "arguments": {}}', '{"name": "now", "parameters": []}',
    '{"name": "now", "arguments": "[1]"}', '{"name": "now", "arguments": "{"}',
    '{"name": "now", "arguments": "{} x"}', '{"name": "now", "extra": 1}', '{"type": "object"}',
    '{"name": "now", "description": "The time.", "parameters": {"type": "object"}}',
    '{"name": "now", "parameters": {"type": "object", "properties": {}, "required": []}}',
    '{"function": {"function": {"name": "now"}}}', 'x {"name": "now"}', 'x [{"name": "now"}]',
    "[get(x=y)]", "[get(x=now())]", "[get(x=1 y=2)]",
    "[get(x=nan)]", "[get(x=float('inf'))]", "[get(x=1, 2)]", "[get(1)]", "[mixed(1)]",
    '[get_weather("Paris", city="Rome")]', "[get(*[1])]", "[get(**{1: 2})]", "[get(x='a)]",
    "[get(**{'x': 1}, x=2)]", "<function=unknown>{}</function>", "<function=now>[]</function>",
    "<function=now", "<tool_call>", "<tool_call>hello</tool_call>", "</tool_call>",
    "<|python_start|>x = 1<|python_end|>", "```python\nprint(1)\n```", "``` ```", "````", "`x`",
    "a < b > c", "<|eot|>", "**bold** [link](http://x.y)", '{"a": {"name": "now"}', ", ;",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_every_style_is_read(text: str, expected: list[str | Call]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_call_is_text(text: str) -> None:
    assert parsed(text) == ([text] if text else [])


@pytest.mark.parametrize("text", [*(text for text, _ in ACCEPTED), *REFUSED])
def test_no_cut_changes_the_result(text: str) -> None:
    check_every_cut(text)


@pytest.mark.parametrize(
    "text",
    ["[get(x=1", "[get(x=1)", '{"name": "now", "parameters": {"a": 1}', "now()", "<tool_call>"],
)
def test_a_truncated_answer_is_not_completed(text: str) -> None:
    assert parsed(text, is_truncated=True) == [text]


@pytest.mark.parametrize("text", ["[now()]", "hello", "[now()] x", ""])
def test_a_truncated_answer_keeps_what_is_whole(text: str) -> None:
    assert parsed(text, is_truncated=True) == parsed(text)


def test_without_tools_everything_is_text() -> None:
    parser = ToolCallParser([])
    assert parser.push("[now()]") == [TextPiece("[now()]")]
    assert parser.push("") == parser.finish() == []


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Hello", ""), ("[1", ""), ("a [", "["), ("[no", "[no"), ("[nob", ""), ("[now", "[now"),
        ("[now(x", "[now(x"), ("[now(x ", "[now(x "), ("[now(x y", ""), ('{"na', '{"na'),
        ("<b", ""), ('{"x', ""), ('{"name": "unk', ""), ("```python\n", "```python\n"),
        ("```python\nx", ""), ("<|py", "<|py"), ("Hello ", ""), ("  ", "  "), ("no", "no"),
        ("nobody", ""),
    ],
)  # fmt: skip
def test_text_is_given_out_as_soon_as_it_can_be_no_call(text: str, held: str) -> None:
    parser = ToolCallParser(TOOLS)
    given_out = "".join(piece.text for piece in parser.push(text) if isinstance(piece, TextPiece))
    assert given_out == text.removesuffix(held)
    assert given_out + held == text


def test_a_call_is_given_out_when_it_is_complete() -> None:
    parser = ToolCallParser(TOOLS)
    assert parser.push("[now()") == []
    assert parser.push(",") == [CallPiece(0, "now", "{}", True)]
    assert parser.push(' {"name": "now"}') == [CallPiece(1, "now", "{}", True)]


def test_a_call_that_is_too_long_is_text() -> None:
    text = f'[get(x="{"a" * MAX_CALL_CHARS}")]'
    assert parsed(text) == [text]
    short = f'[get(x="{"a" * (MAX_CALL_CHARS - 20)}")]'
    assert [name for name, _ in parsed(short)] == ["get"]


def time_of(text: str) -> float:
    """Parse a long text in pieces; give the time, after checks that hold for every text."""
    parser = ToolCallParser(TOOLS)
    started = time.perf_counter()
    pieces: list[Piece] = []
    for index in range(0, len(text), 50):
        pieces += parser.push(text[index : index + 50])
        assert len(parser._held) <= MAX_CALL_CHARS
    pieces += parser.finish()
    seconds = time.perf_counter() - started
    if not any(isinstance(piece, CallPiece) for piece in pieces):
        assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == text
    return seconds


BEGINNINGS = ("", "[get(x=", '[get(x="', '{"name": "get", "parameters": {"x": ')


# Quadratic work would take hours for a megabyte and minutes for 20 kB; ours are seconds.


@pytest.mark.parametrize("unit", ["[", '[get(x="', "[get(x={'"])
def test_a_megabyte_of_brackets_and_quotes_takes_linear_time(unit: str) -> None:
    assert time_of(unit * ((1 << 20) // len(unit))) < 60


@pytest.mark.parametrize(
    "unit",
    [
        "{", '"', "'", "(", "<", "`", "[get(", "[get(x=[", "[get(x='", '{"name":', "```\n", "\\",
        " ", '{"arguments":{', '{"function":', "<tool_call>", "[now(),", "1", "now(", "[now()",
        "\\'",
    ],
)  # fmt: skip
def test_no_repetition_takes_more_than_linear_time(unit: str) -> None:
    for begin in BEGINNINGS:
        assert time_of(begin + unit * (20_000 // len(unit))) < 10


# Random calls in every style.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.from_regex(r"[a-z_][a-z0-9_.-]{0,6}", fullmatch=True)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
KEYS = st.one_of(NAMES, TEXTS)
CALLS = st.lists(
    st.tuples(NAMES, st.dictionaries(KEYS, VALUES, max_size=4)), min_size=1, max_size=3
)
PROSE = st.one_of(
    st.just(""),
    st.text(st.sampled_from("aé\n .:!?=")).map(lambda text: f"So {text}"),
    st.sampled_from(["[1] Well", "{x}", "a < b", "Q: <b>", "[[x]]", "**x** [y](z) "]),
)

AnyCall = tuple[str, dict[str, Any]]


def one_by_one(write: Callable[[AnyCall], str], between: str) -> Callable[[list[AnyCall]], str]:
    return lambda calls: between.join(map(write, calls))


def json_call(call: AnyCall, key: str = "parameters") -> str:
    return json.dumps({"name": call[0], key: call[1]}, ensure_ascii=False)


def openai_call(call: AnyCall) -> str:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return json.dumps({"id": "call_1", "type": "function", "function": function})


def exact(call: AnyCall) -> tuple[str, dict[str, Any]]:
    return call[0], parse_arguments(json.dumps(call[1]), "arguments")


def python_list(calls: list[AnyCall]) -> str:
    return render_calls(map(exact, calls))


def repr_call(call: AnyCall) -> str:
    """Write a call as Python's own repr does, with single quotes."""
    named = {key: value for key, value in call[1].items() if key.isidentifier()}
    others = {key: value for key, value in call[1].items() if key not in named}
    parts = [f"{key}={value!r}" for key, value in named.items()]
    return f"{call[0]}({', '.join(parts + [f'**{others!r}'] * bool(others))})"


STYLES: dict[str, Callable[[list[AnyCall]], str]] = {
    "python list": python_list,
    "python lists": one_by_one(lambda call: python_list([call]), "\n"),
    "python repr": lambda calls: f"[{', '.join(map(repr_call, calls))}]",
    "python markers": lambda calls: f"<|python_start|>{python_list(calls)}<|python_end|>",
    "code fence": lambda calls: f"```python\n{python_list(calls)}\n```",
    "bare in tags": one_by_one(
        lambda call: f"<tool_call>\n{render_call(*exact(call))}\n</tool_call>", "\n"
    ),
    "json objects": one_by_one(json_call, "; "),
    "json lines": one_by_one(json_call, "\n"),
    "json back to back": one_by_one(json_call, ""),
    "json array": lambda calls: f"[{', '.join(map(json_call, calls))}]",
    "json arguments": one_by_one(lambda call: json_call(call, "arguments"), ",\n"),
    "json as python": one_by_one(lambda c: repr({"name": c[0], "parameters": c[1]}), "\n"),
    "openai": lambda calls: f"[{','.join(map(openai_call, calls))}]",
    "tags": one_by_one(lambda call: f"<tool_call>{json_call(call)}</tool_call>", "\n"),
    "function tags": one_by_one(
        lambda call: f"<function={call[0]}>{json.dumps(call[1])}</function>", ""
    ),
}


def canonical(items: list[Any]) -> str:
    """Tell 1 from 1.0 and from true, which Python takes for equal."""
    return json.dumps(items, sort_keys=True)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=40, deadline=None)
@given(calls=CALLS, before=PROSE, after=PROSE)
def test_random_calls_come_back(style: str, calls: list[AnyCall], before: str, after: str) -> None:
    tools = [Tool(name) for name, _ in calls]
    text = f"{before}{STYLES[style](calls)}{after and ' '}{after}"
    items = parsed(text, tools)
    found = [(item[0], json.loads(item[1])) for item in items if isinstance(item, tuple)]
    assert canonical(found) == canonical(calls)
    texts = [before, f" {after}" if after else ""]
    assert [item for item in items if isinstance(item, str)] == [text for text in texts if text]


@settings(max_examples=12, deadline=None)
@given(calls=CALLS, style=st.sampled_from(sorted(STYLES)), before=PROSE, after=PROSE)
def test_random_calls_are_the_same_however_they_are_cut(
    calls: list[AnyCall], style: str, before: str, after: str
) -> None:
    check_every_cut(f"{before}{STYLES[style](calls)} {after}", [Tool(name) for name, _ in calls])


FRAGMENTS = [
    "[", "]", "(", ")", "{", "}", '"', "'", ",", ";", ":", "=", " ", "\n", "now", "get", "now()",
    "x", "get(x=1", '"name"', '"now"', '"parameters"', "<tool_call>", "</tool_call>", "<function=",
    "now>", "<|python_start|>", "<|python_end|>", "```", "\\", "1", "**", "[now()]", "<", "`",
    '{"name": "now"}', "True", '"function"', '"type"', "json",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=14), data=st.data())
def test_no_text_is_lost_or_made_up(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    items = parsed(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)))
    assert streamed(text, TOOLS, cuts) == items
    position = 0
    for item in items:
        if isinstance(item, str):
            position = text.index(item, position) + len(item)
    if not any(isinstance(item, tuple) for item in items):
        assert items == ([text] if text else [])
