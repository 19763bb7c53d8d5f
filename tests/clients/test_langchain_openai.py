"""`langchain-openai`: chat model and embeddings."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from material import (
    LOOK,
    NUM_DIMENSIONS,
    QUESTION,
    SCHEMA,
    TEXTS,
    WEATHER_RESULT,
    check_colour,
    check_vectors,
)

from conftest import PATIENCE_S, Server


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    assert city is not None
    return WEATHER_RESULT


def chat(server: Server, **fields: Any) -> ChatOpenAI:
    common = {"base_url": f"{server.url}/v1", "api_key": "key", "max_retries": 0}
    return ChatOpenAI(model=server.model, timeout=PATIENCE_S, **common, **fields)


def test_a_chat_is_answered(words: Server) -> None:
    answer = chat(words, max_tokens=16, temperature=0).invoke("Name a river.")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] <= 16


def test_a_chat_is_streamed(words: Server) -> None:
    model = chat(words, max_tokens=16, temperature=0, stream_usage=True)
    whole = model.invoke("Name a river.")
    joined = None
    for chunk in model.stream("Name a river."):
        joined = chunk if joined is None else joined + chunk
    assert joined is not None
    assert joined.content == whole.content
    assert joined.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


def test_a_tool_is_called_and_its_result_answered(words: Server) -> None:
    model = chat(words, max_tokens=64, temperature=0)
    asked = [HumanMessage(QUESTION)]
    calling = model.bind_tools([get_weather], tool_choice="get_weather", strict=True)
    answer = calling.invoke(asked)
    (call,) = answer.tool_calls
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    final = model.bind_tools([get_weather], tool_choice="none").invoke([*asked, answer, result])
    assert final.content
    assert call["name"] == "get_weather" and isinstance(call["args"]["city"], str)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_keeps_to_a_schema(words: Server, method: Any) -> None:
    schema = {"title": "colour", "description": "A colour.", **SCHEMA}
    model = chat(words).with_structured_output(schema, method=method, strict=True)
    check_colour(model.invoke("Which colour is fire?"))


def test_an_image_is_seen(eyes: Server) -> None:
    model = chat(eyes, max_tokens=4)
    seen = model.invoke(LOOK)
    text_only = model.invoke("What is this?")
    assert seen.usage_metadata["input_tokens"] > text_only.usage_metadata["input_tokens"] + 4


def test_texts_become_vectors(words: Server) -> None:
    embeddings = OpenAIEmbeddings(
        model=words.embedding_model,
        base_url=f"{words.url}/v1",
        api_key="key",
        check_embedding_ctx_length=False,  # it would cut texts with OpenAI's tokenizer
    )
    check_vectors(embeddings.embed_documents(TEXTS))
    assert len(embeddings.embed_query(TEXTS[0])) == NUM_DIMENSIONS


def test_errors_are_told_apart(words: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat(words, temperature=3).invoke("Hi")
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        chat(words).bind(model="no-such-model").invoke("Hi")
