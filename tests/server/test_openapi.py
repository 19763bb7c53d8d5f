"""The OpenAPI document: valid, complete, and true to what the codecs take."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from dialects.strategies import requests
from outrider.batch_types import Batch, LineError, StoredFile
from outrider.config import ServerConfig
from outrider.dialects import (
    cloudflare_batch,
    openai,
    openai_batches,
    openai_files,
    openai_wire,
    openrouter,
    openrouter_request,
)
from outrider.dialects.base import Dialect, Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import InvalidRequest
from outrider.gateway.catalogue import Catalogue
from outrider.server.access import need_of
from outrider.server.app import build_app
from outrider.server.health import Health, ModelHealth
from outrider.server.openapi_operations import openapi_json
from outrider.types import GenerationRequest, SamplingParams, Usage

DOCUMENT: Any = json.loads(openapi_json())
SCHEMAS: Any = DOCUMENT["components"]["schemas"]
ENVELOPE = Envelope(request_id="r")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": "m", "prompt": "Hi"}
RUN = "/client/v4/accounts/{account_id}/ai/run/{model}"
PATHS: dict[str, tuple[Dialect, Any]] = {
    "/v1/chat/completions": (openai.CHAT_COMPLETIONS, CHAT),
    "/v1/completions": (openai.COMPLETIONS, TEXT),
    "/api/v1/chat/completions": (openrouter.CHAT_COMPLETIONS, CHAT),
    "/api/v1/completions": (openrouter.COMPLETIONS, TEXT),
}


def body_schema(path: str) -> Any:
    return DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def fields(path: str) -> dict[str, Any]:
    return SCHEMAS[body_schema(path)["$ref"].rpartition("/")[2]]["properties"]


def test_the_document_is_valid_openapi() -> None:
    errors = list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())
    assert not errors, errors[0]


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    served = set()
    for route in build_app(ServerConfig(), Catalogue([])).routes:
        assert isinstance(route, Route)
        if not route.include_in_schema:  # files of the web page
            continue
        path = re.sub(r":\w+\}", "}", route.path)
        served |= {(path, method.lower()) for method in (route.methods or set()) - {"HEAD"}}
    listed = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert listed == served


def test_every_operation_has_a_name_of_its_own_and_an_error() -> None:
    operations = [one for item in DOCUMENT["paths"].values() for one in item.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["responses"].keys() & {"200", "201", "202"}
        assert any(status >= "400" for status in one["responses"]), one["operationId"]


@settings(deadline=None)
@given(requests(is_chat=True))
def test_bodies_of_chats_match_their_schema(request: GenerationRequest) -> None:
    body = json.loads(openai.CHAT_COMPLETIONS.encode_request(request))
    validator(body_schema("/v1/chat/completions")).validate(body)


@settings(deadline=None)
@given(requests(is_chat=False))
def test_bodies_of_completions_match_their_schema(request: GenerationRequest) -> None:
    body = json.loads(openai.COMPLETIONS.encode_request(request))
    validator(body_schema("/v1/completions")).validate(body)


@pytest.mark.parametrize("path", PATHS)
def test_fields_are_those_of_the_codec(path: str) -> None:
    assert (
        fields(path).keys()
        == {
            "/v1/chat/completions": set(openai_wire.ChatBody.__struct_fields__),
            "/v1/completions": set(openai_wire.CompletionBody.__struct_fields__),
            "/api/v1/chat/completions": set(openrouter_request.CHAT_FIELDS),
            "/api/v1/completions": set(openrouter_request.COMPLETION_FIELDS),
        }[path]
    )


def answer_schema(method: str, path: str, status: str = "200") -> Any:
    content = DOCUMENT["paths"][path][method]["responses"][status]["content"]
    return content["application/json"]["schema"]


def test_answers_about_files_and_batches_match_their_schema() -> None:
    file = StoredFile(
        id="file-1", owner="", purpose="batch", filename="in.jsonl", num_bytes=5, created_s=1
    )
    batch = Batch(
        id="batch_1",
        owner="",
        wire="openai",
        endpoint="/v1/completions",
        input_file_id="file-1",
        status="failed",
        created_s=1,
        deadline_s=9,
        keep_results_s=9,
        errors=(LineError("invalid_url", "no", 1, "url"),),
    )
    for method, path, body in (
        ("post", "/v1/files", openai_files.encode_file(file)),
        ("get", "/v1/files", openai_files.encode_files([file], True)),
        ("get", "/v1/files", openai_files.encode_files([], False)),
        ("delete", "/v1/files/{file_id}", openai_files.encode_deleted("file-1")),
        ("get", "/v1/batches/{batch_id}", openai_batches.encode_batch(batch)),
        ("get", "/v1/batches", openai_batches.encode_batches([batch], False)),
    ):
        schema = answer_schema(method, path)
        validator(schema).validate(json.loads(body))
        assert not validator(schema).is_valid({})


def test_the_queue_of_workers_ai_matches_its_schema() -> None:
    requests = cloudflare_batch.Queued(({"prompt": "Hi"}, {"text": ["a"]}), ("mine", None))
    inputs = validator(body_schema(RUN))
    inputs.validate(json.loads(cloudflare_batch.encode_queued(requests)))
    inputs.validate(json.loads(cloudflare_batch.encode_poll(cloudflare_batch.Poll("r"))))
    for body in ({}, {"requests": []}, {"requests": [{"mood": 1}]}, {"request_id": 7}):
        assert not inputs.is_valid(body)
    head, tail = cloudflare_batch.encode_complete(Usage(3, 4, 1))
    good = b'{"result":{"response":"Hi"},"success":true,"errors":[],"messages":[]}'
    _, bad = WorkersAi().encode_error(InvalidRequest("no", "prompt"), "r")
    parts = [
        cloudflare_batch.encode_response(0, "mine", good),
        cloudflare_batch.encode_response(1, None, bad),
    ]
    outputs = validator(answer_schema("post", RUN))
    for answer in (
        cloudflare_batch.encode_accepted("r", "m"),
        cloudflare_batch.encode_pending("r", "running"),
        head + b",".join(parts) + tail,
    ):
        outputs.validate(json.loads(answer))
    (query,) = (p for p in DOCUMENT["paths"][RUN]["post"]["parameters"] if p["in"] == "query")
    assert (query["name"], query["schema"]["type"]) == ("queueRequest", "boolean")


@pytest.mark.parametrize("status", ["200", "503"])
def test_what_healthz_says_matches_its_schema(status: str) -> None:
    schema = validator(answer_schema("get", "/healthz", status))
    for one in (ModelHealth(ready=True), ModelHealth(ready=False, pid=None, restarts=1)):
        schema.validate(msgspec.to_builtins(Health("unavailable", {"m": one})))
    assert not schema.is_valid({"status": "fine", "models": {}})


def ranges() -> list[Any]:
    rows = []
    for path in PATHS:
        for name, schema in fields(path).items():
            kinds = schema.get("anyOf", [schema])
            rows += [
                pytest.param(path, name, kind, id=f"{path} {name}")
                for kind in kinds
                if kind.keys() & {"minimum", "maximum", "exclusiveMinimum"}
            ]
    return rows


@pytest.mark.parametrize(("path", "name", "kind"), ranges())
def test_a_range_of_the_document_is_that_of_the_codec(path: str, name: str, kind: Any) -> None:
    wire, body = PATHS[path]
    extra = {"logprobs": True} if name == "top_logprobs" else {}

    def send(value: float) -> None:
        wire.decode_request(msgspec.json.encode({**body, **extra, name: value}), ENVELOPE)

    step = 1 if kind["type"] == "integer" else 0.001
    low, high = kind.get("minimum"), kind["maximum"]
    send(high)
    beyond = [high + step]
    if low is None:
        beyond.append(kind["exclusiveMinimum"])
    else:
        send(low)
        beyond.append(low - step)
    for value in beyond:
        with pytest.raises(InvalidRequest):
            send(value)


@settings(deadline=None)
@given(st.sampled_from(sorted(PATHS)), st.integers() | st.text() | st.lists(st.integers()))
def test_what_the_schema_of_a_field_refuses_the_codec_refuses(path: str, value: Any) -> None:
    wire, body = PATHS[path]
    for name in (*body, "temperature", "stop", "logit_bias", "n"):
        changed = {**body, name: value}
        if validator(body_schema(path)).is_valid(changed):
            continue
        with pytest.raises(InvalidRequest):
            wire.decode_request(msgspec.json.encode(changed), ENVELOPE)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions"])
def test_a_chat_says_what_counts_where_nothing_is_set(path: str) -> None:
    defaults = {
        n: f["x-outrider-default"] for n, f in fields(path).items() if "x-outrider-default" in f
    }
    assert defaults["temperature"] == SamplingParams().temperature
    assert defaults["min_p"] == 0
    assert "seed" not in defaults


def test_an_operation_says_whether_it_needs_a_key() -> None:
    for path, item in DOCUMENT["paths"].items():
        need = need_of(re.sub(r"\{\w+\}", "x", path))
        for one in item.values():
            assert ("401" in one["responses"]) == (need != "nothing"), path
            is_always = one.get("security") == [{"bearer": []}]
            assert is_always == (need == "managing"), path
