"""Remote providers, against a scripted upstream on a real socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from gateway.remote_hosts import SECRET, Asked, ask, request
from outrider.dialects.capabilities import Kind
from outrider.errors import (
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    UnsupportedParameter,
)
from outrider.gateway.connections import Connections
from outrider.types import (
    Completed,
    Finished,
    SamplingParams,
    Started,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
)
from upstreams import scripted
from upstreams.scripted import Scripted, Seen, stream, whole

KINDS = pytest.mark.parametrize("kind", ["openai", "openrouter"])
STARTED = Started("ours/model", "Up", scripted.ID)


@KINDS
def test_a_stream_becomes_events(host: Scripted, kind: Kind) -> None:
    host.answer(stream(*scripted.chat_stream(wire=kind)))
    native = "eos" if kind == "openrouter" else ""
    assert ask(Asked(host, kind), request(stream=True)) == [
        STARTED,
        TextDelta(0, "Hel"),
        TextDelta(0, "lo"),
        TextDelta(0, " there!"),
        Finished(0, "stop", native_reason=native),
        Completed(Usage(7, 3)),
    ]
    (seen,) = host.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert seen.fields["model"] == "vendor/model-up"
    assert seen.fields["stream"] is True
    options = {"include_usage": True} if kind == "openai" else None
    assert seen.fields.get("stream_options") == options


@KINDS
def test_a_whole_answer_becomes_events(host: Scripted, kind: Kind) -> None:
    host.answer(whole(scripted.chat_answer("Hello", "length", wire=kind)))
    native = "max_tokens" if kind == "openrouter" else ""
    assert ask(Asked(host, kind), request()) == [
        STARTED,
        TextDelta(0, "Hello"),
        Finished(0, "length", native_reason=native),
        Completed(Usage(7, 3)),
    ]
    assert "stream" not in host.seen[0].fields


@KINDS
@pytest.mark.parametrize("usage", [{}, {"total_tokens": 3}, {"completion_tokens": 3}])
def test_a_usage_without_the_prompts_tokens_is_none_given(
    host: Scripted, kind: Kind, usage: dict[str, int]
) -> None:
    host.answer(whole(scripted.chat_answer(wire=kind, usage=usage)))
    assert ask(Asked(host, kind), request())[-1] == Completed(Usage(0, 0))


@KINDS
def test_a_refusal_is_the_text_of_an_answer(host: Scripted, kind: Kind) -> None:
    answer = scripted.chat_answer(None, wire=kind)
    answer["choices"][0]["message"]["refusal"] = "I will not"
    said = [{"role": "assistant", "refusal": ""}, {"refusal": "I will"}, {"refusal": " not"}]
    chunks = [scripted.chunk(delta, wire=kind) for delta in said]
    end = [scripted.chunk({}, "stop", wire=kind), scripted.usage_chunk(wire=kind), scripted.DONE]
    host.answer(whole(answer), stream(*chunks, *end))
    for wanted in (request(), request(stream=True)):
        _, *texts, finished, completed = ask(Asked(host, kind), wanted)
        assert "".join(event.text for event in texts) == "I will not"  # type: ignore[union-attr]
        assert isinstance(finished, Finished)
        assert finished.finish_reason == "stop"
        assert completed == Completed(Usage(7, 3))


def test_a_refusal_after_words_follows_them(host: Scripted) -> None:
    answer = scripted.chat_answer("Well. ")
    answer["choices"][0]["message"]["refusal"] = "No."
    host.answer(whole(answer))
    assert ask(Asked(host), request())[1] == TextDelta(0, "Well. No.")


@KINDS
def test_streamed_calls_become_events(host: Scripted, kind: Kind) -> None:
    host.answer(stream(*scripted.call_stream("f", ['{"a', '": 1}'], wire=kind)))
    tools = (Tool("f", parameters={"type": "object"}),)
    assert ask(Asked(host, kind), request(stream=True, tools=tools)) == [
        STARTED,
        ToolCallDelta(0, 0, "", "call_1", "f"),
        ToolCallDelta(0, 0, '{"a'),
        ToolCallDelta(0, 0, '": 1}'),
        Finished(0, "tool_calls"),
        Completed(Usage(7, 3)),
    ]
    assert host.seen[0].fields["tools"][0]["function"]["name"] == "f"


def test_raw_prompts_go_to_the_endpoint_for_them(host: Scripted) -> None:
    host.answer(whole(scripted.text_answer("world")))
    assert ask(Asked(host), request(prompts=("Hello",)))[1] == TextDelta(0, "world")
    assert host.seen[0].path == "/v1/completions"
    assert host.seen[0].fields["prompt"] == "Hello"


def test_what_the_callers_wire_sets_by_itself_is_sent(host: Scripted) -> None:
    host.answer(whole(scripted.chat_answer()))
    sampling = SamplingParams(max_tokens=256, temperature=0.15, top_p=1.0)
    ask(Asked(host), request(sampling=sampling, given=frozenset({"top_p"})))
    fields = host.seen[0].fields
    assert (fields["max_tokens"], fields["temperature"], fields["top_p"]) == (256, 0.15, 1.0)


def test_connections_are_used_again(host: Scripted) -> None:
    streamed = stream(*scripted.chat_stream())
    host.answer(streamed, streamed, whole(scripted.chat_answer()))
    before = host.num_connections

    async def run() -> None:
        connections = Connections()
        remote = Asked(host).provider(connections)
        for wanted in (request(stream=True), request(stream=True), request()):
            assert [event async for event in remote.generate(wanted)]
        await connections.close()

    asyncio.run(run())
    assert host.num_connections == before + 1


def test_a_client_that_leaves_cuts_the_stream(host: Scripted) -> None:
    host.answer(stream(*scripted.chat_stream()[:2], scripted.Stall()))
    before = host.num_gone

    async def run() -> None:
        connections = Connections()
        async with aclosing(
            Asked(host).provider(connections).generate(request(stream=True))
        ) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        while host.num_gone == before:
            await asyncio.sleep(0.005)
        await connections.close()

    asyncio.run(asyncio.wait_for(run(), 10))


ERROR = {"error": {"message": "no such thing", "type": "x", "param": "p", "code": None}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, ERROR, InvalidRequest),
        (422, ERROR, InvalidRequest),
        (404, ERROR, ModelNotFound),
        (404, {"detail": "Not Found"}, ProviderError),
        (401, ERROR, ProviderDenied),
        (402, ERROR, ProviderDenied),
        (403, ERROR, ProviderDenied),
        (408, ERROR, ProviderTimeout),
        (429, ERROR, ProviderRateLimited),
        (500, ERROR, ProviderError),
        (502, b"<html>", ProviderError),
        (503, b"", ProviderError),
        (504, ERROR, ProviderTimeout),
        (529, ERROR, ProviderError),
        (302, b"", ProviderError),
        (204, b"", ProviderError),
    ],
)
@pytest.mark.parametrize("wire", ["openai", "openrouter"])
def test_statuses_become_typed_errors(
    host: Scripted, wire: Kind, status: int, body: object, kind: type[OutriderError]
) -> None:
    for wanted in (request(), request(stream=True)):
        host.answer(whole(body, status))
        with pytest.raises(OutriderError) as caught:
            ask(Asked(host, wire), wanted)
        assert type(caught.value) is kind
        assert not caught.value.events  # type: ignore[attr-defined]
        if isinstance(caught.value, ProviderError):
            assert caught.value.upstream_status == status


def test_a_secret_that_comes_back_is_not_shown(host: Scripted) -> None:
    host.answer(whole({"error": {"message": f"bad {SECRET}\nline"}}, 500))
    with pytest.raises(ProviderError, match=r"^Up: the answer has status 500: bad ••• line$"):
        ask(Asked(host), request())
    assert SECRET not in repr(Asked(host).upstream)


def test_what_the_wire_cannot_carry_is_refused_before_anything_is_sent(host: Scripted) -> None:
    busy = request(reject_if_busy=True)
    remote = Asked(host)
    refusal = remote.can_carry(busy)
    assert refusal is not None
    assert refusal.param == "options.rejectIfBusy"
    assert remote.can_carry(request()) is None
    with pytest.raises(UnsupportedParameter):
        ask(Asked(host), busy)
    stops = SamplingParams(stop=("a", "b", "c", "d", "e"))
    with pytest.raises(UnsupportedParameter, match="stop"):
        ask(Asked(host, "openrouter"), request(sampling=stops))
    assert not host.seen


def test_redirects_are_not_followed(host: Scripted) -> None:
    def script(seen: Seen) -> scripted.Reply:
        del seen
        return whole(b"", 307, location=f"{host.base_url}/elsewhere")

    host.script = script
    with pytest.raises(ProviderError, match="status 307"):
        ask(Asked(host), request())
    assert len(host.seen) == 1


def test_a_provider_that_is_not_there_is_an_error(host: Scripted) -> None:
    with pytest.raises(ProviderError, match="can't be reached"):
        ask(Asked(host, base_url="http://127.0.0.1:1/v1"), request())


def test_the_body_is_the_wires(host: Scripted) -> None:
    host.answer(whole(scripted.chat_answer()))
    ask(Asked(host), request("Grüße"))
    assert json.loads(host.seen[0].body)["messages"] == [{"role": "user", "content": "Grüße"}]
