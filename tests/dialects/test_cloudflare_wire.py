"""Workers AI's errors: codes, envelopes, words, both ways; edge errors and headers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.cloudflare import WorkersAi, headers, no_route_error
from outrider.dialects.cloudflare_forms import NO_STREAM, UNMET
from outrider.dialects.cloudflare_messages import BAD_BASE64
from outrider.dialects.cloudflare_wire import NO_LORA, OVERLOADED
from outrider.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    PayloadTooLarge,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RequestTimeout,
    UnsupportedParameter,
)

WIRE = WorkersAi()
ID = "7c2f0c1e-90a4-4b1c-a7a6-1c7f3f4be6a9"

filled = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ERRORS: list[tuple[OutriderError, int, int, str]] = [
    (InvalidRequest("'/a' is b", "a"), 400, 5006, "Bad input: Error: '/a' is b"),
    (UnsupportedParameter("'/a' is b", "a"), 400, 5006, "Bad input: Error: '/a' is b"),
    (InvalidRequest("Incomplete request: a"), 400, 3003, "Incomplete request: a"),
    (InvalidRequest(f"{BAD_BASE64}: a"), 400, 5004, f"{BAD_BASE64}: a"),
    (UnsupportedParameter(f"{NO_LORA}; a", "lora"), 405, 5005, f"{NO_LORA}; a"),
    (InvalidRequest(NO_STREAM, "stream"), 400, 5023, NO_STREAM),
    (InvalidRequest(f"{UNMET}: a"), 400, 5024, f"{UNMET}: a"),
    (InvalidRequest("Invalid input: a"), 400, 8001, "Invalid input: a"),
    (ContextLengthExceeded(9003, 8192, None), 400, 3030, "Sequence too long: 9003 > 8192"),
    (ModelNotFound("no model 'a'"), 400, 5007, "No such model or task: no model 'a'"),
    (PayloadTooLarge("too large"), 413, 3006, "too large"),
    (RequestTimeout("too slow"), 408, 3007, "too slow"),
    (EngineOverloaded("queue full"), 429, 3040, OVERLOADED),
    (ProviderRateLimited("slow down", 7), 429, 3040, OVERLOADED),
    (ProviderUnavailable("all are down", 7), 429, 3040, OVERLOADED),
    (ProviderTimeout("too slow"), 408, 3046, "Request timeout"),
    (ProviderError("it broke off"), 500, 5000, "it broke off"),
    (ProviderDenied("no key"), 500, 5000, "no key"),
    (EngineFailed("it died"), 500, 5000, "it died"),
    (ConfigError("odd"), 500, 5000, "odd"),
]


@pytest.mark.parametrize(("error", "status", "code", "text"), ERRORS)
def test_errors_have_the_services_codes(error: OutriderError, status: int, code: int, text: str):
    got, body = WIRE.encode_error(error, ID)
    assert got == status
    expected = {"message": f"AiError: {text} ({ID})", "code": code}
    wire = json.dumps(expected, separators=(",", ":"))
    assert body.decode() == f'{{"errors":[{wire}],"success":false,"result":{{}},"messages":[]}}'


messages = filled.filter(lambda text: not text.startswith(("AiError: ", "Ai: ")))
kinds = st.sampled_from(
    [InvalidRequest, ModelNotFound, PayloadTooLarge, RequestTimeout, EngineFailed]
)


@given(kinds, messages)
def test_an_error_survives_the_wire(kind: type[OutriderError], message: str):
    decoded = WIRE.decode_error(*WIRE.encode_error(kind(message), ID))
    assert (type(decoded), decoded.message) == (kind, message)


@given(st.integers(0, 10**17), st.integers(0, 10**17))
def test_both_counts_of_a_long_prompt_survive_the_wire(num_tokens: int, limit: int):
    error = ContextLengthExceeded(num_tokens, limit, None)
    decoded = WIRE.decode_error(*WIRE.encode_error(error, ID))
    assert isinstance(decoded, ContextLengthExceeded)
    assert (decoded.num_prompt_tokens, decoded.max_model_len) == (num_tokens, limit)
    assert decoded.message == error.message


@pytest.mark.parametrize(
    ("path", "pointer"), [("messages[0].content[1]", "/messages/0/content/1"), ("stop", "/stop")]
)
def test_a_path_that_begins_the_words_becomes_a_pointer(path: str, pointer: str):
    status, body = WIRE.encode_error(InvalidRequest(f"{path} is an image; leave it out", path), ID)
    assert json.loads(body)["errors"][0]["message"] == (
        f"AiError: Bad input: Error: '{pointer}' is an image; leave it out ({ID})"
    )
    decoded = WIRE.decode_error(status, body)
    assert isinstance(decoded, InvalidRequest)
    assert decoded.param == path


def test_the_path_of_a_field_is_read_from_the_words():
    error = InvalidRequest("Type mismatch of '/messages/0/content', 'null' not in 'string'", "x")
    decoded = WIRE.decode_error(*WIRE.encode_error(error, ID))
    assert isinstance(decoded, InvalidRequest)
    assert decoded.param == "messages[0].content"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, b"<html>", EngineFailed),
        (429, b"", EngineOverloaded),
        (400, b"{}", InvalidRequest),
        (413, b'{"errors":[]}', PayloadTooLarge),
        (401, b'{"success":false,"errors":[{"code":10000,"message":"no"}]}', EngineFailed),
        (
            429,
            b'{"errors":[{"code":4006,"message":"AiError: AiError: used up"}]}',
            EngineOverloaded,
        ),
        (408, b'{"errors":[{"code":3046,"message":"AiError: Request timeout"}]}', ProviderTimeout),
        (400, b'{"errors":[{"code":8001,"message":"Invalid input"}]}', InvalidRequest),
    ],
)
def test_errors_of_the_live_service_are_read(status: int, body: bytes, kind: type[OutriderError]):
    assert type(WIRE.decode_error(status, body)) is kind


def test_the_doubled_prefix_and_the_id_are_taken_off():
    body = {"errors": [{"code": 3030, "message": f"AiError: AiError: odd (words) ({ID})"}]}
    assert WIRE.decode_error(400, json.dumps(body).encode()).message == "odd (words)"


def test_a_url_that_is_not_there_gets_the_edges_envelope():
    assert no_route_error("/client/v4/x") == (
        400,
        b'{"success":false,"errors":[{"code":7000,"message":"No route for that URI"}],'
        b'"messages":[],"result":null}',
    )


def test_headers_carry_the_request_id():
    got = headers(ID)
    ray, _, place = got["cf-ray"].partition("-")
    assert (len(bytes.fromhex(ray)), place, got["cf-ai-req-id"]) == (8, "LOCAL", ID)
