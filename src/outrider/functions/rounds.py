"""Answers in rounds: the model calls functions, is told their results and goes on.

To the caller the rounds are one answer: one stream of events whose usage is the sum. A round that
also calls a tool without code ends the answer, and its calls are the caller's, all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import msgspec

from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.functions.runner import FunctionRunner
from outrider.types import (
    Completed,
    EmbeddedFunction,
    Event,
    Finished,
    GenerationRequest,
    Message,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

MAX_ROUNDS = 5  # of calls; after them the model answers without tools
MAX_FUNCTIONS = 128
MAX_CODE_CHARS = 64 << 10


class Generator(Protocol):
    """What answers a request: a provider of the gateway."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer."""
        ...


class FunctionRounds:
    """Answers requests; their functions run with `runner`, and are refused without one."""

    def __init__(self, runner: FunctionRunner | None) -> None:
        self._runner = runner

    def generate(
        self, provider: Generator, request: GenerationRequest
    ) -> AsyncGenerator[Event, None]:
        """Stream the answer of a provider, running what functions of the request it calls.

        Raises `InvalidRequest` for functions that can't be run, before the first event.
        """
        if not request.functions:
            return provider.generate(request)
        if self._runner is None:
            raise UnsupportedParameter(
                "functions hold code that the server would run, and --functions isn't on; send "
                "tools without code and run them yourself",
                "functions",
            )
        codes = _codes_of(request)
        request = msgspec.structs.replace(request, functions=())
        return _answer(provider, request, codes, self._runner)


def _codes_of(request: GenerationRequest) -> dict[str, str]:
    """Give the code of each function by its name; refuses those that could never be called."""
    if len(request.functions) > MAX_FUNCTIONS:
        raise InvalidRequest(
            f"functions has {len(request.functions)} entries; at most {MAX_FUNCTIONS} are allowed",
            "functions",
        )
    names = {tool.name for tool in request.tools}
    codes: dict[str, str] = {}
    for index, function in enumerate(request.functions):
        _check(function, f"functions[{index}]", names, codes)
        codes[function.name] = function.code
    return codes


def _check(function: EmbeddedFunction, at: str, tools: set[str], codes: dict[str, str]) -> None:
    name = "".join(c if c.isprintable() else "?" for c in function.name[:100])
    if function.name in codes:
        raise InvalidRequest(f"{at}.name: {name} has code already", f"{at}.name")
    if function.name not in tools:
        raise InvalidRequest(
            f"{at}.name: no tool is called {name}; functions are the code of tools", f"{at}.name"
        )
    if not 1 <= len(function.code) <= MAX_CODE_CHARS:
        raise InvalidRequest(
            f"{at}.code has {len(function.code):,} characters; send 1 to {MAX_CODE_CHARS:,}",
            f"{at}.code",
        )


class _Round:
    """Follows the events of one round: what goes to the caller, and what was called."""

    def __init__(self, codes: dict[str, str]) -> None:
        self._codes = codes
        self._text: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self.calls: dict[int, ToolCall] = {}
        self.usage = Usage(0, 0)
        self.cost_microusd = 0
        self.is_last = True
        self.num_hidden_tokens = 0  # of events that the caller doesn't get

    def read(self, event: Event) -> list[Event]:
        """Take an event and give those that the caller gets; calls wait for the round's end."""
        match event:
            case ToolCallDelta():
                self._deltas.append(event)
                call = self.calls.get(event.call_index) or ToolCall(event.id, event.name, "")
                arguments = call.arguments + event.arguments
                self.calls[event.call_index] = msgspec.structs.replace(call, arguments=arguments)
                return []
            case Finished():
                # A call that was cut can't be run.
                is_run = event.finish_reason == "tool_calls" and all(
                    call.name in self._codes for call in self.calls.values()
                )
                self.is_last = not is_run
                if not is_run:
                    return [*self._deltas, event]
                self.num_hidden_tokens = sum(each.num_tokens for each in self._deltas)
                self.num_hidden_tokens += event.num_tokens
                return []
            case Completed():
                self.usage = event.usage
                self.cost_microusd = event.cost_microusd
                return []
            case TextDelta():
                self._text.append(event.text)
        return [event]

    @property
    def message(self) -> Message:
        """The model's turn."""
        return Message("assistant", "".join(self._text), tuple(self.calls.values()))


async def _answer(
    provider: Generator,
    request: GenerationRequest,
    codes: dict[str, str],
    runner: FunctionRunner,
) -> AsyncGenerator[Event, None]:
    usage, cost_microusd = Usage(0, 0), 0
    num_hidden_tokens = 0  # of earlier rounds, for the next event that the caller gets
    request_id = request.request_id
    for number in range(MAX_ROUNDS + 1):
        turn = _Round(codes if number < MAX_ROUNDS else {})
        async with aclosing(provider.generate(request)) as events:
            async for event in events:
                if number and isinstance(event, Started):
                    continue
                for shown in turn.read(event):
                    if num_hidden_tokens and not isinstance(shown, Started | Completed):
                        shown = _with_tokens(shown, num_hidden_tokens)
                        num_hidden_tokens = 0
                    yield shown
        usage = _sum(usage, turn.usage)
        cost_microusd += turn.cost_microusd
        num_hidden_tokens += turn.num_hidden_tokens
        if turn.is_last:
            break
        results = await _call_all(turn, codes, runner)
        request = msgspec.structs.replace(
            request,
            request_id=f"{request_id}-{number + 1}",
            messages=(*request.messages, turn.message, *results),
            # A forced call is made by now; to force it again would never end.
            tool_choice="none" if number + 1 == MAX_ROUNDS else "auto",
        )
    yield Completed(usage, cost_microusd)


async def _call_all(
    turn: _Round, codes: dict[str, str], runner: FunctionRunner
) -> tuple[Message, ...]:
    """Run the calls of a round side by side; give their results in order, as messages."""

    async def run(call: ToolCall) -> Message:
        text = await runner.call(codes[call.name], call.arguments)
        return Message("tool", text, tool_call_id=call.id)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(call)) for call in turn.calls.values()]
    return tuple(task.result() for task in tasks)


def _with_tokens(event: TextDelta | ToolCallDelta | Finished, num_tokens: int) -> Event:
    return msgspec.structs.replace(event, num_tokens=event.num_tokens + num_tokens)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
    )
