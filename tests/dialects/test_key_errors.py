"""What each wire says about keys: none, the wrong one, too little money, too many requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.dialects import cloudflare_openai, openai, openrouter
from outrider.dialects.base import Dialect
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.dataoorts import Dataoorts
from outrider.errors import Forbidden, PaymentRequired, RateLimited, RequestError, Unauthorized

ID = "id"
ERRORS = (Unauthorized("u"), PaymentRequired("p"), Forbidden("f", "model"), RateLimited("r", 3))


def encode(wire: Dialect, error: RequestError) -> tuple[int, Any]:
    status, body = wire.encode_error(error, ID)
    return status, json.loads(body)


def test_openai_has_statuses_and_codes() -> None:
    for error in ERRORS:
        status, body = encode(openai.CHAT_COMPLETIONS, error)
        assert status == error.status
        assert body["error"]["code"] == error.code
        assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ERRORS[0], 401, "authentication"),
        (ERRORS[1], 402, "payment_required"),
        (ERRORS[2], 403, "permission_denied"),
        (ERRORS[3], 429, "rate_limit_exceeded"),
    ],
)
def test_openrouter_has_types(error: RequestError, status: int, kind: str) -> None:
    assert encode(openrouter.CHAT_COMPLETIONS, error)[0] == status
    body = encode(openrouter.CHAT_COMPLETIONS, error)[1]["error"]
    assert (body["code"], body["metadata"]["error_type"]) == (status, kind)


@pytest.mark.parametrize("wire", [WorkersAi(), Dataoorts()], ids=lambda wire: wire.name)
def test_workers_ai_says_it_at_the_edge_or_in_the_model_layer(wire: Dialect) -> None:
    found = [encode(wire, error) for error in ERRORS]
    assert [(status, body["errors"][0]["code"]) for status, body in found] == [
        (401, 10000),
        (429, 3036),
        (403, 5018),
        (429, 971),
    ]
    assert [body["result"] for _, body in found] == [None, {}, {}, None]
    assert found[0][1]["errors"][0]["message"] == "Authentication error"
    assert not any(body["success"] for _, body in found)


def test_workers_ai_s_openai_endpoint_has_its_statuses() -> None:
    found = [encode(cloudflare_openai.CHAT_COMPLETIONS, error) for error in ERRORS]
    assert [status for status, _ in found] == [401, 429, 403, 429]
    assert [body["error"]["code"] for _, body in found] == [error.code for error in ERRORS]
