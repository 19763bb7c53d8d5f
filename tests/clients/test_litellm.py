"""`litellm`, on the three wires that it knows by name."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices

import litellm
from material import (
    ACCOUNT,
    BATCH_LINES,
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

from conftest import CF_CHAT, PATIENCE_S, Server, wait_for

PATHS = {
    "openai": "/v1",
    "openrouter": "/api/v1",
    "cloudflare": f"/client/v4/accounts/{ACCOUNT}/ai/v1",
}


@dataclass(frozen=True)
class Client:
    """One provider of litellm's, at one server."""

    provider: str
    server: Server

    @property
    def options(self) -> dict[str, Any]:
        name = CF_CHAT if self.provider == "cloudflare" else self.server.model
        return {
            "model": f"{self.provider}/{name}",
            "api_base": self.server.url + PATHS[self.provider],
            "api_key": "key",
            "timeout": PATIENCE_S,
            "num_retries": 0,
            "max_retries": 0,
        }

    def ask(self, messages: Any, **fields: Any) -> Any:
        return litellm.completion(messages=messages, **self.options, **fields)


@pytest.fixture(scope="module", params=PATHS)
def client(request: pytest.FixtureRequest, words: Server) -> Client:
    return Client(request.param, words)


def test_models_are_listed(words: Server) -> None:
    models = litellm.get_valid_models(
        check_provider_endpoint=True,
        custom_llm_provider="openai",
        api_key="key",
        api_base=f"{words.url}",
    )
    assert any(words.model in model for model in models)


def test_a_chat_is_answered(client: Client) -> None:
    answer = client.ask(user("Name a river."), max_tokens=16, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens <= 16


def test_a_chat_is_streamed(client: Client) -> None:
    whole = client.ask(user("Name a river."), max_tokens=16, temperature=0)
    chunks = list(
        client.ask(
            user("Name a river."),
            max_tokens=16,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    joined = litellm.stream_chunk_builder(chunks)
    assert joined.choices[0].message.content == whole.choices[0].message.content
    assert joined.usage.completion_tokens == whole.usage.completion_tokens


def test_a_tool_is_called_and_its_result_answered(client: Client) -> None:
    asked = user(QUESTION)
    message = client.ask(asked, tools=[WEATHER], tool_choice=NAMED).choices[0].message
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments)["city"] in CITIES
    result = {"role": "tool", "tool_call_id": call.id, "content": WEATHER_RESULT}
    answer = client.ask(
        [*asked, message, result], tools=[WEATHER], tool_choice="none", max_tokens=16
    )
    assert answer.choices[0].message.content


def test_an_answer_keeps_to_a_schema(client: Client) -> None:
    answer = client.ask(user("Which colour is fire?"), response_format=FORMAT)
    check_colour(json.loads(answer.choices[0].message.content))


@pytest.mark.parametrize("provider", PATHS)
def test_an_image_is_seen(eyes: Server, provider: str) -> None:
    client = Client(provider, eyes)
    seen = client.ask(LOOK, max_tokens=4)
    text_only = client.ask(user("What is this?"), max_tokens=4)
    assert seen.usage.prompt_tokens > text_only.usage.prompt_tokens + 4


@pytest.mark.parametrize("provider", ["openai", "openrouter"])
def test_texts_become_vectors(words: Server, provider: str) -> None:
    answer = litellm.embedding(
        model=f"{provider}/{words.embedding_model}",
        input=TEXTS,
        api_base=words.url + PATHS[provider],
        api_key="key",
        encoding_format="float",
    )
    check_vectors([item["embedding"] for item in answer.data])


def test_a_batch_of_a_file_runs(words: Server) -> None:
    options: Any = {
        "custom_llm_provider": "openai",
        "api_base": words.url + PATHS["openai"],
        "api_key": "key",
    }
    lines = "".join(json.dumps(line) + "\n" for line in BATCH_LINES)
    file = litellm.create_file(file=("l.jsonl", lines.encode()), purpose="batch", **options)
    batch = litellm.create_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, **options
    )
    done = wait_for(
        lambda: litellm.retrieve_batch(batch.id, **options), lambda it: it.status == "completed"
    )
    answer = json.loads(litellm.file_content(done.output_file_id, **options).text)
    assert answer["custom_id"] == "good"


def test_errors_are_told_apart(client: Client) -> None:
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        client.ask(user("Hi"), temperature=7)
    unknown = client.options | {"model": f"{client.provider}/no-such-model"}
    with pytest.raises((litellm.NotFoundError, litellm.BadRequestError), match="no-such-model"):
        litellm.completion(messages=user("Hi"), **unknown)
