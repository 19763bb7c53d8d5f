"""Workers AI and Dataoorts as remote providers, against a scripted upstream on a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.remote_hosts import Asked, ask, request
from outrider.dialects.capabilities import Kind
from outrider.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    UnsupportedParameter,
)
from outrider.types import (
    Completed,
    Finished,
    Grammar,
    ImagePart,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    Usage,
)
from upstreams import scripted
from upstreams.scripted import Scripted, stream, whole

CHAT = "/client/v4/accounts/abc/ai/v1/chat/completions"
RUN = "/client/v4/accounts/abc/ai/run/vendor/model-up"
NATIVE = {"sampling": SamplingParams(top_k=5), "given": frozenset({"top_k"})}
SCHEMA = Grammar("json_schema", '{"type":"object"}', "response_format")


def cloud(host: Scripted, **options: Any) -> Asked:
    return Asked(host, kind="workers-ai", **options)


def hosted(host: Scripted, **options: Any) -> Asked:
    return Asked(host, kind="dataoorts", **options)


def test_conversations_go_where_answers_have_finish_reasons(host: Scripted) -> None:
    host.answer(stream(*scripted.chat_stream(reason="length")))
    events = ask(cloud(host), request(stream=True))
    assert events[-2:] == [Finished(0, "length"), Completed(Usage(7, 3))]
    assert host.seen[0].path == CHAT
    fields = host.seen[0].fields
    # What the caller leaves to the service is left to it.
    assert set(fields) == {"model", "messages", "stream", "stream_options"}


def test_the_models_own_limit_is_asked_for_where_the_service_would_cut_early(
    host: Scripted,
) -> None:
    host.answer(whole(scripted.chat_answer()))
    ask(cloud(host, max_output=4096), request())
    assert host.seen[0].fields["max_tokens"] == 4096
    host.answer(whole(scripted.native_answer()))
    ask(cloud(host, max_output=4096), request(prompts=("Hi",)))
    assert host.seen[1].fields["max_tokens"] == 4096


def test_prompts_and_what_only_the_native_endpoint_knows_go_there(host: Scripted) -> None:
    host.answer(stream(*scripted.native_stream()))
    for wanted in (request(prompts=("Hi",), stream=True), request(stream=True, **NATIVE)):
        assert ask(cloud(host), wanted) == [
            Started("ours/model", "Up", ""),
            TextDelta(0, "Hel"),
            TextDelta(0, "lo"),
            TextDelta(0, " there!"),
            Finished(0, "stop"),
            Completed(Usage(7, 3)),
        ]
    first, second = host.seen
    assert first.path == second.path == RUN
    assert first.fields == {"prompt": "Hi", "raw": True, "stream": True}
    messages = [{"role": "user", "content": "Hi"}]
    assert second.fields == {"messages": messages, "stream": True, "top_k": 5}


@pytest.mark.parametrize("max_tokens", [3, 4, None])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_native_answer_that_has_all_its_tokens_was_cut(
    host: Scripted, max_tokens: int | None, streamed: bool
) -> None:
    host.answer(stream(*scripted.native_stream()) if streamed else whole(scripted.native_answer()))
    sampling = SamplingParams(max_tokens=max_tokens)
    events = ask(cloud(host), request(prompts=("Hi",), sampling=sampling, stream=streamed))
    assert Finished(0, "length" if max_tokens == 3 else "stop") in events
    assert host.seen[0].fields.get("max_tokens") == max_tokens


def test_native_calls_become_events(host: Scripted) -> None:
    wanted = request(stream=True, tools=(Tool("f", parameters={"type": "object"}),), **NATIVE)
    host.answer(stream(*scripted.native_call_stream("f", ['{"a', '": 1}'])))
    assert ask(cloud(host), wanted)[1:] == [
        ToolCallDelta(0, 0, "", "call_1", "f"),
        ToolCallDelta(0, 0, '{"a'),
        ToolCallDelta(0, 0, '": 1}'),
        Finished(0, "tool_calls"),
        Completed(Usage(7, 3)),
    ]
    host.answer(whole(scripted.native_answer(calls=[scripted.tool_call("f", '{"a": 1}')])))
    events = ask(cloud(host), request(tools=wanted.tools, **NATIVE))
    assert events[1] == ToolCallDelta(0, 0, '{"a": 1}', "call_1", "f")


@pytest.mark.parametrize("fields", [{}, NATIVE], ids=["chat", "native"])
def test_schemas_go_with_whole_answers(host: Scripted, fields: dict[str, Any]) -> None:
    is_native = bool(fields)
    answer = scripted.native_answer({"a": 1}) if is_native else scripted.chat_answer('{"a":1}')
    host.answer(whole(answer))
    wanted = request(stream=True, grammar=SCHEMA, **fields)
    text = ask(cloud(host), wanted)[1]
    assert isinstance(text, TextDelta)
    assert json.loads(text.text) == {"a": 1}
    assert "stream" not in host.seen[0].fields
    assert host.seen[0].fields["response_format"]["type"] == "json_object"


@pytest.mark.parametrize("kind", ["workers-ai", "dataoorts"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": SamplingParams(n=2)}, "n"),
        ({"sampling": SamplingParams(logprobs=1)}, "logprobs"),
        ({"sampling": SamplingParams(logit_bias={1: 2.0})}, "logit_bias"),
        ({"sampling": SamplingParams(min_p=0.1)}, "min_p"),
        ({"sampling": SamplingParams(top_k=51)}, "top_k"),
        ({"sampling": SamplingParams(seed=0)}, "seed"),
        ({"sampling": SamplingParams(presence_penalty=-1)}, "presence_penalty"),
        ({"prompts": ("a", "b")}, "prompt"),
        ({"prompts": ((1, 2),)}, "prompt"),
        ({"grammar": Grammar("regex", "a+", "structured_outputs")}, "structured_outputs"),
        ({"messages": (Message("user", (ImagePart(b"", "auto", "http://x"),)),)}, "messages"),
    ],
)
def test_what_the_service_does_not_take_is_refused_by_name(
    host: Scripted, kind: Kind, fields: dict[str, Any], param: str
) -> None:
    refusal = Asked(host, kind=kind).can_carry(request(**fields))
    assert isinstance(refusal, UnsupportedParameter)
    assert (refusal.param or "").startswith(param)
    with pytest.raises(UnsupportedParameter) as caught:
        ask(Asked(host, kind=kind), request(**fields))
    assert not (host.seen or caught.value.was_sent)


def test_rejecting_when_busy_is_the_services_own(host: Scripted) -> None:
    host.answer(whole(scripted.chat_answer()))
    ask(cloud(host), request(reject_if_busy=True))
    assert host.seen[0].fields["options"] == {"rejectIfBusy": True}
    refusal = hosted(host).can_carry(request(reject_if_busy=True))
    assert refusal is not None
    assert refusal.param == "options.rejectIfBusy"


def test_dataoorts_answers_whole(host: Scripted) -> None:
    host.answer(whole(scripted.native_answer("Hello")))
    picture = Message("user", (TextPart("What?"), ImagePart(b"\x89PNG\r\n\x1a\n")))
    sampling = SamplingParams(max_tokens=3)
    wanted = request(messages=(picture,), sampling=sampling, stream=True)
    assert ask(hosted(host), wanted) == [
        Started("ours/model", "Up", ""),
        TextDelta(0, "Hello"),
        Finished(0, "length"),
        Completed(Usage(7, 3)),
    ]
    (seen,) = host.seen
    assert seen.path == "/v1"
    assert seen.fields["model"] == "vendor/model-up"
    assert set(seen.fields["data"]) == {"messages", "max_tokens"}


@pytest.mark.parametrize("kind", ["workers-ai", "dataoorts"])
@pytest.mark.parametrize("fields", [{}, {"prompts": ("Hi",)}], ids=["chat", "prompt"])
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, scripted.native_error(5006, "Bad input: Error: no"), InvalidRequest),
        (400, scripted.native_error(3030, "Sequence too long: 9 > 8"), ContextLengthExceeded),
        (401, scripted.native_error(10000, "Authentication error"), ProviderDenied),
        (403, scripted.native_error(5018, "private"), ProviderDenied),
        (408, scripted.native_error(3046, "Request timeout"), ProviderTimeout),
        (429, scripted.native_error(3040, "Capacity temporarily exceeded"), ProviderRateLimited),
        (500, scripted.native_error(5000, "it broke"), ProviderError),
        (200, scripted.native_error(5000, "it broke"), ProviderError),
        (200, {"result": {}, "success": True}, ProviderError),
        (200, {"result": {"choices": [{"message": {"content": "a"}}]}}, ProviderError),
        (200, b"<html>", ProviderError),
    ],
)
def test_errors_are_typed(
    host: Scripted,
    kind: Kind,
    fields: dict[str, Any],
    status: int,
    body: object,
    error: type[OutriderError],
) -> None:
    host.answer(whole(body, status))
    with pytest.raises(OutriderError) as caught:
        ask(Asked(host, kind=kind), request(**fields))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (scripted.native_stream()[:-1], "ended early"),
        (scripted.native_stream(usage={"prompt_tokens": -1}), "counts"),
        ([scripted.event(scripted.native_error(5000, "it broke"))], "it broke"),
        ([scripted.chunk({"content": "text"}), scripted.DONE], "stands in choices"),
        ([b"data: nonsense\n\n"], "isn't one of Workers AI"),
    ],
)
def test_a_native_stream_that_is_none_fails(host: Scripted, steps: list[bytes], words: str) -> None:
    host.answer(stream(*steps))
    with pytest.raises(ProviderError, match=words):
        ask(cloud(host), request(prompts=("Hi",), stream=True))
