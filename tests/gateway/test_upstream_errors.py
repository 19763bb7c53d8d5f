"""What a host's error becomes: no field of it hurts, none repeats the secret, and one in the body
of a 200 is what it would be with a status of its own.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.remote_hosts import SECRET, Asked, ask, request
from outrider.dialects import cloudflare_openai, openai, openai_embeddings, openrouter
from outrider.dialects.capabilities import Kind
from outrider.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    PayloadTooLarge,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    RequestError,
)
from outrider.gateway.attempt import status_of
from upstreams.scripted import Reply, Scripted, event, native_error, stream, whole

TOO_LONG = "prompt has 9 tokens but max_model_len is 8 and so on"
WIRES = (openai.CHAT_COMPLETIONS, openrouter.CHAT_COMPLETIONS, cloudflare_openai.CHAT_COMPLETIONS)


def failure(host: Scripted, kind: Kind, body: object, status: int = 400) -> OutriderError:
    host.answer(whole(body, status))
    with pytest.raises(OutriderError) as caught:
        ask(Asked(host, kind), request())
    return caught.value


def error_body(kind: Kind, param: object, *, is_too_long: bool = False) -> dict[str, Any]:
    code = "context_length_exceeded" if is_too_long else "invalid_request"
    error: dict[str, Any] = {"message": TOO_LONG if is_too_long else "bad"}
    if kind == "openrouter":
        error["metadata"] = {"provider_code": code, "param": param}
    else:
        error |= {"code": code, "param": param}
    return {"error": error}


@pytest.mark.parametrize("is_too_long", [True, False])
@pytest.mark.parametrize("kind", ["openai", "openrouter", "workers-ai"])
@pytest.mark.parametrize(
    ("param", "told"),
    [
        (f"a.{SECRET}\nb", "a.••• b"),
        ("x" * 300, "x" * 200),
        ("messages[0].content", "messages[0].content"),
        (None, None),
        ([SECRET], None),
        ({"a": [f"{SECRET}\n"]}, None),
        (7, None),
    ],
)
def test_the_path_of_a_hosts_error_is_a_clean_short_text_or_none(
    host: Scripted, kind: Kind, param: object, told: str | None, is_too_long: bool
) -> None:
    error = failure(host, kind, error_body(kind, param, is_too_long=is_too_long))
    assert isinstance(error, RequestError)
    assert error.param == told
    assert isinstance(error, ContextLengthExceeded) == is_too_long
    for wire in WIRES:
        assert SECRET.encode() not in wire.encode_error(error, "r")[1]


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
def test_no_field_of_a_hosts_error_repeats_the_secret(host: Scripted, kind: Kind) -> None:
    fields = {name: SECRET for name in ("message", "type", "param", "code", "provider_name")}
    error = failure(host, kind, {"error": {**fields, "metadata": {**fields, "raw": SECRET}}})
    for wire in WIRES:
        assert SECRET.encode() not in wire.encode_error(error, "r")[1]


def test_a_pointer_in_a_native_error_does_not_repeat_the_secret(host: Scripted) -> None:
    asked = Asked(host, "workers-ai")
    asked.upstream = type(asked.upstream)(**{**vars(asked.upstream), "secret": "s3cret"})
    host.answer(whole(native_error(5006, "Error: '/s3cret' is wrong"), 400))
    with pytest.raises(RequestError) as caught:
        ask(asked, request(prompts=("Hi",)))
    assert (caught.value.param, "s3cret" in caught.value.message) == ("•••", False)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_a_path_that_is_no_text_is_none(wire: openai.OpenAi) -> None:
    fields = {"param": ["x"], "code": "invalid_request"}
    body = {"error": {"message": "bad", **fields, "metadata": fields}}
    error = wire.decode_error(400, json.dumps(body).encode())
    assert isinstance(error, RequestError)
    assert error.param is None


CODE = InvalidRequest.code
FORMS = ("whole", "event", "choice")


def inside(error: object, form: str) -> Reply:
    """Reply with an error in the body of a 200."""
    match form:
        case "whole":
            return whole({"error": error})
        case "event":
            return stream(event({"error": error}))
        case _:
            return whole({"choices": [{"index": 0, "error": error}]})


def failure_inside(host: Scripted, kind: Kind, error: object, form: str = "whole") -> Any:
    host.answer(inside(error, form))
    with pytest.raises(OutriderError) as caught:
        ask(Asked(host, kind), request(stream=form == "event"))
    return caught.value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["openai", "openrouter"])
@pytest.mark.parametrize(
    ("code", "expected", "status"),
    [
        (400, InvalidRequest, 400),
        (401, ProviderDenied, 401),
        (402, ProviderDenied, 402),
        (403, ProviderDenied, 403),
        (404, ModelNotFound, 404),
        (408, ProviderTimeout, 408),
        (413, PayloadTooLarge, 413),
        (422, InvalidRequest, 400),
        (429, ProviderRateLimited, 429),
        (500, ProviderError, 500),
        (502, ProviderError, 502),
        (503, ProviderError, 503),
        (504, ProviderTimeout, 504),
        (200, ProviderError, 500),
        (True, ProviderError, 500),
        ("tired", ProviderError, 500),
        (None, ProviderError, 500),
        ("provider_timeout", ProviderTimeout, 504),
        ("provider_credentials", ProviderError, 502),
        ("providers_unavailable", ProviderError, 503),
    ],
)
def test_an_error_in_the_body_of_a_200_has_the_status_that_it_names(
    host: Scripted, kind: Kind, form: str, code: object, expected: type[OutriderError], status: int
) -> None:
    metadata = {"provider_code": code} if isinstance(code, str) else None
    error = failure_inside(host, kind, {"message": "bad", "code": code, "metadata": metadata}, form)
    assert type(error) is expected
    assert status_of(error) == status


def test_an_error_in_the_place_of_vectors_has_the_status_that_it_names() -> None:
    body = b'{"error": {"message": "too long", "type": "BadRequestError", "code": 400}}'
    for dialect in (openai.CHAT_COMPLETIONS, openrouter.CHAT_COMPLETIONS):
        with pytest.raises(InvalidRequest, match="too long"):
            openai_embeddings.decode_answer(body, dialect)


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
@pytest.mark.parametrize("reason", ["reasons", "patterns"])
def test_moderation_in_a_body_is_the_callers_as_with_its_status(
    host: Scripted, kind: Kind, reason: str
) -> None:
    wire = {"code": 403, "message": "flagged: Hi", "metadata": {reason: ["violence"]}}
    by_status = failure(host, kind, {"error": wire}, 403)
    for form in FORMS:
        error = failure_inside(host, kind, wire, form)
        assert type(error) is type(by_status) is InvalidRequest
        assert error.message == by_status.message


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({"retry_after_seconds": 30}, 30),
        ({"retry_after_seconds": 0.5}, 0.5),
        ({"retry_after_seconds": -1}, None),
        ({"retry_after_seconds": "30"}, None),
        ({"retry_after_seconds": True}, None),
        ({}, None),
        (None, None),
        (["retry_after_seconds"], None),
    ],
)
def test_a_wait_is_what_the_host_asks_for_and_never_made_up(
    host: Scripted, kind: Kind, metadata: object, seconds: float | None
) -> None:
    wire = {"code": 429, "message": "slow down", "metadata": metadata}
    for form in FORMS:
        error = failure_inside(host, kind, wire, form)
        assert (type(error), error.retry_after_s) == (ProviderRateLimited, seconds)
    by_status = failure(host, kind, {"error": wire}, 429)
    assert getattr(by_status, "retry_after_s") == seconds  # noqa: B009


def test_a_keys_limit_at_another_outrider_does_not_say_for_how_long(host: Scripted) -> None:
    error = failure_inside(host, "openai", {"message": "no", "code": "rate_limit_exceeded"})
    assert (type(error), error.retry_after_s) == (ProviderRateLimited, None)


@pytest.mark.parametrize("model", ["xyz", "meta-llama/llama-4-scout2"])
def test_openrouters_word_for_an_unknown_model_is_a_model_that_is_not_found(
    host: Scripted, model: str
) -> None:
    wire = {"code": 400, "message": f"{model} is not a valid model ID"}
    assert type(failure(host, "openrouter", {"error": wire, "user_id": "u"})) is ModelNotFound
    for form in FORMS:
        assert type(failure_inside(host, "openrouter", wire, form)) is ModelNotFound


@pytest.mark.parametrize(
    "wire",
    [
        {"code": 400, "message": "messages: xyz is not a valid model ID"},
        {
            "code": 400,
            "message": "xyz is not a valid model ID",
            "metadata": {"provider_code": CODE},
        },
    ],
)
def test_other_words_of_openrouter_are_the_callers(host: Scripted, wire: object) -> None:
    assert type(failure(host, "openrouter", {"error": wire})) is InvalidRequest
