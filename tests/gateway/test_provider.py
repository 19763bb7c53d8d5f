"""Tests of the grammar of events: `Started (TextDelta | ToolCallDelta | Finished)* Completed`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import EngineFailed
from outrider.gateway.provider import GrammarError, checked
from outrider.types import (
    Completed,
    Event,
    Finished,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

STARTED, COMPLETED = Started("m"), Completed(Usage(1, 2))


@st.composite
def event_lists(draw: st.DrawFn) -> tuple[list[Event], int]:
    """Give any events of one or two choices, mostly in disorder."""
    num_choices = draw(st.integers(1, 2))
    index = st.integers(0, num_choices - 1)
    event = st.one_of(
        st.just(STARTED),
        st.just(COMPLETED),
        st.builds(TextDelta, index, st.just("x")),
        st.builds(
            ToolCallDelta,
            index,
            st.integers(-1, 2),
            st.just("{"),
            st.sampled_from(["", "call_1"]),
            st.sampled_from(["", "f"]),
        ),
        st.builds(Finished, index, st.just("stop")),
    )
    return draw(st.lists(event, max_size=8)), num_choices


class Stream:
    """A generator of events that notes whether it was closed."""

    def __init__(self, events: Sequence[Event | Exception]) -> None:
        self.events = events
        self.is_closed = False

    async def run(self) -> AsyncGenerator[Event, None]:
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.is_closed = True


async def read_all(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


def is_grammatical(events: Sequence[Event], num_choices: int) -> bool:
    """Say the same as `checked` in other words."""
    if len(events) < 2 or events[0] != STARTED or events[-1] != COMPLETED:
        return False
    middle = events[1:-1]
    if any(isinstance(event, Started | Completed) for event in middle):
        return False
    by_choice: dict[int, list[type]] = {index: [] for index in range(num_choices)}
    for event in middle:
        if event.index not in by_choice:
            return False
        by_choice[event.index].append(type(event))
    for index in by_choice:
        calls = [e for e in middle if isinstance(e, ToolCallDelta) and e.index == index]
        seen: list[int] = []
        for call in calls:
            is_known = call.call_index in seen
            if (bool(call.id), bool(call.name)) != (not is_known, not is_known):
                return False
            if not is_known:
                seen.append(call.call_index)
        if seen != list(range(len(seen))):
            return False
    return all(
        kinds[-1:] == [Finished] and kinds.count(Finished) == 1 for kinds in by_choice.values()
    )


@given(event_lists())
def test_exactly_the_grammatical_streams_pass(case: tuple[list[Event], int]) -> None:
    events, num_choices = case
    stream = Stream(events)
    try:
        passed = asyncio.run(read_all(checked(stream.run(), num_choices)))
    except GrammarError:
        assert not is_grammatical(events, num_choices)
    else:
        assert is_grammatical(events, num_choices)
        assert passed == events
    assert stream.is_closed


def test_calls_may_grow_in_turns() -> None:
    events: list[Event] = [
        STARTED,
        TextDelta(0, "x"),
        ToolCallDelta(0, 0, "", "call_1", "f"),
        ToolCallDelta(0, 1, "{", "call_2", "g"),
        ToolCallDelta(0, 0, "{}"),
        ToolCallDelta(0, 1, "}"),
        Finished(0, "tool_calls"),
        COMPLETED,
    ]
    assert is_grammatical(events, 1)
    assert asyncio.run(read_all(checked(Stream(events).run(), 1))) == events


@pytest.mark.parametrize(
    "calls",
    [
        [ToolCallDelta(0, 0, "{}")],
        [ToolCallDelta(0, 0, "{}", "call_1")],
        [ToolCallDelta(0, 0, "{}", "", "f")],
        [ToolCallDelta(0, 1, "{}", "call_1", "f")],
        [ToolCallDelta(0, -1, "{}", "call_1", "f")],
        [ToolCallDelta(0, 0, "{}", "call_1", "f"), ToolCallDelta(0, 0, "", "call_1", "f")],
        [ToolCallDelta(0, 0, "{}", "call_1", "f"), ToolCallDelta(0, 0, "", "", "f")],
    ],
)
def test_a_call_begins_with_id_and_name_and_has_them_once(calls: list[Event]) -> None:
    stream = Stream([STARTED, *calls, Finished(0, "tool_calls"), COMPLETED])
    with pytest.raises(GrammarError):
        asyncio.run(read_all(checked(stream.run(), 1)))


@given(st.data(), st.integers(1, 3))
def test_interleaved_choices_pass_unchanged(data: st.DataObject, num_choices: int) -> None:
    texts = {i: data.draw(st.integers(0, 3), f"pieces of {i}") for i in range(num_choices)}
    tickets = [index for index, count in texts.items() for _ in range(count + 1)]
    middle: list[Event] = []
    for index in data.draw(st.permutations(tickets)):
        is_text = texts[index] > 0
        middle.append(TextDelta(index, "x") if is_text else Finished(index, "length"))
        texts[index] -= 1
    events = [STARTED, *middle, COMPLETED]
    assert is_grammatical(events, num_choices)
    assert asyncio.run(read_all(checked(Stream(events).run(), num_choices))) == events


@pytest.mark.parametrize(
    "late",
    [STARTED, COMPLETED, TextDelta(0, "x"), TextDelta(1, "x"), Finished(1, "stop")],
    ids=lambda event: type(event).__name__,
)
def test_nothing_may_follow_completed(late: Event) -> None:
    stream = Stream([STARTED, Finished(0, "stop"), COMPLETED, late])
    with pytest.raises(GrammarError):
        asyncio.run(read_all(checked(stream.run(), 1)))
    assert stream.is_closed


@pytest.mark.parametrize("index", [-1, 1, 7])
def test_a_choice_that_nobody_asked_for_is_refused(index: int) -> None:
    call = ToolCallDelta(index, 0, "", "call_1", "f")
    for event in (TextDelta(index, "x"), Finished(index, "stop"), call):
        with pytest.raises(GrammarError):
            asyncio.run(read_all(checked(Stream([STARTED, event, COMPLETED]).run(), 1)))


def test_an_error_of_the_provider_passes_and_closes_it() -> None:
    stream = Stream([STARTED, TextDelta(0, "x"), EngineFailed("gone")])
    with pytest.raises(EngineFailed, match="gone"):
        asyncio.run(read_all(checked(stream.run(), 1)))
    assert stream.is_closed


def test_closing_the_checked_stream_closes_the_providers() -> None:
    stream = Stream([STARTED, TextDelta(0, "x"), TextDelta(0, "y")])

    async def read_two() -> None:
        events = checked(stream.run(), 1)
        assert await anext(events) == STARTED
        await anext(events)
        assert not stream.is_closed
        await events.aclose()
        assert stream.is_closed

    asyncio.run(read_two())
