"""Tests of answers in rounds, with scripted turns of the model and functions of Python."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from outrider.errors import EngineOverloaded, InvalidRequest, UnsupportedParameter
from outrider.functions.rounds import MAX_ROUNDS, FunctionRounds
from outrider.gateway.provider import checked
from outrider.types import (
    Completed,
    EmbeddedFunction,
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    Message,
    NamedTool,
    Started,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

Turn = list[Event | Exception]
ASK = (Message("user", "What is the weather?"),)
WEATHER, CLOCK = EmbeddedFunction("weather", "W"), EmbeddedFunction("clock", "C")
TOOLS = (Tool("weather"), Tool("clock"), Tool("mine"))


class Model:
    """Plays a turn for each request and keeps the requests."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.requests: list[GenerationRequest] = []

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        yield Started("model")
        for event in self.turns[min(len(self.requests), len(self.turns)) - 1]:
            if isinstance(event, Exception):
                raise event
            yield event
        yield Completed(Usage(10, 5, 2))


class Runner:
    """Stands for the isolates."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    async def call(self, code: str, arguments: str) -> str:
        self.calls.append((code, arguments))
        await asyncio.sleep(0)
        return f"{code} of {arguments}"


def says(text: str) -> Turn:
    return [TextDelta(0, text), Finished(0, "stop")]


def calls(*names: str, reason: FinishReason = "tool_calls", text: str = "") -> Turn:
    """Call tools, each with its arguments in two parts."""
    events: Turn = [TextDelta(0, text)] if text else []
    for index, name in enumerate(names):
        events.append(ToolCallDelta(0, index, '{"n":', f"id{index}", name))
        events.append(ToolCallDelta(0, index, f"{index}}}"))
    return [*events, Finished(0, reason)]


def request(*functions: EmbeddedFunction, **changes: Any) -> GenerationRequest:
    fields = {"request_id": "r", "model": "m", "messages": ASK, "tools": TOOLS, **changes}
    return GenerationRequest(functions=functions, **fields)


def run(model: Model, wanted: GenerationRequest, runner: Runner | None = None) -> list[Event]:
    async def read() -> list[Event]:
        rounds = FunctionRounds(runner or Runner())  # type: ignore[arg-type]
        return [event async for event in checked(rounds.generate(model, wanted), 1)]

    return asyncio.run(read())


def test_results_go_back_to_the_model_which_then_answers() -> None:
    runner, model = Runner(), Model(calls("weather", text="Let me see."), says(" Sunny."))
    assert run(model, request(WEATHER), runner) == [
        Started("model"),
        TextDelta(0, "Let me see."),
        TextDelta(0, " Sunny."),
        Finished(0, "stop"),
        Completed(Usage(20, 10, 4)),
    ]
    assert runner.calls == [("W", '{"n":0}')]
    first, second = model.requests
    assert first == request()
    assert second.request_id != first.request_id
    assert second.messages == (
        *ASK,
        Message("assistant", "Let me see.", (ToolCall("id0", "weather", '{"n":0}'),)),
        Message("tool", 'W of {"n":0}', tool_call_id="id0"),
    )


def test_the_calls_of_a_round_run_side_by_side_and_are_answered_in_order() -> None:
    model = Model(calls("weather", "clock", "weather"), says("Done."))
    run(model, request(WEATHER, CLOCK))
    assert [(m.tool_call_id, m.text) for m in model.requests[1].messages[2:]] == [
        ("id0", 'W of {"n":0}'),
        ("id1", 'C of {"n":1}'),
        ("id2", 'W of {"n":2}'),
    ]


@pytest.mark.parametrize("text", ["", "Let me see."])
def test_tokens_of_hidden_events_come_with_the_next_one_and_costs_are_added_up(text: str) -> None:
    class Counted(Model):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
            num_tokens = 0
            async for event in super().generate(request):
                if isinstance(event, Completed):
                    yield Completed(Usage(10, num_tokens), 7)
                elif isinstance(event, Started):
                    yield event
                else:
                    num_tokens += 3
                    yield msgspec.structs.replace(event, num_tokens=3)

    model = Counted(calls("weather", text=text), calls("clock", "weather"), says("Sunny."))
    events = run(model, request(WEATHER, CLOCK))
    shown = [event for event in events if not isinstance(event, Started | Completed)]
    assert isinstance(events[-1], Completed)
    assert sum(event.num_tokens for event in shown) == events[-1].usage.completion_tokens
    assert events[-1].cost_microusd == 3 * 7


def test_after_five_rounds_the_model_answers_without_tools() -> None:
    turns: list[Turn] = [calls("weather")] * MAX_ROUNDS
    runner, model = Runner(), Model(*turns, says("Enough."))
    events = run(model, request(WEATHER), runner)
    assert len(runner.calls) == MAX_ROUNDS == 5
    assert [r.tool_choice for r in model.requests] == ["auto"] * 5 + ["none"]
    assert events[-3:] == [
        TextDelta(0, "Enough."),
        Finished(0, "stop"),
        Completed(Usage(60, 30, 12)),
    ]
    assert len({r.request_id for r in model.requests}) == 6


def test_a_model_that_never_stops_calling_ends_with_calls_for_the_caller() -> None:
    runner, model = Runner(), Model(calls("weather"))
    events = run(model, request(WEATHER), runner)
    assert len(model.requests) == MAX_ROUNDS + 1
    assert len(runner.calls) == MAX_ROUNDS
    assert events[-2] == Finished(0, "tool_calls")
    assert isinstance(events[-3], ToolCallDelta)


def test_a_call_that_was_forced_is_not_forced_again() -> None:
    for choice in ("required", NamedTool("weather")):
        model = Model(calls("weather"), says("Done."))
        run(model, request(WEATHER, tool_choice=choice))
        assert [r.tool_choice for r in model.requests] == [choice, "auto"]


def test_a_round_with_a_tool_of_the_callers_goes_to_the_caller_whole() -> None:
    runner, turn = Runner(), calls("weather", "mine", text="Both.")
    assert run(Model(turn), request(WEATHER), runner) == [
        Started("model"),
        *turn,
        Completed(Usage(10, 5, 2)),
    ]
    assert runner.calls == []


def test_a_call_that_was_cut_is_not_run() -> None:
    runner, turn = Runner(), calls("weather", reason="length")
    assert run(Model(turn), request(WEATHER), runner)[1:-1] == turn
    assert runner.calls == []


def test_text_is_not_held_back() -> None:
    async def read() -> Event:
        rounds = FunctionRounds(Runner())  # type: ignore[arg-type]
        model = Model([TextDelta(0, "One"), *calls("weather")], says("Two"))
        async for event in (stream := rounds.generate(model, request(WEATHER))):
            if isinstance(event, TextDelta):
                await stream.aclose()
                return event
        raise AssertionError

    assert asyncio.run(read()) == TextDelta(0, "One")


def test_a_failure_in_a_later_round_reaches_the_caller() -> None:
    model = Model(calls("weather"), [EngineOverloaded("busy")])
    with pytest.raises(EngineOverloaded):
        run(model, request(WEATHER))


def test_a_request_without_functions_is_left_alone() -> None:
    runner, turn = Runner(), calls("weather")
    assert run(Model(turn), request(), runner)[1:-1] == turn
    assert runner.calls == []


def test_functions_are_off_unless_the_operator_turns_them_on() -> None:
    with pytest.raises(UnsupportedParameter, match="--functions") as caught:
        FunctionRounds(None).generate(Model(), request(WEATHER))
    assert caught.value.param == "functions"


@pytest.mark.parametrize(
    ("functions", "param"),
    [
        ((EmbeddedFunction("other", "1"),), "functions[0].name"),
        ((WEATHER, EmbeddedFunction("weather", "2")), "functions[1].name"),
        ((EmbeddedFunction("weather", ""),), "functions[0].code"),
        ((EmbeddedFunction("weather", "x" * 65_537),), "functions[0].code"),
        (tuple(itertools.repeat(WEATHER, 129)), "functions"),
    ],
)
def test_functions_that_can_not_be_run_are_refused_before_the_model_is_asked(
    functions: tuple[EmbeddedFunction, ...], param: str
) -> None:
    model = Model()
    with pytest.raises(InvalidRequest) as caught:
        run(model, request(*functions))
    assert caught.value.param == param
    assert model.requests == []
