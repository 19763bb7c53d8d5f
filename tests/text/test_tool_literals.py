"""Literals of Python and JSON, against Python's own readers of both."""

from __future__ import annotations

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.text.literals import MAX_DEPTH, MAX_NUMBER_CHARS, NotACall, Reader, read_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def whole_value() -> Reader[str]:
    char = yield
    value, after = yield from read_value(char)
    if after is None:
        after = yield
    if after != "":
        raise NotACall
    return value


def read(text: str) -> str:
    """Read a text as one value; give the JSON text."""
    reader = whole_value()
    next(reader)
    try:
        for char in text:
            reader.send(char)
        for _ in range(MAX_DEPTH):
            reader.send("")
    except StopIteration as end:
        return str(end.value)
    raise AssertionError("the reader wants more than the end")


def same(left: object, right: object) -> bool:
    return json.dumps(left) == json.dumps(right)


@settings(deadline=None)
@given(value=VALUES)
def test_what_python_shows_is_read(value: object) -> None:
    assert same(json.loads(read(repr(value))), value)


@settings(deadline=None)
@given(value=VALUES, is_ascii=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_json_writes_is_read(value: object, is_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    assert same(json.loads(read(text)), value)


@settings(deadline=None)
@given(source=st.text(st.sampled_from("[](){}'\"\\,:=+-_.0123456789eExr nN\n#aTrue"), max_size=14))
def test_what_is_read_is_what_python_reads(source: str) -> None:
    """Whatever both accept has the same value; we also accept a little that Python refuses."""
    try:
        ours = json.loads(read(source))
    except NotACall:
        return
    try:
        theirs = ast.literal_eval(source)
        shown = json.dumps(theirs)
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return
    assert same(ours, json.loads(shown))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("+3", "3"), ("-0", "-0"), (".5", "0.5"), ("5.", "5.0"), ("-.5e3", "-0.5e3"),
        ("1_000", "1000"), ("0x1F", "31"), ("-0b11", "-3"), ("0o17", "15"), ("1E+5", "1E+5"),
        ("3.14159265358979323846", "3.14159265358979323846"), ("1e999", "1e999"),
        ("12345678901234567890123", "12345678901234567890123"), ("1.50", "1.50"),
        ("True", "true"), ("null", "null"), ("(1)", "1"), ("(1,)", "[1]"), ("()", "[]"),
        ("[1, 2,]", "[1,2]"), ("(1, (2, 3))", "[1,[2,3]]"), ("{}", "{}"), ("{1: 2}", '{"1":2}'),
        ("{True: None}", '{"true":null}'), ("{a: 1, b: 2}", '{"a":1,"b":2}'),
        ("{a=1, b='x'}", '{"a":1,"b":"x"}'), ('{"a": 1, "a": 2}', '{"a":2}'),
        (r"'it\'s'", '"it\'s"'), (r'"\x41\u00e9\U0001F600\101\n"', '"Aé😀A\\n"'),
        (r'"\ud83d\ude00"', '"😀"'), (r'"\ud83d"', r'"\ud83d"'), (r'"\/ \d"', r'"/ \\d"'),
        (r'"\N{BULLET}"', '"•"'), (r'r"\d\""', r'"\\d\\\""'), ('"a" \'b\'', '"ab"'),
        ('"""a"b\n"""', '"a\\"b\\n"'), ("''", '""'), ("''''''", '""'), ('"a\nb"', '"a\\nb"'),
        ('"a\\\nb"', '"ab"'), ("[1, 2", "[1,2]"), ('{"a": [1', '{"a":[1]}'),
        ("[[1], [2]", "[[1],[2]]"),
    ],
)  # fmt: skip
def test_literals_become_json(source: str, expected: str) -> None:
    assert read(source) == expected
    json.loads(expected)


@pytest.mark.parametrize(
    "source",
    [
        "", "nan", "inf", "-inf", "NaN", "Infinity", "float('inf')", "3j", "007", "0x", "1__0",
        "_1", "1_", "--1", "1-2", "1.2.3", "e5", ".", "+", "x", "undefined", "Truex", "[1 2]",
        "[1,,2]", "[,]", "{1}", "{'a'}", "{'a': }", "{'a' 1}", "{'a'= 1}", "'a", '"a\\',
        '"""a"', r'"\xg0"',
        r'"\U00110000"', r'"\N{no such}"', r'"\Nx"', "[", "[1,", "{", '{"a":', "b'x'",
        "9" * (MAX_NUMBER_CHARS + 1), "0x" + "f" * MAX_NUMBER_CHARS, "[" * 200 + "]" * 200,
        "f()", "f'x'", "...",
    ],
)  # fmt: skip
def test_what_is_no_literal_is_refused(source: str) -> None:
    with pytest.raises(NotACall):
        read(source)
