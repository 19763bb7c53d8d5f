"""The OpenAPI document: valid, complete, and true to what the codecs take."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from dialects.strategies import requests
from outrider.config import ServerConfig
from outrider.dialects import openai, openai_wire, openrouter, openrouter_request
from outrider.dialects.base import Dialect, Envelope
from outrider.errors import InvalidRequest
from outrider.gateway.catalogue import Catalogue
from outrider.server.app import build_app
from outrider.server.openapi_operations import openapi_json
from outrider.types import GenerationRequest

DOCUMENT: Any = json.loads(openapi_json())
SCHEMAS: Any = DOCUMENT["components"]["schemas"]
ENVELOPE = Envelope(request_id="r")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": "m", "prompt": "Hi"}
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
        path = re.sub(r":\w+\}", "}", route.path)
        served |= {(path, method.lower()) for method in (route.methods or set()) - {"HEAD"}}
    listed = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert listed == served


def test_every_operation_has_a_name_of_its_own_and_an_error() -> None:
    operations = [one for item in DOCUMENT["paths"].values() for one in item.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert "200" in one["responses"]
        assert any(status >= "400" for status in one["responses"]), one["operationId"]


@given(requests(is_chat=True))
def test_bodies_of_chats_match_their_schema(request: GenerationRequest) -> None:
    body = json.loads(openai.CHAT_COMPLETIONS.encode_request(request))
    validator(body_schema("/v1/chat/completions")).validate(body)


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


@given(st.sampled_from(sorted(PATHS)), st.integers() | st.text() | st.lists(st.integers()))
def test_what_the_schema_of_a_field_refuses_the_codec_refuses(path: str, value: Any) -> None:
    wire, body = PATHS[path]
    for name in (*body, "temperature", "stop", "logit_bias", "n"):
        changed = {**body, name: value}
        if validator(body_schema(path)).is_valid(changed):
            continue
        with pytest.raises(InvalidRequest):
            wire.decode_request(msgspec.json.encode(changed), ENVELOPE)
