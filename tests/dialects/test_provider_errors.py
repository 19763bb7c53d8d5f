"""What the wires say when providers or the storage fail, before a stream and inside of it."""

from __future__ import annotations

import json

import pytest

from outrider.dialects import cloudflare_openai, openai, openrouter
from outrider.dialects.base import Answer, Choice, Decoded, Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.dataoorts import Dataoorts
from outrider.errors import (
    FailedAttempt,
    NoEndpoints,
    OutriderError,
    PaymentRequired,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    StorageError,
    Unauthorized,
)
from outrider.types import Completed, Event, Finished, Started, TextDelta, Usage

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
ERRORS: list[tuple[OutriderError, int, str]] = [
    (NoEndpoints("No endpoints found for m: a is out by zdr", "provider"), 404, "not_found"),
    (ProviderError("it broke", 500), 502, "provider_unavailable"),
    (ProviderDenied("no key", 401), 502, "provider_unavailable"),
    (ProviderTimeout("too slow"), 504, "timeout"),
    (ProviderRateLimited("slow down", 7.2, 429), 429, "rate_limit_exceeded"),
    (ProviderUnavailable("all are down", 4.0), 503, "provider_overloaded"),
    (StorageError("the disk is full"), 503, "server"),
]
EACH = pytest.mark.parametrize(("error", "status", "kind"), ERRORS, ids=lambda v: type(v).__name__)


def decoded() -> Decoded:
    return openrouter.CHAT_COMPLETIONS.decode_request(BODY, Envelope(request_id="r"))


@EACH
def test_openrouter_has_a_status_and_a_type_for_each(
    error: OutriderError, status: int, kind: str
) -> None:
    got, body = openrouter.CHAT_COMPLETIONS.encode_error(error, "r")
    wire = json.loads(body)["error"]
    assert (got, wire["code"]) == (status, status)
    assert wire["metadata"]["error_type"] == kind
    assert wire["metadata"]["provider_code"] == error.code
    again = openrouter.CHAT_COMPLETIONS.decode_error(got, body)
    assert (type(again), again.message) == (type(error), error.message)


@EACH
def test_openais_wire_has_the_status_and_code_of_the_class(
    error: OutriderError, status: int, kind: str
) -> None:
    for wire in (openai.CHAT_COMPLETIONS, openai.COMPLETIONS):
        got, body = wire.encode_error(error, "r")
        assert (got, json.loads(body)["error"]["code"]) == (status, error.code)
        again = wire.decode_error(got, body)
        assert (type(again), again.message) == (type(error), error.message)


@EACH
def test_the_other_wires_say_when_to_try_again_by_their_own_codes(
    error: OutriderError, status: int, kind: str
) -> None:
    codes = {404: 5006, 502: 5000, 504: 3046, 429: 3040, 503: 3040}
    code = 5000 if isinstance(error, StorageError) else codes[status]  # no code means storage
    theirs = {5006: 400, 5000: 500, 3046: 408, 3040: 429}[code]
    for wire in (WorkersAi(), Dataoorts()):
        got, body = wire.encode_error(error, "r")
        assert (got, json.loads(body)["errors"][0]["code"]) == (theirs, code)
    got, body = cloudflare_openai.CHAT_COMPLETIONS.encode_error(error, "r")
    assert (got, json.loads(body)["error"]["code"]) == (theirs, error.code)


def test_openrouter_names_the_host_that_failed_last_and_those_before() -> None:
    error = ProviderRateLimited("slow down", 7.2, 429)
    error.failed = (
        FailedAttempt("vLLM", "provider_timeout", 0, "too slow"),
        FailedAttempt("Deep", "provider_rate_limited", 429, "slow down"),
    )
    metadata = json.loads(openrouter.CHAT_COMPLETIONS.encode_error(error, "r")[1])["error"][
        "metadata"
    ]
    assert metadata["provider_name"] == "Deep"
    assert metadata["previous_errors"] == [
        {"code": 0, "message": "too slow", "provider_name": "vLLM"}
    ]
    assert metadata["retry_after_seconds"] == 8


@pytest.mark.parametrize(
    ("code", "kind"), [(401, Unauthorized), (402, PaymentRequired), (429, ProviderRateLimited)]
)
def test_an_error_inside_of_a_stream_is_known_by_its_code(
    code: int, kind: type[OutriderError]
) -> None:
    chunk = {"error": {"code": code, "message": "no"}, "choices": []}
    with pytest.raises(kind):
        openrouter.CHAT_COMPLETIONS.decode_stream(b"data: %s\n\n" % json.dumps(chunk).encode())


def chunks(*events: Event, error: OutriderError | None = None) -> list[dict[str, object]]:
    encoder = openrouter.CHAT_COMPLETIONS.stream_encoder(decoded())
    data = b"".join(encoder.encode(event) for event in events)
    if error is not None:
        data += encoder.encode_error(error)
    parts = [part.removeprefix(b"data: ") for part in data.split(b"\n\n") if part]
    return [json.loads(part) for part in parts if part != b"[DONE]"]


def test_answers_and_chunks_name_the_host_and_its_own_finish_reason() -> None:
    choice = Choice("Hi", "stop", native_reason="eos")
    answer = Answer("m", (choice,), Usage(1, 1), provider="vLLM")
    body = json.loads(openrouter.CHAT_COMPLETIONS.encode_answer(answer, decoded()))
    assert body["provider"] == "vLLM"
    assert body["choices"][0]["native_finish_reason"] == "eos"
    own = Answer("m", (Choice("Hi", "length"),), Usage(1, 1))
    body = json.loads(openrouter.CHAT_COMPLETIONS.encode_answer(own, decoded()))
    assert body["provider"] == "Outrider"
    assert body["choices"][0]["native_finish_reason"] == "length"
    events = (
        Started("m", "vLLM"),
        TextDelta(0, "Hi"),
        Finished(0, "stop", native_reason="eos"),
        Completed(Usage(1, 1)),
    )
    streamed = chunks(*events)
    assert {chunk["provider"] for chunk in streamed} == {"vLLM"}
    assert streamed[-2]["choices"][0]["native_finish_reason"] == "eos"  # type: ignore[index]


@pytest.mark.parametrize(
    "wire",
    [
        openai.CHAT_COMPLETIONS,
        openai.COMPLETIONS,
        openrouter.CHAT_COMPLETIONS,
        WorkersAi(),
        cloudflare_openai.CHAT_COMPLETIONS,
    ],
    ids=lambda wire: wire.name,
)
def test_a_stream_that_breaks_ends_with_an_error_and_no_invented_reason(
    wire: openai.OpenAi,
) -> None:
    request = {"model": "m", "stream": True, "prompt": "Hi"}
    body = json.dumps(request).encode() if "completions" in wire.name else BODY
    encoder = wire.stream_encoder(wire.decode_request(body, Envelope(request_id="r", model="m")))
    error = ProviderError("it broke off", 200)
    error.failed = (FailedAttempt("vLLM", error.code, 502, error.message),)
    begun = (Started("m", "vLLM"), TextDelta(0, "Hi"))
    data = b"".join([*map(encoder.encode, begun), encoder.encode_error(error)])
    assert b"it broke off" in data
    assert b"[DONE]" not in data
    assert b'"stop"' not in data
    with pytest.raises(OutriderError):
        wire.decode_stream(data)
