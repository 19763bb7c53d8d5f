"""Formats of times and host names become constraints that accept just what the RFCs do."""

from __future__ import annotations

import calendar
import copy
import datetime
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conformance.json_schema import END, ByteTokenizer, accepts
from outrider.engine.grammar import Grammars
from outrider.text.schema_check import UnenforceableSchema, check_schema
from outrider.text.schema_formats import PATTERNS, make_formats_exact
from outrider.text.tool_grammar import tool_grammar
from outrider.types import Grammar, Tool

DATE = {"type": "string", "format": "date"}
HOSTNAME = {"type": "string", "format": "hostname"}
LONG_NAME = ".".join(["a" * 60] * 4)  # of 243 characters
NUMBERS = st.integers(0, 99).map("{:02}".format)
CLOCKS = st.builds("{}:{}".format, NUMBERS, NUMBERS)
ZONES = st.sampled_from("Zz") | st.builds("{}{}".format, st.sampled_from("+- "), CLOCKS)
FRACTIONS = st.from_regex(r"(\.[0-9]{0,7})?", fullmatch=True)
TIMES = st.builds("{}:{}{}{}".format, CLOCKS, NUMBERS, FRACTIONS, ZONES | st.just(""))
DATES = st.builds(
    "{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 13), st.integers(0, 33)
)


def matches(name: str, text: str) -> bool:
    return re.search(PATTERNS[name], text) is not None


def is_date(text: str) -> bool:
    """Ask Python's calendar, which begins with the year 1 and repeats itself every 400 years."""
    year, month, day = map(int, text.split("-"))
    try:
        datetime.date(year or 400, month, day)
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """Ask Python's clock, which takes more forms than the RFC and offsets up to a day as well."""
    if not re.fullmatch(r"[^.]{8}(\.[0-9]+)?([Zz]|[+-][0-9:]{5})", text):
        return False
    number = re.sub(r"\.[0-9]+", "", text).upper().replace("Z", "+00:00")
    try:
        datetime.time.fromisoformat(number[:8])
        datetime.time.fromisoformat(number[9:])
    except ValueError:
        return False
    return True


def test_every_year_has_the_february_of_the_calendar() -> None:
    years = range(10_000)
    assert [matches("date", f"{year:04}-02-29") for year in years] == [
        calendar.isleap(year) for year in years
    ]


@given(DATES)
@example("0000-02-29")
@example("1900-02-29")
def test_dates_are_those_of_the_calendar(text: str) -> None:
    assert matches("date", text) == is_date(text)


@given(TIMES)
@example("23:59:60Z")
@example("00:00:00.5+23:59")
@example("00:00:00+24:00")
def test_times_are_those_of_the_clock(text: str) -> None:
    assert matches("time", text) == is_time(text)


@given(st.datetimes(timezones=st.timezones()))
def test_whatever_python_writes_is_taken(moment: datetime.datetime) -> None:
    offset = moment.strftime("%z")
    if len(offset) != 5:  # local mean times have seconds, which the RFC doesn't write
        return
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + offset[:3] + ":" + offset[3:]
    assert matches("date-time", text)
    assert matches("date", text[:10]) and matches("time", text[11:])


@given(DATES, TIMES)
def test_moments_are_a_date_and_a_time(date: str, time: str) -> None:
    assert matches("date-time", f"{date}T{time}") == (is_date(date) and is_time(time))


ENFORCED: dict[str, tuple[Any, list[object], list[object]]] = {
    "date": (DATE, ["2024-02-29", "2000-02-29"], ["2023-02-29", "1900-02-29", "2024-02-30"]),
    "time": ({**DATE, "format": "time"}, ["23:59:59Z"], ["23:59:60Z", "12:00:60Z", "12:00:00"]),
    "date-time": (
        {**DATE, "format": "date-time"},
        ["2024-02-29T00:00:00.5+01:00"],
        ["2023-02-29T00:00:00Z", "2024-02-29T23:59:60Z"],
    ),
    "hostname": (
        HOSTNAME,
        [LONG_NAME, LONG_NAME + ".aaaaaaaaa"],
        [LONG_NAME + ".aaaaaaaaaa", "a." * 126 + "aa", "-a", "a" * 64],
    ),
    "shorter hostname": ({**HOSTNAME, "maxLength": 3}, ["a.b"], ["a.bc"]),
    "longer hostname": ({**HOSTNAME, "maxLength": 300}, [LONG_NAME], [LONG_NAME + ".aaaaaaaaaa"]),
    "pattern beside": ({**DATE, "pattern": "^20"}, ["2024-02-29"], ["2023-02-29", "1904-02-29"]),
    "pattern and allOf beside": (
        {**DATE, "pattern": "^20", "allOf": [{"pattern": "9$"}]},
        ["2024-02-29"],
        ["2024-02-28", "2023-02-29", "1904-02-29"],
    ),
    "values beside": (
        {**DATE, "enum": ["2023-02-29", "2024-02-29"]},
        ["2024-02-29"],
        ["2023-02-29"],
    ),
    "or null": ({**DATE, "type": ["string", "null"]}, [None, "2024-02-29"], ["2023-02-29", ""]),
    "behind an anchor": (
        {"items": {"$ref": "#day"}, "$defs": {"a": {"$anchor": "day", **DATE}}},
        [["2024-02-29"]],
        [["2023-02-29"]],
    ),
    "as a value": ({"const": [DATE]}, [[DATE]], [["2024-02-29"], [{"type": "string"}]]),
}


@pytest.mark.parametrize(("schema", "good", "bad"), ENFORCED.values(), ids=ENFORCED)
def test_grammars_take_nothing_else(schema: Any, good: list[object], bad: list[object]) -> None:
    grammars, grammar = (
        Grammars(ByteTokenizer(), (END,)),
        Grammar("json_schema", json.dumps(schema)),
    )
    assert [text for text in good if not accepts(grammars, grammar, json.dumps(text))] == []
    assert [text for text in bad if accepts(grammars, grammar, json.dumps(text))] == []


def test_tools_are_held_to_the_same_and_shown_as_declared() -> None:
    parameters = {"type": "object", "properties": {"day": DATE}, "required": ["day"]}
    tool = Tool("a", parameters=copy.deepcopy(parameters))
    grammar = tool_grammar([tool], "required", parallel=False)
    grammars = Grammars(ByteTokenizer(), (END,))
    call = '{{"name": "a", "parameters": {{"day": "{}"}}}}'
    assert accepts(grammars, grammar, call.format("2024-02-29"))
    assert not accepts(grammars, grammar, call.format("2023-02-29"))
    assert tool.parameters == parameters


def test_other_formats_and_values_stay_as_they_are() -> None:
    schema = {"anyOf": [{"type": "string", "format": "uuid"}, {"enum": [DATE]}], "default": DATE}
    before = copy.deepcopy(schema)
    assert not make_formats_exact(schema)
    assert schema == before


REFUSED: dict[str, tuple[Any, str]] = {
    "value": ({"items": {"$ref": "#/const/a"}, "const": {"a": DATE}}, "at $.const.a isn't supp"),
    "no list": ({**DATE, "pattern": "a", "allOf": {}}, "allOf at $ must be a list"),
}


@pytest.mark.parametrize(("schema", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_rewritten_is_refused_by_name(schema: Any, message: str) -> None:
    check_schema(schema)
    with pytest.raises(UnenforceableSchema, match=re.escape(message)):
        make_formats_exact(schema)
