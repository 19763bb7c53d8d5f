"""The wire-fidelity matrix: what arrives is equal, or refused by name; docs/fidelity.md has it.

A request comes in on each wire and goes out on each to this server itself, on a real socket; what
the provider behind it sees is compared with what came in, and so is what comes back. What a cell
says is what happened, so a change of a codec that loses something shows up as a different page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from outrider.dialects import cloudflare, dataoorts, openai, openrouter
from outrider.dialects.base import Answer, Dialect, Envelope, collect
from outrider.dialects.capabilities import Kind
from outrider.errors import EngineFailed, InvalidRequest, OutriderError, UnsupportedParameter
from outrider.gateway.connections import Connections
from outrider.gateway.remote import RemoteProvider
from outrider.gateway.upstream import Upstream
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Grammar,
    ImagePart,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    TextPart,
    TokenAlternative,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from server.scripted import MODEL, Running, ScriptedProvider, Step, serving

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"
PICTURE = ImagePart(b"\x89PNG\r\n\x1a\n" + bytes(20))
TOOL = Tool("f", "What f does", {"type": "object", "properties": {"a": {"type": "integer"}}})
SCHEMA = Grammar("json_schema", '{"type":"object","required":["a"]}', "response_format")
SAMPLING = SamplingParams(temperature=0.5, max_tokens=64, seed=7, stop=("END",))
GIVEN = frozenset({"temperature", "max_tokens", "seed", "stop"})
TWO = msgspec.structs.replace(SAMPLING, n=2)
LIKELY = msgspec.structs.replace(SAMPLING, logprobs=1)
TOKEN = TokenLogprob(-1, b"Hi", -0.5, (TokenAlternative(-1, b"Hi", -0.5),))  # ids aren't sent
LIKELY_TEXT = TextDelta(0, "Hi", (TOKEN,))
USAGE, CUT_USAGE = Usage(12, 3, 4), Usage(12, 64, 4)
ASKED = (Message("system", "Be brief"), Message("user", "Grüße, 世界"))
CALLED = (
    *ASKED,
    Message("assistant", "", (ToolCall("call00001", "f", '{"a":1}'),)),
    Message("tool", "2", tool_call_id="call00001"),
)
TEXT: list[Step] = [TextDelta(0, "Hel"), TextDelta(0, "lo 世"), Finished(0, "stop")]
CALL: list[Step] = [
    ToolCallDelta(0, 0, '{"a"', "call00002", "f"),
    ToolCallDelta(0, 0, ": 1}"),
    Finished(0, "tool_calls"),
]
JSON: list[Step] = [TextDelta(0, '{"a"'), TextDelta(0, ":1}"), Finished(0, "stop")]
LONG: list[Step] = [TextDelta(0, "Hel"), Finished(0, "length")]


class Feature(NamedTuple):
    """What is asked for, and what the provider behind the last wire does."""

    fields: dict[str, Any]
    script: list[Step]


class Out(NamedTuple):
    """A wire that a request goes out on: its kind, its path here, and fields that lead there."""

    kind: Kind
    path: str
    top_k: int = 0


FEATURES: dict[str, Feature] = {
    "text": Feature({}, TEXT),
    "cut text": Feature({}, LONG),
    "stream": Feature({"stream": True}, TEXT),
    "tools": Feature({"messages": CALLED, "tools": (TOOL,)}, CALL),
    "tool stream": Feature({"messages": CALLED, "tools": (TOOL,), "stream": True}, CALL),
    "usage": Feature({"stream": True}, LONG),
    "image": Feature({"messages": (Message("user", (TextPart("Which?"), PICTURE)),)}, TEXT),
    "JSON schema": Feature({"grammar": SCHEMA}, JSON),
    "JSON schema, stream": Feature({"grammar": SCHEMA, "stream": True}, JSON),
    "two choices": Feature({"sampling": TWO}, [*TEXT, TextDelta(1, "Hi"), Finished(1, "length")]),
    "log probabilities": Feature({"sampling": LIKELY}, [LIKELY_TEXT, Finished(0, "stop")]),
    "refusal": Feature({}, [InvalidRequest("it is wrong", "messages")]),
    "broken stream": Feature({"stream": True}, [TextDelta(0, "Hel"), EngineFailed("it broke")]),
}
INS: dict[str, Dialect] = {
    "OpenAI": openai.CHAT_COMPLETIONS,
    "OpenRouter": openrouter.CHAT_COMPLETIONS,
    "Workers AI": cloudflare.WorkersAi(),
    "Dataoorts": dataoorts.Dataoorts(),
}
OUTS: dict[str, Out] = {
    "OpenAI": Out("openai", "/v1"),
    "OpenRouter": Out("openrouter", "/api/v1"),
    "Workers AI": Out("workers-ai", "/client/v4/accounts/abc"),
    "Workers AI, native": Out("workers-ai", "/client/v4/accounts/abc", top_k=5),
    "Dataoorts": Out("dataoorts", "/api/v1"),
}


@pytest.fixture(scope="module")
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture(scope="module")
def looped(provider: ScriptedProvider) -> Iterator[Running]:
    with serving(provider) as running:
        yield running


def incoming(wire: Dialect, feature: Feature, out: Out) -> GenerationRequest:
    """Give what a client of a wire sends, as the wire's codec reads it."""
    own = {"sampling": SAMPLING, "messages": ASKED, **feature.fields}
    own["given"] = GIVEN | {"n"} if own["sampling"] is TWO else GIVEN
    if out.top_k:
        own["sampling"] = msgspec.structs.replace(own["sampling"], top_k=out.top_k)
        own["given"] |= {"top_k"}
    sent = wire.encode_request(GenerationRequest(request_id="r", model=MODEL, **own))
    return wire.decode_request(sent, Envelope(request_id="r", model=MODEL)).request


