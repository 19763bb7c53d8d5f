"""OpenAI's batch objects and the lines of inputs and results."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import openai.types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.batch_types import Batch, Item, LineError, Status
from outrider.dialects.base import MAX_CONTAINERS
from outrider.dialects.openai_batches import (
    ENDPOINTS,
    OTHER_ENDPOINTS,
    UNRUN,
    NewBatch,
    body_of,
    decode_batch,
    encode_batch,
    encode_batches,
    encode_create,
    encode_line,
    encode_result,
    encode_unrun,
    read_create,
    read_line,
)
from outrider.errors import EngineFailed, InvalidRequest, UnsupportedParameter

CHAT = ENDPOINTS[0]
CREATE = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}
LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m"}}

texts = st.text(max_size=10)
counts = st.integers(0, 2**31)
times = st.none() | counts
TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
batches = st.builds(
    Batch,
    id=texts,
    owner=st.just(""),
    wire=st.just("openai"),
    endpoint=st.sampled_from(ENDPOINTS),
    model=st.just(""),
    input_file_id=texts,
    status=st.sampled_from(get_args(Status)),
    created_s=counts,
    deadline_s=counts,
    keep_results_s=st.just(0),
    delete_s=st.none(),
    output_file_id=st.none() | texts,
    error_file_id=st.none() | texts,
    metadata=st.none() | st.dictionaries(texts, texts, max_size=3),
    errors=st.lists(
        st.builds(LineError, texts, texts, st.none() | counts, st.none() | texts), max_size=3
    ).map(tuple),
    **{f"{name}_s": times for name in TIMES},
    **{f"num_{name}": counts for name in ("requests", "completed", "failed")},
    **{f"{name}_tokens": counts for name in ("prompt", "completion", "cached")},
)
new_batches = st.builds(
    NewBatch,
    texts,
    st.sampled_from(ENDPOINTS),
    st.none() | st.dictionaries(texts, texts, max_size=3),
    st.none() | st.integers(3600, 2_592_000),
)


@given(batches)
def test_a_batch_that_is_written_is_read_the_same(batch: Batch) -> None:
    assert decode_batch(encode_batch(batch)) == batch
    openai.types.Batch.model_validate_json(encode_batch(batch), strict=True)


@given(new_batches)
def test_a_new_batch_that_is_written_is_read_the_same(batch: NewBatch) -> None:
    assert read_create(encode_create(batch)) == batch


@given(st.text(min_size=1, max_size=512), st.dictionaries(texts, texts))
def test_a_line_that_is_written_is_read_the_same(name: str, body: dict[str, str]) -> None:
    line = encode_line(name, CHAT, msgspec.json.encode(body))
    assert b"\n" not in line
    assert read_line(line, CHAT, 1) == name
    assert json.loads(body_of(line)) == body


def test_a_page_of_batches_has_its_ends() -> None:
    batch = Batch(
        id="batch_1",
        owner="",
        wire="openai",
        endpoint=CHAT,
        input_file_id="f",
        status="validating",
        created_s=1,
        deadline_s=2,
        keep_results_s=3,
    )
    page = json.loads(encode_batches([batch, msgspec.structs.replace(batch, id="b")], True))
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", "batch_1", "b")
    assert page["has_more"] is True
    assert json.loads(encode_batches([], False))["first_id"] is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": 7}, "input_file_id"),
        ({"endpoint": "/v1/nonsense"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"output_expires_after": {"anchor": "x", "seconds": 3600}}, "output_expires_after.anchor"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
        ),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_batch_is_refused_by_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_create(json.dumps(CREATE | change).encode())
    assert refused.value.param == param


@pytest.mark.parametrize("field", CREATE)
def test_a_missing_field_is_named(field: str) -> None:
    body = {name: value for name, value in CREATE.items() if name != field}
    with pytest.raises(InvalidRequest) as refused:
        read_create(json.dumps(body).encode())
    assert refused.value.param == field


@pytest.mark.parametrize("endpoint", OTHER_ENDPOINTS)
def test_other_endpoints_are_refused_as_not_offered(endpoint: str) -> None:
    with pytest.raises(UnsupportedParameter, match=endpoint):
        read_create(json.dumps(CREATE | {"endpoint": endpoint}).encode())


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[" * 9999, "invalid_json_line", None),
        ("\ufeff{}", "invalid_json_line", None),
        ("[]", "invalid_line", None),
        ("7", "invalid_line", None),
        ({"custom_id": None}, "invalid_line", "custom_id"),
        ({"custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({"custom_id": "x" * 513}, "invalid_custom_id", "custom_id"),
        ({"method": "GET"}, "invalid_method", "method"),
        ({"url": ENDPOINTS[1]}, "invalid_url", "url"),
        ({"body": []}, "invalid_line", "body"),
        ({"body": None}, "invalid_line", "body"),
        ({"more": 1}, "invalid_line", "more"),
        *(({name: ...}, "missing_required_parameter", name) for name in LINE),
    ],
)
def test_a_line_that_cannot_run_says_why(line: Any, code: str, param: str | None) -> None:
    if isinstance(line, dict):
        values = {name: value for name, value in (LINE | line).items() if value is not ...}
        line = json.dumps(values)
    error = read_line(line.encode(), CHAT, 7)
    assert isinstance(error, LineError)
    assert (error.code, error.param, error.line) == (code, param, 7)
    assert error.message


def test_a_line_of_too_many_objects_is_not_read() -> None:
    error = read_line(b"[" + b"{}," * MAX_CONTAINERS + b"{}]", CHAT, 7)
    assert isinstance(error, LineError)
    assert (error.code, error.line) == ("invalid_line", 7)
    assert "objects and lists" in error.message


def test_results_are_lines_of_their_own() -> None:
    line = encode_result("a", "r1", 200, b'{"x": 1}')
    assert json.loads(line) == {
        "id": "batch_req_r1",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "r1", "body": {"x": 1}},
        "error": None,
    }
    item = Item(position=3, custom_id="b", offset=0, length=1)
    for status, (code, _) in UNRUN.items():
        unrun = json.loads(encode_unrun(item, "batch_9", status))
        assert (unrun["id"], unrun["custom_id"]) == ("batch_req_9_3", "b")
        assert (unrun["response"], unrun["error"]["code"]) == (None, code)


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 5000])
def test_an_unreadable_answer_is_the_servers_fault(body: bytes) -> None:
    with pytest.raises(EngineFailed):
        decode_batch(body)
