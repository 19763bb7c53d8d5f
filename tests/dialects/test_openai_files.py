"""OpenAI's file objects and the form of an upload."""

from __future__ import annotations

import json

import openai.types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.batch_types import LISTED_PURPOSES, StoredFile
from outrider.dialects.openai_files import (
    OTHER_PURPOSES,
    ListQuery,
    UploadFields,
    decode_file,
    decode_files,
    encode_deleted,
    encode_file,
    encode_files,
    read_list,
    read_upload,
)
from outrider.errors import EngineFailed, InvalidRequest, UnsupportedParameter

texts = st.text(max_size=20)
stored_files = st.builds(
    StoredFile,
    id=texts,
    owner=st.just(""),
    purpose=st.sampled_from(LISTED_PURPOSES),
    filename=texts,
    num_bytes=st.integers(0, 2**40),
    created_s=st.integers(0, 2**40),
    expires_s=st.none() | st.integers(0, 2**40),
)
WHOLE = {"purpose": "batch"}


@given(stored_files)
def test_a_file_that_is_written_is_read_the_same(file: StoredFile) -> None:
    assert decode_file(encode_file(file)) == file
    openai.types.FileObject.model_validate_json(encode_file(file), strict=True)


@given(st.lists(stored_files, max_size=3), st.booleans())
def test_a_page_that_is_written_is_read_the_same(files: list[StoredFile], has_more: bool) -> None:
    body = encode_files(files, has_more)
    assert decode_files(body) == (files, has_more)
    if files:
        wire = json.loads(body)
        assert (wire["first_id"], wire["last_id"]) == (files[0].id, files[-1].id)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id": 1}', b"[" * 5000])
def test_an_unreadable_answer_is_the_servers_fault(body: bytes) -> None:
    with pytest.raises(EngineFailed):
        decode_file(body)


def test_a_deletion_is_what_the_client_expects() -> None:
    deleted = openai.types.FileDeleted.model_validate_json(encode_deleted("file-1"), strict=True)
    assert (deleted.id, deleted.deleted) == ("file-1", True)


def test_a_form_says_for_how_long_a_file_is_kept() -> None:
    assert read_upload(WHOLE, "a") == UploadFields("a", "batch", 30 * 86_400)
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    assert read_upload(WHOLE | expiry, "a").keep_s == 3600


@pytest.mark.parametrize(
    ("fields", "filename", "param"),
    [
        (WHOLE, None, "file"),
        (WHOLE, "x" * 256, "file"),
        ({}, "a", "purpose"),
        ({"purpose": "nonsense"}, "a", "purpose"),
        (WHOLE | {"colour": "red"}, "a", "colour"),
        (WHOLE | {"expires_after[seconds]": "3600"}, "a", "expires_after.anchor"),
        (WHOLE | {"expires_after[anchor]": "created_at"}, "a", "expires_after.seconds"),
        *(
            (
                WHOLE | {"expires_after[anchor]": "created_at", "expires_after[seconds]": value},
                "a",
                "expires_after.seconds",
            )
            for value in ("3599", "2592001", "1e4", "٣٦٠٠", "-3600", "9" * 5000)
        ),
    ],
)
def test_a_bad_form_is_refused_by_field(
    fields: dict[str, str], filename: str | None, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_upload(fields, filename)
    assert refused.value.param == param
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("purpose", OTHER_PURPOSES)
def test_other_purposes_are_refused_as_not_offered(purpose: str) -> None:
    with pytest.raises(UnsupportedParameter, match=purpose):
        read_upload({"purpose": purpose}, "a")


def test_a_lists_query_is_read() -> None:
    assert read_list({}) == ListQuery(10_000)
    query = {"limit": "5", "after": "file-1", "order": "asc", "purpose": "batch_output"}
    assert read_list(query) == ListQuery(5, "file-1", True, "batch_output")


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "10001"), ("limit", "x"), ("order", "up"), ("purpose", "queued")],
)
def test_a_bad_query_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_list({name: value})
    assert refused.value.param == name
