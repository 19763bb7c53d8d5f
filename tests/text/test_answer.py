"""Reading answers: the same events however the text comes, and what tools mean for a request."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import InvalidRequest
from outrider.text.answer import AnswerEvent, AnswerReader, ToolUse, new_call_id
from outrider.types import (
    Finished,
    FinishReason,
    Grammar,
    NamedTool,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCallDelta,
)

TOOLS = (Tool("f"), Tool("g"))
CALL = '{"name": "f", "parameters": {"a": [1, "é"]}}'
ANSWERS = [
    "",
    "Just text, with [brackets] and {braces}.",
    CALL,
    f"I will look.\n{CALL}",
    f"[{CALL}, {CALL}]",
    '[f(a=1, b="x"), g()]',
    f"<tool_call>\n{CALL}\n</tool_call>",
    CALL[:-2],
    '{"name": "unknown", "parameters": {}}',
]


def read(pieces: list[str], use: ToolUse, reason: FinishReason = "stop") -> list[AnswerEvent]:
    reader = AnswerReader(3, use)
    events = [event for piece in pieces for event in reader.read(piece, (), None)]
    return events + reader.read("", (), reason)


def sum_up(events: list[AnswerEvent]) -> tuple[str, list[tuple[int, str, str]], FinishReason]:
    calls: dict[int, tuple[int, str, str]] = {}
    for event in events:
        assert event.index == 3
        if isinstance(event, ToolCallDelta):
            assert bool(event.id) == bool(event.name) == (event.call_index not in calls)
            index, name, arguments = calls.get(event.call_index, (event.call_index, event.name, ""))
            calls[event.call_index] = index, name, arguments + event.arguments
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert isinstance(events[-1], Finished)
    return text, list(calls.values()), events[-1].finish_reason


@given(
    text=st.sampled_from(ANSWERS),
    cuts=st.lists(st.integers(0, 80), max_size=12),
    is_parallel=st.booleans(),
    reason=st.sampled_from(["stop", "length"]),
)
def test_where_the_text_is_cut_changes_nothing(
    text: str, cuts: list[int], is_parallel: bool, reason: FinishReason
) -> None:
    use = ToolUse.of(TOOLS, "auto", is_parallel)
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert sum_up(read(pieces, use, reason)) == sum_up(read([text], use, reason))


def test_what_answers_mean() -> None:
    use = ToolUse.of(TOOLS, "auto", True)
    call = (0, "f", '{"a":[1,"é"]}')
    assert sum_up(read([CALL], use)) == ("", [call], "tool_calls")
    assert sum_up(read([ANSWERS[1]], use)) == (ANSWERS[1], [], "stop")
    two = [call, (1, *call[1:])]
    assert sum_up(read([ANSWERS[4]], use)) == ("", two, "tool_calls")
    assert sum_up(read([ANSWERS[4]], ToolUse.of(TOOLS, "auto", False))) == (
        "",
        [call],
        "tool_calls",
    )
    assert sum_up(read([CALL[:-2]], use, "length")) == (CALL[:-2], [], "length")
    assert sum_up(read([CALL], ToolUse.of(TOOLS, "none", True))) == (CALL, [], "stop")
    assert sum_up(read([CALL], ToolUse())) == (CALL, [], "stop")


def test_the_choice_decides_what_is_shown_and_what_is_enforced() -> None:
    for choice in ("auto", "none"):
        assert ToolUse.of(TOOLS, choice, True).grammar is None
    assert ToolUse.of(TOOLS, "none", True).tools == ToolUse.of((), "required", True).tools == ()
    for choice in ("required", NamedTool("g")):
        use = ToolUse.of(TOOLS, choice, True)
        assert use.tools == TOOLS
        assert use.grammar is not None
        assert use.is_parallel == (choice == "required")
    with pytest.raises(InvalidRequest):
        ToolUse.of(TOOLS, NamedTool("nobody"), True)


STRICT = (Tool("f"), Tool("g", strict=True))
DEMANDED = '{"name": "f", "parameters": {"a": [1, "}é\\"{"], "b": {}}}'
ARGUMENTS = '{"a": [1, "}é\\"{"], "b": {}}'


def test_a_strict_tool_has_all_calls_of_an_answer_enforced() -> None:
    use = ToolUse.of(STRICT, "auto", True)
    assert use.tools == STRICT and use.grammar is not None
    assert use.grammar != ToolUse.of(STRICT, "required", True).grammar
    assert ToolUse.of(STRICT, "auto", False).grammar != use.grammar
    assert ToolUse.of(STRICT, "none", True) == ToolUse()


def test_a_call_counts_only_where_it_was_enforced() -> None:
    use = ToolUse.of(STRICT, "auto", True)
    for text in ("", f"I will look.\n{CALL}", f"```\n{CALL}\n```", "f(a=1)"):
        assert sum_up(read([text], use)) == (text, [], "stop")
    for text in (DEMANDED, f"[{DEMANDED}]", f"<tool_call>\n{DEMANDED}\n</tool_call>"):
        assert sum_up(read([text], use)) == ("", [(0, "f", ARGUMENTS)], "tool_calls")


@given(
    cuts=st.lists(st.integers(0, 120), max_size=12),
    length=st.integers(0, 140),
    choice=st.sampled_from(["auto", "required"]),
    reason=st.sampled_from(["stop", "length"]),
)
def test_a_demanded_call_that_was_cut_off_is_given_as_far_as_it_came(
    cuts: list[int], length: int, choice: str, reason: FinishReason
) -> None:
    text = f"[{DEMANDED}, {DEMANDED}]"[:length]
    use = ToolUse.of(STRICT, choice, True)  # type: ignore[arg-type]
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    content, calls, finish = sum_up(read([text[a:b] for a, b in pairwise(edges)], use, reason))
    assert content == ""
    assert [call[:2] for call in calls] == [(0, "f"), (1, "f")][: text.count('"f"')]
    assert all(ARGUMENTS.startswith(arguments) for _, _, arguments in calls)
    # What there is of the arguments is given, all of it.
    begun = text.split('"parameters": ')[1:]
    for (_, _, arguments), rest in zip(calls, begun, strict=False):
        assert arguments == rest[: len(ARGUMENTS)]
    is_whole = bool(calls) and text.count("{") > 1 and text.rstrip("], ").endswith("}}}")
    assert finish == ("tool_calls" if reason == "stop" and is_whole else reason)


def test_logprobs_of_enforced_calls_come_with_empty_text() -> None:
    reader = ToolUse.of(STRICT, "required", True).reader(0)
    logprobs = (TokenLogprob(1, b"[", -0.5),)
    assert reader.read("[", logprobs, None) == [TextDelta(0, "", logprobs)]


def test_no_two_calls_have_one_id() -> None:
    assert len({new_call_id() for _ in range(1000)}) == 1000


FORM = Grammar("json_schema", '{"type":"object"}', "response_format")


def test_an_answer_with_a_form_is_read_as_text_whatever_it_looks_like() -> None:
    use = ToolUse.of((), "auto", True, FORM)
    assert use == ToolUse(grammar=FORM)
    assert sum_up(read([CALL], use)) == (CALL, [], "stop")
    assert ToolUse.of(TOOLS, "none", True, FORM) == use


def test_an_object_beside_tools_is_text_and_a_list_is_calls() -> None:
    use = ToolUse.of(TOOLS, "auto", True, FORM)
    assert sum_up(read(["", CALL[:5], CALL[5:]], use)) == (CALL, [], "stop")
    text, calls, reason = sum_up(read([f"[{CALL}]"], use))
    assert (text, calls, reason) == ("", [(0, "f", '{"a": [1, "é"]}')], "tool_calls")


def test_calls_that_must_come_have_no_form() -> None:
    assert ToolUse.of(TOOLS, "required", True, FORM) == ToolUse.of(TOOLS, "required", True)