async def outgoing(
    url: str, out: Out, wanted: GenerationRequest
) -> tuple[list[Event], OutriderError | None]:
    """Give what comes back over a wire, and the error that ends it."""
    upstream = Upstream(
        kind=out.kind, name="up", display_name="Up", base_url=url + out.path, model=MODEL
    )
    connections = Connections()
    events: list[Event] = []
    try:
        remote = RemoteProvider(upstream, MODEL, connections)
        async with aclosing(remote.generate(wanted)) as stream:
            async for event in stream:
                events.append(event)
    except OutriderError as error:
        return events, error
    finally:
        await connections.close()
    return events, None


def meaning(wanted: GenerationRequest) -> tuple[Any, ...]:
    """Give what of a request has to arrive; whether it streams is for who asks."""
    sampling = wanted.sampling
    values = [getattr(sampling, name) for name in (*sorted(GIVEN), "top_k", "n", "logprobs")]
    grammar = wanted.grammar and (wanted.grammar.kind, wanted.grammar.source)
    return wanted.messages, wanted.tools, wanted.tool_choice, grammar, values


def whole(events: list[Any]) -> Answer:
    async def stream() -> Any:
        for event in events:
            yield event

    answer = asyncio.run(collect(stream()))
    return msgspec.structs.replace(answer, model="", provider="", upstream_id="")


def deltas(events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, TextDelta | ToolCallDelta)]


def cell(
    wire: Dialect, out: Out, feature: Feature, provider: ScriptedProvider, looped: Running
) -> str:
    """Send one feature in on one wire and out on another; say what became of it."""
    try:
        wanted = incoming(wire, feature, out)
    except (UnsupportedParameter, InvalidRequest):
        return "–"  # the client can't ask for it on this wire
    script = [Started(MODEL), *feature.script]
    if isinstance(script[-1], Finished):  # an answer that was cut has all its tokens
        is_cut = script[-1].finish_reason == "length"
        script.append(Completed(CUT_USAGE if is_cut else USAGE))
    provider.script = lambda request: script
    provider.requests.clear()
    events, error = asyncio.run(outgoing(looped.url, out, wanted))
    if isinstance(error, UnsupportedParameter):
        assert not provider.requests, "it was sent before it was refused"
        return f"refused: `{error.param}`"
    (seen,) = provider.requests
    assert meaning(seen) == meaning(wanted)
    if isinstance(script[-1], OutriderError):
        assert isinstance(script[-1], InvalidRequest) == isinstance(error, InvalidRequest)
        assert error is not None
        assert not any(isinstance(event, Finished) for event in events)
        return "equal"
    if error is not None:
        return "refused: an error"
    assert whole(events) == whole(script)
    check_way_back(wire, wanted, events)
    in_one_piece = wanted.stream and len(deltas(events)) < len(deltas(script))
    return "in one piece" if in_one_piece else "equal"


def check_way_back(wire: Dialect, wanted: GenerationRequest, events: list[Event]) -> None:
    """Write what came back on the wire that asked, and read it as its client would."""
    answer = whole(events)
    body = wire.encode_request(wanted)
    decoded = wire.decode_request(body, Envelope(request_id="r", model=MODEL))
    decoded = msgspec.structs.replace(decoded, include_usage=True)
    if not wanted.stream:
        again = wire.decode_answer(wire.encode_answer(answer, decoded))
    else:
        encoder = wire.stream_encoder(decoded)
        again = whole(wire.decode_stream(b"".join(encoder.encode(event) for event in events)))
    for sent, read in zip(answer.choices, again.choices, strict=True):
        assert (read.text, read.tool_calls) == (sent.text, sent.tool_calls)
    assert again.usage == answer.usage


def test_the_page_says_what_arrives(provider: ScriptedProvider, looped: Running) -> None:
    lines = [f"| in | feature | {' | '.join(OUTS)} |", "|---" * (2 + len(OUTS)) + "|"]
    for name, wire in INS.items():
        for title, feature in FEATURES.items():
            cells = [cell(wire, out, feature, provider, looped) for out in OUTS.values()]
            lines.append(f"| {name} | {title} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    assert table in PAGE.read_text(encoding="utf-8"), f"the table of {PAGE} is now:\n{table}\n"
