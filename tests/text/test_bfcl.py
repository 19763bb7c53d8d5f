"""Round trip of the gold answers of BFCL v4: written as Python calls, streamed, parsed, equal.

The data is read out of the installed package bfcl-eval (test dependency, without its own
dependencies) and is never imported as code. What counts as an entry is a line of its question
files, BFCL_v4_*.json.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.text.conversation import parse_arguments
from outrider.text.pythonic import render_calls
from outrider.text.tool_calls import CallPiece, Piece, TextPiece, ToolCallParser
from outrider.types import Tool

SPEC = importlib.util.find_spec("bfcl_eval")
if SPEC is None or not SPEC.submodule_search_locations:
    pytest.skip(
        "bfcl-eval isn't installed; make test installs it with --no-deps", allow_module_level=True
    )
DATA = Path(SPEC.submodule_search_locations[0]) / "data"

SINGLE_TURN = (
    "simple_python", "simple_java", "simple_javascript", "multiple", "parallel",
    "parallel_multiple", "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
)  # fmt: skip
MULTI_TURN = tuple(f"multi_turn_{k}" for k in ("base", "long_context", "miss_func", "miss_param"))
# Gold says that no call is right, or has no list of calls at all.
WITHOUT_GOLD = ("irrelevance", "live_irrelevance", "live_relevance")
# Gold is an answer in words, which an agent's calls lead to; it names no calls.
IN_WORDS = ("memory", "web_search")
# Lists of other entries' names, to ask them again in other formats.
REFERENCES = ("format_sensitivity",)

Call = tuple[str, dict[str, Any]]


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / path).read_text(encoding="utf-8").splitlines()]


def gold_of(category: str) -> Iterator[tuple[list[Tool], Any]]:
    answers = {a["id"]: a["ground_truth"] for a in lines(answers_path(category))}
    for entry in lines(f"BFCL_v4_{category}.json"):
        yield [tool_of(f) for f in entry.get("function", [])], answers[entry["id"]]


def answers_path(category: str) -> str:
    return f"possible_answer/BFCL_v4_{category}.json"


def tool_of(function: dict[str, Any]) -> Tool:
    return Tool(function["name"], function["description"], function["parameters"])


def chosen(options: list[Any]) -> Any:
    """Choose an admissible value: the first that isn't "", which says that it may be absent."""
    return resolved(next((option for option in options if option != ""), "" if options else []))


def resolved(value: Any) -> Any:
    """Choose inside of objects, whose values are lists of options again."""
    if isinstance(value, dict):
        return {k: chosen(v) if isinstance(v, list) and v else v for k, v in value.items()}
    if isinstance(value, list):
        return [resolved(item) if isinstance(item, dict) else item for item in value]
    return value


def single_turn_calls(gold: list[dict[str, dict[str, list[Any]]]]) -> list[Call]:
    return [
        (name, {key: chosen(options) for key, options in arguments.items()})
        for call in gold
        for name, arguments in call.items()
    ]


def streamed(tools: list[Tool], text: str) -> tuple[str, list[Call]]:
    """Parse a text that comes character by character; give the text and the calls of it."""
    parser = ToolCallParser(tools)
    pieces: list[Piece] = []
    for char in text:
        pieces += parser.push(char)
    pieces += parser.finish()
    left = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    calls = [(p.name, json.loads(p.arguments)) for p in pieces if isinstance(p, CallPiece)]
    return left, calls


def canonical(calls: list[Call]) -> str:
    """Tell 1 from 1.0 and from true, which Python takes for equal."""
    return json.dumps(calls, sort_keys=True)


def arguments_of(arguments: dict[str, Any]) -> dict[str, Any]:
    return parse_arguments(json.dumps(arguments), "arguments")


@pytest.mark.parametrize("category", SINGLE_TURN)
def test_gold_calls_come_back_equal(category: str) -> None:
    for tools, gold in gold_of(category):
        calls = single_turn_calls(gold)
        text = render_calls((name, arguments_of(arguments)) for name, arguments in calls)
        left, parsed = streamed(tools, text)
        assert left == ""
        assert canonical(parsed) == canonical(calls)


def executed_calls(sources: list[str], tools: dict[str, Tool]) -> list[Call]:
    """Read gold of several turns, which is Python, with Python's own parser."""
    calls = []
    for source in sources:
        call = ast.parse(source, mode="eval").body
        assert isinstance(call, ast.Call)
        name = ast.unparse(call.func)
        names = list(tools[name].parameters["properties"])
        arguments = dict(zip(names, map(ast.literal_eval, call.args), strict=False))
        arguments |= {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        calls.append((name, arguments))
    return calls


@pytest.fixture(scope="module")
def executable_tools() -> list[Tool]:
    paths = sorted((DATA / "multi_turn_func_doc").glob("*.json"))
    return [tool_of(f) for path in paths for f in lines(str(path.relative_to(DATA)))]


@pytest.mark.parametrize("category", MULTI_TURN)
def test_gold_of_every_turn_comes_back_equal(category: str, executable_tools: list[Tool]) -> None:
    by_name = {tool.name: tool for tool in executable_tools}
    for _, gold in gold_of(category):
        for turn in gold:
            left, parsed = streamed(executable_tools, f"[{', '.join(turn)}]" if turn else "")
            assert left == ""
            assert canonical(parsed) == canonical(executed_calls(turn, by_name))


@pytest.mark.parametrize("category", WITHOUT_GOLD)
def test_where_no_call_is_right_a_text_stays_a_text(category: str) -> None:
    for entry in lines(f"BFCL_v4_{category}.json"):
        tools = [tool_of(function) for function in entry["function"]]
        text = entry["question"][0][-1]["content"]
        assert streamed(tools, text) == (text, [])


@pytest.mark.parametrize("category", IN_WORDS)
def test_answers_in_words_stay_text(category: str, executable_tools: list[Tool]) -> None:
    for _, gold in gold_of(category):
        text = "\n".join(gold)
        assert streamed(executable_tools, text) == (text, [])


def test_every_entry_is_accounted_for() -> None:
    """Shows the counts (pytest -s): all gold that is calls can be expressed as Python calls."""
    kinds = {
        "calls of one turn": SINGLE_TURN,
        "calls of several turns": MULTI_TURN,
        "no calls: none is right": WITHOUT_GOLD,
        "no calls: an answer in words": IN_WORDS,
        "no calls: refers to other entries": REFERENCES,
    }
    kind_of = {category: kind for kind, categories in kinds.items() for category in categories}
    counts: Counter[str] = Counter()
    for path in DATA.glob("BFCL_v4_*.json"):
        kind = kind_of[path.stem.removeprefix("BFCL_v4_")]
        counts[kind] += len(path.read_text(encoding="utf-8").splitlines())
    for kind in kinds:
        print(f"{counts[kind]:6,} {kind}")
    assert sum(counts.values()) == 4706
    assert [counts[kind] for kind in kinds] == [2501, 800, 1140, 255, 10]
