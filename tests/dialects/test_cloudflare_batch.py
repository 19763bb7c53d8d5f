"""Workers AI's asynchronous batch on the wire."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.cloudflare_batch import (
    Poll,
    Queued,
    decode_status,
    encode_accepted,
    encode_complete,
    encode_pending,
    encode_poll,
    encode_queued,
    encode_response,
    is_poll,
    read_body,
)
from outrider.errors import InvalidRequest, ProviderError
from outrider.types import Usage

texts = st.text(max_size=10)
requests = st.dictionaries(texts.filter(lambda name: name != "external_reference"), texts)
queues = st.lists(st.tuples(requests, st.none() | texts), min_size=1, max_size=4).map(
    lambda pairs: Queued(tuple(r for r, _ in pairs), tuple(r for _, r in pairs))
)


@given(queues)
def test_requests_that_are_written_are_read_the_same(queued: Queued) -> None:
    assert read_body(encode_queued(queued)) == queued


@given(texts)
def test_a_question_that_is_written_is_read_the_same(request_id: str) -> None:
    body = encode_poll(Poll(request_id))
    assert read_body(body) == Poll(request_id)
    assert is_poll(body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"{}", b'{"request_id": "a", "prompt": "x"}', b"[" * 9999, b"\xff"]
)
def test_other_bodies_are_no_questions(body: bytes) -> None:
    assert not is_poll(body)


@pytest.mark.parametrize(
    ("body", "text", "param"),
    [
        ({}, "required properties at '/'", "requests"),
        ({"requests": [], "request_id": "a"}, "either", "request_id"),
        ({"requests": {}}, "Type mismatch of '/requests', 'object' not in 'array'", "requests"),
        ({"requests": []}, "Length of '/requests' must be >= 1", "requests"),
        ({"requests": [{}, 7]}, "Type mismatch of '/requests/1', 'number'", "requests[1]"),
        (
            {"requests": [{"external_reference": 7}]},
            "Type mismatch of '/requests/0/external_reference'",
            "requests[0].external_reference",
        ),
        (
            {"requests": [{"external_reference": "x" * 513}]},
            "must be <= 512",
            "requests[0].external_reference",
        ),
        ({"request_id": 7}, "Type mismatch of '/request_id', 'number'", "request_id"),
    ],
)
def test_a_bad_body_is_refused_in_the_wires_words(
    body: dict[str, object], text: str, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(json.dumps(body).encode())
    assert text in refused.value.message
    assert refused.value.param == param


def test_a_pending_batch_says_where_it_is() -> None:
    accepted = json.loads(encode_accepted("r1", "@cf/meta/llama"))
    assert accepted["result"] == {"status": "queued", "request_id": "r1", "model": "@cf/meta/llama"}
    assert accepted["success"] is True
    assert decode_status(encode_accepted("r1", "m")) == ("queued", "r1")
    assert decode_status(encode_pending("r1", "running")) == ("running", "r1")


def test_a_complete_batch_has_what_each_request_would_have_got() -> None:
    good = b'{"result":{"response":"Hi"},"success":true,"errors":[],"messages":[]}'
    _, bad = WorkersAi().encode_error(InvalidRequest("no", "prompt"), "r1")
    head, tail = encode_complete(Usage(3, 4, 1))
    parts = [encode_response(0, "mine", good), encode_response(1, None, bad)]
    body = head + b",".join(parts) + tail
    responses = decode_status(body)
    assert isinstance(responses, list)
    assert [(r.id, r.success, r.external_reference) for r in responses] == [
        (0, True, "mine"),
        (1, False, None),
    ]
    assert msgspec.json.decode(responses[0].result) == {"response": "Hi"}
    assert json.loads(parts[0]) == {
        "id": 0,
        "result": {"response": "Hi"},
        "success": True,
        "external_reference": "mine",
    }
    assert responses[0].errors is msgspec.UNSET
    assert responses[1].errors
    assert responses[1].errors[0].code == 5006
    assert json.loads(body)["result"]["usage"]["total_tokens"] == 7


@pytest.mark.parametrize("body", [b"", b"{}", b'{"result": 7}'])
def test_an_unreadable_answer_is_the_servers_fault(body: bytes) -> None:
    with pytest.raises(ProviderError):
        decode_status(body)
