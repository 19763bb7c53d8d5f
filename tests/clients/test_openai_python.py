"""`openai`, OpenAI's Python client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

import openai
import pytest
from material import (
    BATCH_LINES,
    CITIES,
    LOOK,
    NAMED,
    QUESTION,
    TEXTS,
    WEATHER,
    WEATHER_RESULT,
    check_vectors,
    user,
)
from pydantic import BaseModel

from conftest import PATIENCE_S, Server, wait_for


class Colour(BaseModel):
    colour: Literal["red", "green", "blue"]
    is_warm: bool


@pytest.fixture(scope="module")
def client(words: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{words.url}/v1", api_key="key", max_retries=0, timeout=PATIENCE_S
    ) as it:
        yield it


def test_models_are_listed(client: openai.OpenAI, words: Server) -> None:
    assert {model.id for model in client.models.list()} == {words.model, words.embedding_model}


def test_a_chat_is_answered(client: openai.OpenAI, words: Server) -> None:
    answer = client.chat.completions.create(
        model=words.model, messages=user("Name a river."), max_completion_tokens=16, temperature=0
    )
    assert answer.choices[0].message.content
    assert answer.usage and answer.usage.completion_tokens <= 16


def test_a_chat_is_streamed(client: openai.OpenAI, words: Server) -> None:
    question = {"model": words.model, "messages": user("Name a river."), "temperature": 0}
    whole = client.chat.completions.create(**question, max_tokens=16)
    text, usage = "", None
    for chunk in client.chat.completions.create(
        **question, max_tokens=16, stream=True, stream_options={"include_usage": True}
    ):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == whole.choices[0].message.content
    assert usage == whole.usage.model_copy(
        update={"prompt_tokens_details": usage.prompt_tokens_details}
    )


def test_a_tool_is_called_and_its_result_answered(client: openai.OpenAI, words: Server) -> None:
    asked = user(QUESTION)
    message = (
        client.chat.completions.create(
            model=words.model, messages=asked, tools=[WEATHER], tool_choice=NAMED
        )
        .choices[0]
        .message
    )
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments)["city"] in CITIES
    result = {"role": "tool", "tool_call_id": call.id, "content": WEATHER_RESULT}
    answer = client.chat.completions.create(
        model=words.model,
        messages=[*asked, message, result],
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=16,
    )
    assert answer.choices[0].message.content


def test_an_answer_keeps_to_a_schema(client: openai.OpenAI, words: Server) -> None:
    answer = client.chat.completions.parse(
        model=words.model, messages=user("Which colour is fire?"), response_format=Colour
    )
    assert answer.choices[0].message.parsed


def test_an_image_is_seen(eyes: Server) -> None:
    with openai.OpenAI(base_url=f"{eyes.url}/v1", api_key="key", max_retries=0) as client:
        question = {"model": eyes.model, "max_tokens": 4}
        seen = client.chat.completions.create(messages=LOOK, **question)
        text_only = client.chat.completions.create(messages=user("What is this?"), **question)
    assert seen.usage.prompt_tokens > text_only.usage.prompt_tokens + 4


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_texts_become_vectors(client: openai.OpenAI, words: Server, encoding: str) -> None:
    if encoding == "base64":  # what the client asks for by itself, to decode it
        answer = client.embeddings.create(model=words.embedding_model, input=TEXTS)
    else:
        answer = client.embeddings.create(
            model=words.embedding_model, input=TEXTS, encoding_format="float"
        )
    check_vectors([item.embedding for item in answer.data])


def test_a_batch_of_a_file_runs(client: openai.OpenAI) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in BATCH_LINES)
    file = client.files.create(file=("lines.jsonl", lines.encode()), purpose="batch")
    assert file.id in [each.id for each in client.files.list(purpose="batch", limit=1)]
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"name": "rivers"},
    )
    done = wait_for(lambda: client.batches.retrieve(batch.id), lambda it: it.status == "completed")
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)
    assert batch.id in [each.id for each in client.batches.list(limit=1)]
    (answer,) = map(json.loads, client.files.content(done.output_file_id).iter_lines())
    assert answer["custom_id"] == "good"
    assert answer["response"]["body"]["choices"][0]["message"]["content"]
    (error,) = map(json.loads, client.files.content(done.error_file_id).text.splitlines())
    assert (error["custom_id"], error["response"]["status_code"]) == ("bad", 400)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        client.batches.cancel(batch.id)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_errors_are_told_apart(client: openai.OpenAI, words: Server) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=user("Hi"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=words.model, messages=user("Hi"), temperature=3)
    assert bad.value.param == "temperature"
