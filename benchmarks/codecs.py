"""What the codecs of the wires cost: a request of 100 messages, its answer, and streamed chunks.

The conversation has tools, calls and results; it is made once as a `GenerationRequest` and written
by each wire's own encoder. Medians and 99th percentiles of single calls, in microseconds, on one
core. "both" is what a server does per request: it reads the body and writes the answer. Usage:
codecs.py [--rounds N] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from outrider.dialects import cloudflare_openai, openai, openrouter
from outrider.dialects.base import Answer, Choice, Dialect, Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.dataoorts import Dataoorts
from outrider.types import (
    Event,
    GenerationRequest,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

NUM_MESSAGES, NUM_TOOLS = 100, 8
REQUEST_TARGET_US, CHUNK_TARGET_US = 1000, 25
CHUNKS_AT_ONCE = 50
WORDS = "The river rises in the mountains and carries stones, sand and stories to the sea. "
WIRES: dict[str, Dialect] = {
    "OpenAI": openai.CHAT_COMPLETIONS,
    "OpenRouter": openrouter.CHAT_COMPLETIONS,
    "Workers AI": WorkersAi(),
    "Workers AI, OpenAI's": cloudflare_openai.CHAT_COMPLETIONS,
    "Dataoorts": Dataoorts(),
}


class Cost(NamedTuple):
    """Microseconds of one call."""

    median: float
    p99: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("build/bench-codecs.json"))
    arguments = parser.parse_args()
    rows = {name: measure_wire(wire, arguments.rounds) for name, wire in WIRES.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print(f"us per call, median (p99); targets: both {REQUEST_TARGET_US}, chunks {CHUNK_TARGET_US}")
    print(f"{'wire':22}" + "".join(f"{column:>18}" for column in columns))
    for name, row in rows.items():
        cells = (f"{row[c].median:.1f} ({row[c].p99:.1f})" if c in row else "–" for c in columns)
        print(f"{name:22}" + "".join(f"{cell:>18}" for cell in cells))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        name: {column: cost._asdict() for column, cost in row.items()} for name, row in rows.items()
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure_wire(wire: Dialect, rounds: int) -> dict[str, Cost]:
    """Measure one wire: whole requests and answers, then chunks."""
    request = make_request()
    envelope = Envelope(request_id="r", created_s=1, model="m")
    body = wire.encode_request(request)
    decoded = wire.decode_request(body, envelope)
    assert len(decoded.request.messages) == NUM_MESSAGES
    calls = (ToolCall("call_1", "tool_1", '{"place": "Oslo", "days": 3}'),)
    answer = Answer("m", (Choice(WORDS * 20, "tool_calls", (), calls),), Usage(9000, 400))

    def both() -> None:
        wire.encode_answer(answer, wire.decode_request(body, envelope))

    row = {
        "read request": measure(lambda: wire.decode_request(body, envelope), rounds),
        "write answer": measure(lambda: wire.encode_answer(answer, decoded), rounds),
        "both": measure(both, rounds),
        "write request": measure(lambda: wire.encode_request(request), rounds),
    }
    if isinstance(wire, Dataoorts):  # it has no streams
        return row
    encoder = wire.stream_encoder(decoded)
    encoder.encode(Started("m"))
    encoder.encode(ToolCallDelta(0, 0, "", "call_1", "tool_1"))

    def chunks(event: Event) -> Cost:
        def encode_some() -> None:
            for _ in range(CHUNKS_AT_ONCE):
                encoder.encode(event)

        return Cost(*(value / CHUNKS_AT_ONCE for value in measure(encode_some, rounds)))

    return row | {
        "text chunk": chunks(TextDelta(0, " mountains")),
        "call chunk": chunks(ToolCallDelta(0, 0, '"Oslo", ')),
    }


def measure(call: Callable[[], object], rounds: int) -> Cost:
    """Measure a call so many times, after a tenth as many to warm up."""
    for _ in range(rounds // 10):
        call()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - begin) / 1000)
    times.sort()
    return Cost(statistics.median(times), times[int(len(times) * 0.99)])


def make_request() -> GenerationRequest:
    """Make a conversation in which every fourth turn calls a tool and the next is its result."""
    messages = [Message("system", WORDS * 4)]
    while len(messages) < NUM_MESSAGES:
        call = ToolCall(f"call_{len(messages)}", "tool_1", '{"place": "Oslo", "days": 3}')
        messages += [
            Message("user", WORDS * 3),
            Message("assistant", "", (call,)),
            Message("tool", WORDS * 2, tool_call_id=call.id),
            Message("assistant", WORDS * 5),
        ]
    place = {"type": "string", "description": "Where."}
    parameters = {"type": "object", "properties": {"place": place}, "required": ["place"]}
    return GenerationRequest(
        request_id="r",
        model="m",
        messages=tuple(messages[:NUM_MESSAGES]),
        tools=tuple(Tool(f"tool_{i}", WORDS, parameters) for i in range(NUM_TOOLS)),
        sampling=SamplingParams(temperature=0.5, max_tokens=500),
        given=frozenset({"temperature", "max_tokens"}),
    )


if __name__ == "__main__":
    main()
