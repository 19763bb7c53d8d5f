"""Tests of OpenAI's wire with OpenAI's own client, which knows nothing of this server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from outrider.errors import EngineFailed, EngineOverloaded
from outrider.types import (
    Completed,
    Finished,
    ImagePart,
    NamedTool,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    Usage,
)
from server.scripted import MODEL, PATIENCE_S, Running, ScriptedProvider

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="key", max_retries=0, timeout=PATIENCE_S
    ) as it:
        yield it


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "outrider"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


def test_a_chat_answer_is_read(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stop=["END"], seed=7, max_completion_tokens=9
    )
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    (request,) = provider.requests
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.sampling.stop == ("END",)
    assert (request.sampling.seed, request.sampling.max_tokens) == (7, 9)


def test_several_choices_with_logprobs_are_read(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=3, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.message.content == "Hello"
        assert choice.logprobs is not None
        entries = choice.logprobs.content or []
        assert [entry.token for entry in entries] == ["Hel", "lo"]
        assert [len(entry.top_logprobs) for entry in entries] == [2, 2]
        assert entries[0].bytes == list(b"Hel")


def test_a_stream_is_read_with_its_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = {0: "", 1: ""}
    reasons = {}
    for chunk in chunks[:-1]:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == {0: "Hello", 1: "Hello"}
    assert reasons == {0: "stop", 1: "stop"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


def test_text_completions_are_read(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    answer = client.completions.create(model=MODEL, prompt=["one", "two"], logprobs=1, n=2)
    assert [choice.text for choice in answer.choices] == ["Hello"] * 4
    assert answer.choices[3].logprobs is not None
    assert answer.choices[3].logprobs.tokens == ["Hel", "lo"]
    assert answer.choices[3].logprobs.text_offset == [0, 3]
    assert provider.requests[0].prompts == ("one", "two")
    stream = client.completions.create(model=MODEL, prompt=[1, 2, 3], stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Hello"
    assert provider.requests[1].prompts == ((1, 2, 3),)


def test_errors_become_the_clients_classes(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=3)
    assert bad.value.param == "temperature"
    provider.script = lambda request: [EngineOverloaded("full")]
    with pytest.raises(openai.InternalServerError) as full:
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert full.value.status_code == 503
    provider.script = lambda request: [Started(MODEL), TextDelta(0, "Hel"), EngineFailed("gone")]
    with pytest.raises(openai.APIError, match="gone"):
        list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))


def test_the_client_tries_again_after_an_overload(
    server: Running, provider: ScriptedProvider
) -> None:
    answers = provider.script
    provider.script = lambda request: (
        answers(request) if len(provider.requests) > 1 else [EngineOverloaded("full", 1)]
    )
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", max_retries=2) as client:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    assert len(provider.requests) == 2


def test_leaving_a_stream_closes_the_generator(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: [Started(MODEL), TextDelta(0, "Hel"), 30.0]
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    assert provider.closed.wait(0.5)


TOOL: Any = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}},
}
CALLS = [
    Started(MODEL),
    TextDelta(0, "Look: "),
    ToolCallDelta(0, 0, "", "call_1", "f"),
    ToolCallDelta(0, 0, '{"a":'),
    ToolCallDelta(0, 1, "{}", "call_2", "f"),
    ToolCallDelta(0, 0, " 1}"),
    Finished(0, "tool_calls"),
    Completed(Usage(7, 9)),
]


def test_tool_calls_are_read_whole_and_streamed(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: CALLS
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[TOOL])
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=[TOOL]) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    for choice in (whole.choices[0], streamed.choices[0]):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Look: "
        calls = choice.message.tool_calls or []
        assert [(call.id, call.function.arguments) for call in calls] == [  # type: ignore[union-attr]
            ("call_1", '{"a": 1}'),
            ("call_2", "{}"),
        ]


def test_a_conversation_with_tools_and_images_arrives(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    provider.script = lambda request: CALLS
    message = (
        client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[TOOL])
        .choices[0]
        .message
    )
    look: Any = {
        "role": "user",
        "content": [
            {"type": "text", "text": "See"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}},
        ],
    }
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    client.chat.completions.create(
        model=MODEL,
        messages=[look, message, result],  # type: ignore[list-item]
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
    )
    request = provider.requests[-1]
    parameters = {"type": "object", "properties": {"a": {}}}
    assert request.tools == (Tool("f", "", parameters),)
    assert (request.tool_choice, request.parallel_tool_calls) == (NamedTool("f"), False)
    assert request.messages[0].content == (TextPart("See"), ImagePart(b"\0\1\2"))
    assert [call.arguments for call in request.messages[1].tool_calls] == ['{"a": 1}', "{}"]
    assert request.messages[2].tool_call_id == "call_1"
