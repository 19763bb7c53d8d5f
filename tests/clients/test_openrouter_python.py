"""`openrouter`, OpenRouter's Python client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from material import (
    CITIES,
    FORMAT,
    LOOK,
    NAMED,
    QUESTION,
    TEXTS,
    WEATHER,
    WEATHER_RESULT,
    check_colour,
    check_vectors,
    user,
)
from openrouter import OpenRouter, errors

from conftest import PATIENCE_S, Server


def connect(server: Server) -> OpenRouter:
    return OpenRouter(
        api_key="key", server_url=f"{server.url}/api/v1", timeout_ms=PATIENCE_S * 1000
    )


@pytest.fixture(scope="module")
def client(words: Server) -> Iterator[OpenRouter]:
    with connect(words) as it:
        yield it


def test_models_are_listed(client: OpenRouter, words: Server) -> None:
    page = client.models.list()
    assert [model.id for model in page.result.data] == [words.model]
    assert page.next() is None
    (model,) = page.result.data
    assert model.context_length == 8192
    assert "tools" in model.supported_parameters


def test_a_chat_is_answered(client: OpenRouter, words: Server) -> None:
    answer = client.chat.send(
        model=words.model, messages=user("Name a river."), max_tokens=16, temperature=0
    )
    assert answer.choices[0].message.content
    assert answer.id.startswith("gen-")
    assert answer.usage and answer.usage.completion_tokens <= 16


def test_a_chat_is_streamed(client: OpenRouter, words: Server) -> None:
    question = {"model": words.model, "messages": user("Name a river."), "temperature": 0}
    whole = client.chat.send(**question, max_tokens=16)
    text, usages = "", []
    with client.chat.send(**question, max_tokens=16, stream=True) as stream:
        for event in stream:
            text += "".join(choice.delta.content or "" for choice in event.choices)
            usages += [event.usage] if event.usage else []
    assert text == whole.choices[0].message.content
    assert [usage.completion_tokens for usage in usages] == [whole.usage.completion_tokens]


def test_a_tool_is_called_and_its_result_answered(client: OpenRouter, words: Server) -> None:
    asked = user(QUESTION)
    message = (
        client.chat.send(model=words.model, messages=asked, tools=[WEATHER], tool_choice=NAMED)
        .choices[0]
        .message
    )
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments)["city"] in CITIES
    result = {"role": "tool", "tool_call_id": call.id, "content": WEATHER_RESULT}
    turns = [*asked, message.model_dump(by_alias=True, exclude_none=True), result]
    answer = client.chat.send(
        model=words.model, messages=turns, tools=[WEATHER], tool_choice="none", max_tokens=16
    )
    assert answer.choices[0].message.content


def test_an_answer_keeps_to_a_schema(client: OpenRouter, words: Server) -> None:
    answer = client.chat.send(
        model=words.model, messages=user("Which colour is fire?"), response_format=FORMAT
    )
    check_colour(json.loads(answer.choices[0].message.content))


def test_an_image_is_seen(eyes: Server) -> None:
    with connect(eyes) as client:
        seen = client.chat.send(model=eyes.model, messages=LOOK, max_tokens=4)
        text_only = client.chat.send(model=eyes.model, messages=user("What is this?"), max_tokens=4)
    assert seen.usage.prompt_tokens > text_only.usage.prompt_tokens + 4


def test_texts_become_vectors(client: OpenRouter, words: Server) -> None:
    answer = client.embeddings.generate(model=words.embedding_model, input=TEXTS)
    check_vectors([item.embedding for item in answer.data])
    assert answer.usage.cost == 0


def test_errors_are_told_apart(client: OpenRouter, words: Server) -> None:
    with pytest.raises(errors.BadRequestResponseError, match="not a valid model ID") as missing:
        client.chat.send(model="no/such-model", messages=user("Hi"))
    assert missing.value.data.error.code == 400
    with pytest.raises(errors.BadRequestResponseError, match="temperature"):
        client.chat.send(model=words.model, messages=user("Hi"), temperature=3)
    with pytest.raises(errors.NotFoundResponseError):
        client.models.get(author="no", slug="such-model")
