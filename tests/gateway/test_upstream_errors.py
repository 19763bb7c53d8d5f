"""What a host's error becomes: no field of it hurts, and none repeats the secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.remote_hosts import SECRET, Asked, ask, request
from outrider.dialects import cloudflare_openai, openai, openrouter
from outrider.dialects.capabilities import Kind
from outrider.errors import ContextLengthExceeded, OutriderError, RequestError
from upstreams.scripted import Scripted, native_error, whole

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
