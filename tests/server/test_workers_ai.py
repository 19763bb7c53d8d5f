"""Workers AI's routes over real sockets: inference, catalogue, schemas, token check, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from outrider.dialects.cloudflare_schema import page_files, text_schema
from outrider.errors import EngineOverloaded
from outrider.types import (
    Completed,
    Finished,
    GenerationRequest,
    Started,
    ToolCallDelta,
    Usage,
)
from server.scripted import MODEL, Running, ScriptedProvider, Step, payloads, serving
from server.test_embeddings import ScriptedEmbeddings

ACCOUNT = "/client/v4/accounts/0123456789abcdef0123456789abcdef/ai"
RUN = f"{ACCOUNT}/run/{MODEL}"
CHAT = f"{ACCOUNT}/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "f", "description": "g", "parameters": {"type": "object", "properties": {}}}


def call(request: GenerationRequest) -> Iterator[Step]:
    yield Started(MODEL)
    yield ToolCallDelta(0, 0, '{"a":1}', "call_1", "f")
    yield Finished(0, "tool_calls")
    yield Completed(Usage(7, 2))


@pytest.mark.parametrize("name", ["alias", MODEL])
def test_answers_have_the_envelope_and_the_headers(name: str, server: Running) -> None:
    reply = server.ask("POST", f"{ACCOUNT}/run/{name}", {"messages": HELLO})
    assert reply.status == 200
    assert reply.json()["result"]["response"] == "Hello"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cf-ray"].endswith("-LOCAL")
    assert reply.headers["cf-ai-req-id"] == reply.headers["x-request-id"]


def test_the_models_name_may_be_percent_encoded_and_queries_are_ignored(server: Running) -> None:
    wrong = quote("@cf/meta/llama-4-scout-17b-16e-instruct", safe="@")
    for path in (wrong, wrong.replace("%2F", "/")):
        reply = server.ask("POST", f"{ACCOUNT}/run/{path}?top=1", {"prompt": "a"})
        assert reply.json()["errors"][0]["code"] == 5007
        assert "@cf/meta/llama-4-scout" in reply.json()["errors"][0]["message"]
    assert server.ask("POST", f"{RUN}?tags=1&x=y", {"prompt": "a"}).status == 200


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("nested", {"id": "call_1", "type": "function"}),
        ("flat", {"name": "f", "arguments": {"a": 1}}),
    ],
)
def test_calls_of_tools_have_the_form_of_the_setting(form: str, wanted: dict[str, object]) -> None:
    body = {"messages": HELLO, "tools": [TOOL]}
    with serving(ScriptedProvider(call), workers_ai_tool_calls=form) as server:
        result = server.ask("POST", RUN, body).json()["result"]
        assert wanted.items() <= result["tool_calls"][0].items()
        stream = server.ask("POST", RUN, {**body, "stream": True}).body
    assert payloads(stream)[-1] == b"[DONE]"
    assert wanted.items() <= json.loads(payloads(stream)[0])["tool_calls"][0].items()


def test_a_form_gives_the_value_itself(server: Running, provider: ScriptedProvider) -> None:
    body = {"messages": HELLO, "response_format": {"type": "json_object"}}
    reply = server.ask("POST", RUN, body)  # the script says Hello, whatever the form
    assert (reply.status, reply.json()["errors"][0]["code"]) == (400, 5024)
    assert provider.requests[-1].grammar is not None


def test_openais_form_has_the_services_headers_and_errors(
    server: Running, provider: ScriptedProvider
) -> None:
    reply = server.ask("POST", CHAT, {"model": MODEL, "messages": HELLO, "zeta": 1})
    assert reply.json()["choices"][0]["message"]["content"] == "Hello"
    assert reply.headers["cf-ai-req-id"] == reply.headers["x-request-id"]
    assert reply.headers["x-outrider-ignored"] == "zeta"
    stream = server.ask("POST", CHAT, {"model": MODEL, "messages": HELLO, "stream": True}).body
    assert payloads(stream)[-1] == b"[DONE]"
    wrong = server.ask("POST", CHAT, {"model": "gpt-5", "messages": HELLO})
    assert (wrong.status, wrong.json()["error"]["code"]) == (400, "model_not_found")
    provider.script = lambda request: [EngineOverloaded("full")]
    assert server.ask("POST", CHAT, {"model": MODEL, "messages": HELLO}).status == 429


def test_models_are_listed_until_a_page_is_empty() -> None:
    with serving(ScriptedProvider(), ScriptedEmbeddings()) as server:
        pages = [
            server.ask("GET", f"{ACCOUNT}/models/search?per_page=1&page={page}").json()
            for page in (1, 2, 3)
        ]
    names = [[row["name"] for row in page["result"]] for page in pages]
    assert names == [[MODEL], [ScriptedEmbeddings.name], []]
    assert all(page["success"] and page["result_info"]["total_count"] == 2 for page in pages)


def test_schemas_are_those_of_the_codec() -> None:
    with serving(ScriptedProvider(), ScriptedEmbeddings()) as server:
        reply = server.ask("GET", f"{ACCOUNT}/models/schema?model={MODEL}")
        assert reply.json()["result"] == text_schema()
        reply = server.ask("GET", f"{ACCOUNT}/models/schema?model={ScriptedEmbeddings.name}")
        assert "text" in reply.json()["result"]["input"]["properties"]
        reply = server.ask("GET", f"{ACCOUNT}/models/schema?model=gpt-5")
        assert (reply.status, reply.json()["errors"][0]["code"]) == (400, 5007)
        for name, schema in page_files().items():
            reply = server.ask("GET", f"/workers-ai/models/{MODEL}/{name}")
            assert (reply.status, reply.json()) == (200, schema)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{ACCOUNT}/models/search?page=0", 400, 7001),
        (f"{ACCOUNT}/models/search?format=openrouter", 400, 7001),
        (f"{ACCOUNT}/models/nothing", 400, 7000),
        ("/client/v4/user/tokens/verify", 401, 10000),
        (f"/workers-ai/models/{MODEL}/nothing.json", 400, 7000),
        ("/workers-ai/models/gpt-5/sync-input.json", 400, 7000),
    ],
)
def test_the_edges_errors_have_no_result(
    path: str, status: int, code: int, server: Running
) -> None:
    reply = server.ask("GET", path)
    assert reply.status == status
    assert list(reply.json()) == ["success", "errors", "messages", "result"]
    assert (reply.json()["errors"][0]["code"], reply.json()["result"]) == (code, None)
    assert "cf-ray" in reply.headers
    assert "cf-ai-req-id" not in reply.headers


def test_any_token_is_active(server: Running) -> None:
    path = "/client/v4/user/tokens/verify"
    reply = server.ask("GET", path, authorization="Bearer secret")
    assert (reply.status, reply.json()["result"]["status"]) == (200, "active")
    assert "secret" not in reply.body.decode()


def test_a_body_is_missing_or_there(server: Running) -> None:
    reply = server.ask("POST", RUN)
    assert (reply.status, reply.json()["errors"][0]["code"]) == (400, 3003)
