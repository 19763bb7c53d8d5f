"""`cloudflare`, Cloudflare's Python client, on the native run endpoint.

Its typed answers are those of the newest models; what Scout answers is read as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cloudflare
import pytest
from material import (
    ACCOUNT,
    CITIES,
    LOOK,
    NAMED,
    QUESTION,
    SCHEMA,
    TEXTS,
    WEATHER,
    WEATHER_PARAMETERS,
    WEATHER_RESULT,
    check_colour,
    check_vectors,
    user,
)

from conftest import CF_CHAT, CF_EMBEDDINGS, PATIENCE_S, Server, wait_for


def connect(server: Server) -> cloudflare.Cloudflare:
    return cloudflare.Cloudflare(
        base_url=f"{server.url}/client/v4", api_token="token", max_retries=0, timeout=PATIENCE_S
    )


@pytest.fixture(scope="module")
def client(words: Server) -> Iterator[cloudflare.Cloudflare]:
    with connect(words) as it:
        yield it


def run(client: cloudflare.Cloudflare, model: str = CF_CHAT, **fields: Any) -> dict[str, Any]:
    """Run a model; gives `result` as it is on the wire."""
    answer = client.ai.with_raw_response.run(
        model, account_id=ACCOUNT, prompt=fields.pop("prompt", None) or cloudflare.omit,
        extra_body=fields,
    )  # fmt: skip
    return answer.json()["result"]


def test_models_are_listed_to_the_end(client: cloudflare.Cloudflare, words: Server) -> None:
    models = list(client.ai.models.list(account_id=ACCOUNT))
    assert {words.model, words.embedding_model} <= {model["name"] for model in models}
    schema = client.ai.models.schema.get(account_id=ACCOUNT, model=CF_CHAT)
    assert schema.input and schema.output


def test_a_chat_is_answered(client: cloudflare.Cloudflare) -> None:
    answer = client.ai.run(CF_CHAT, account_id=ACCOUNT, messages=user("Name a river."))
    assert answer["response"] if isinstance(answer, dict) else answer.response
    raw = run(client, prompt="Rivers flow", raw=True, max_tokens=8)
    assert raw["response"]
    assert raw["usage"]["completion_tokens"] <= 8


def test_a_chat_is_streamed(client: cloudflare.Cloudflare) -> None:
    question = {"messages": user("Name a river."), "temperature": 0, "max_tokens": 16}
    whole = run(client, **question)
    with client.ai.with_streaming_response.run(
        CF_CHAT, account_id=ACCOUNT, messages=question.pop("messages"),
        extra_body={**question, "stream": True},
    ) as answer:  # fmt: skip
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(chunk.get("response") or "" for chunk in chunks) == whole["response"]
    usage = chunks[-1]["usage"]
    assert usage["completion_tokens"] == whole["usage"]["completion_tokens"]


@pytest.mark.parametrize("form", ["flat", "wrapped"])
def test_a_tool_is_called_and_its_result_answered(client: cloudflare.Cloudflare, form: str) -> None:
    flat = {"name": "get_weather", "description": "d", "parameters": WEATHER_PARAMETERS}
    tools = [flat if form == "flat" else WEATHER]
    asked = user(QUESTION)
    (call,) = run(client, messages=asked, tools=tools, tool_choice=NAMED)["tool_calls"]
    assert json.loads(call["function"]["arguments"])["city"] in CITIES
    turns = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": WEATHER_RESULT},
    ]
    answer = run(client, messages=asked + turns, tools=tools, tool_choice="none", max_tokens=16)
    assert answer["response"]


@pytest.mark.parametrize("field", ["guided_json", "bare", "wrapped"])
def test_an_answer_keeps_to_a_schema(client: cloudflare.Cloudflare, field: str) -> None:
    wrapped = {"name": "colour", "schema": SCHEMA}
    fields: Any = {
        "guided_json": {"guided_json": SCHEMA},
        "bare": {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        "wrapped": {"response_format": {"type": "json_schema", "json_schema": wrapped}},
    }[field]
    response = run(client, messages=user("Which colour is fire?"), **fields)["response"]
    check_colour(response)


def test_an_image_is_seen(eyes: Server) -> None:
    with connect(eyes) as client:
        seen = run(client, messages=LOOK, max_tokens=4)
        text_only = run(client, messages=user("What is this?"), max_tokens=4)
    assert seen["usage"]["prompt_tokens"] > text_only["usage"]["prompt_tokens"] + 4


def test_texts_become_vectors(client: cloudflare.Cloudflare) -> None:
    answer = client.ai.run(CF_EMBEDDINGS, account_id=ACCOUNT, text=TEXTS)
    check_vectors(answer["data"] if isinstance(answer, dict) else answer.data)


def test_a_batch_is_queued(client: cloudflare.Cloudflare) -> None:
    def queue(**fields: Any) -> dict[str, Any]:
        answer = client.ai.with_raw_response.run(
            CF_CHAT,
            account_id=ACCOUNT,
            prompt=cloudflare.omit,
            extra_body=fields,
            extra_query={"queueRequest": "true"},
        )
        return answer.json()["result"]

    river = {"prompt": "Name a river.", "max_tokens": 8, "external_reference": "river"}
    lake = {"messages": user("Name a lake."), "max_tokens": 8}
    queued = queue(requests=[river, lake])
    assert queued["status"] == "queued"
    done = wait_for(lambda: queue(request_id=queued["request_id"]), lambda it: "responses" in it)
    responses = done["responses"]
    assert [response["id"] for response in responses] == [0, 1]
    assert [response["external_reference"] for response in responses] == ["river", None]
    assert all(response["success"] and response["result"]["response"] for response in responses)
    assert done["usage"]["completion_tokens"] <= 16
    with pytest.raises(cloudflare.BadRequestError) as bad:
        queue(requests=[river, {"prompt": "Hi", "temperature": 6}])
    assert "requests[1]" in bad.value.errors[0].message


def test_errors_are_told_apart(client: cloudflare.Cloudflare) -> None:
    with pytest.raises(cloudflare.BadRequestError) as missing:
        client.ai.run("@cf/no/such-model", account_id=ACCOUNT, prompt="Hi")
    assert [error.code for error in missing.value.errors] == [5007]
    with pytest.raises(cloudflare.BadRequestError) as bad:
        run(client, prompt="Hi", temperature=6)
    assert [error.code for error in bad.value.errors] == [5006]
    assert "/temperature" in bad.value.errors[0].message


def test_the_token_is_verified(client: cloudflare.Cloudflare) -> None:
    assert client.user.tokens.verify().status == "active"
