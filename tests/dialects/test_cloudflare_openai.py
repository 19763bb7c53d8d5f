"""Workers AI's OpenAI-compatible endpoint: OpenAI's codec with other unknowns, errors, headers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.strategies import ERRORS, FORMS, ID, requests
from outrider.dialects import openai
from outrider.dialects.base import Decoded, Envelope
from outrider.dialects.cloudflare_openai import CHAT_COMPLETIONS as WIRE
from outrider.errors import (
    ContextLengthExceeded,
    EngineOverloaded,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
)
from outrider.types import GenerationRequest

ENVELOPE = Envelope(request_id=ID, cache_salt="s")
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def decode(body: dict[str, Any]) -> Decoded:
    return WIRE.decode_request(json.dumps(body).encode(), ENVELOPE)


@given(requests(is_chat=True, forms=FORMS), st.booleans())
def test_a_request_survives_the_wire(request: GenerationRequest, is_hasty: bool):
    import msgspec

    request = msgspec.structs.replace(request, reject_if_busy=is_hasty)
    decoded = WIRE.decode_request(WIRE.encode_request(request), ENVELOPE)
    assert (decoded.request, decoded.ignored) == (request, ())


def test_what_openai_does_not_know_is_ignored_and_named():
    extra = {"chat_template_kwargs": {}, "options": {"rejectIfBusy": True}}
    decoded = decode({**BODY, **extra})
    assert decoded.ignored == ("chat_template_kwargs",)
    assert decoded.request.reject_if_busy
    with pytest.raises(InvalidRequest) as caught:
        decode({**BODY, "options": {"rejectIfBusy": 5}})
    assert caught.value.param == "options.rejectIfBusy"


@pytest.mark.parametrize("errors", ERRORS, ids=lambda errors: errors.__class__.__name__)
@given(data=st.data())
def test_an_error_survives_the_wire(errors: st.SearchStrategy[OutriderError], data: st.DataObject):
    error = data.draw(errors)
    again = WIRE.decode_error(*WIRE.encode_error(error, ID))
    assert (type(again), again.message) == (type(error), error.message)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("no", "a"), 400),
        (ModelNotFound("no"), 400),
        (ContextLengthExceeded(9, 8, None), 400),
        (EngineOverloaded("no"), 429),
    ],
)
def test_errors_have_the_services_statuses_and_frame(error: OutriderError, status: int):
    got, body = WIRE.encode_error(error, ID)
    assert got == status
    wire = json.loads(body)["error"]
    assert wire["message"] == f"AiError: {error.message} ({ID})"
    assert wire["code"] == error.code


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error":{"message":5}}', b'{"error":"no"}'])
def test_an_error_of_another_kind_is_read_by_its_status(body: bytes):
    assert type(WIRE.decode_error(400, body)) is InvalidRequest


def test_the_refusal_of_the_live_service_is_read():
    body = {"error": {"code": "invalid_prompt", "message": f"AiError: AiError: too odd ({ID})"}}
    error = WIRE.decode_error(400, json.dumps(body).encode())
    assert (type(error), error.message) == (InvalidRequest, "too odd")


def test_answers_are_openais_with_the_services_headers():
    assert WIRE.choices is openai.CHAT_COMPLETIONS.choices
    assert set(WIRE.headers(ID, 5)) == {"cf-ray", "cf-ai-req-id"}


def test_a_bare_schema_is_read_as_on_the_native_endpoint():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    bare, wrapped = (
        decode(BODY | {"response_format": {"type": "json_schema", "json_schema": form}}).request
        for form in (schema, {"name": "place", "schema": schema})
    )
    assert bare.grammar is not None
    assert bare == wrapped
