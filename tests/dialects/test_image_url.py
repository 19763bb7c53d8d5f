"""Data URIs in, bytes or one line out."""

from __future__ import annotations

import base64
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.dialects.image_url import MAX_URI_CHARS, decode_data_uri
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import MAX_IMAGE_BYTES

PARAM = "messages[0].content[1].image_url.url"


def data_uri(data: bytes, head: str = "data:image/png;base64") -> str:
    return f"{head},{base64.b64encode(data).decode()}"


def refusal(uri: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode_data_uri(uri, PARAM)
    assert caught.value.param == PARAM
    assert caught.value.message.startswith(f"{PARAM} ")
    assert "\n" not in caught.value.message and len(caught.value.message) < 300
    return caught.value


@settings(deadline=None)
@given(data=st.binary(min_size=1))
def test_what_was_encoded_comes_out(data: bytes) -> None:
    assert decode_data_uri(data_uri(data), PARAM) == data


@pytest.mark.parametrize(
    "head",
    [
        "data:image/jpeg;base64",
        "data:image/jpg;base64",
        "data:image/webp;base64",
        "data:image/gif;base64",
        "DATA:Image/PNG;BASE64",
        " data: image/png ; charset=utf-8 ; base64",
    ],
)
def test_media_types_and_their_spellings_are_known(head: str) -> None:
    assert decode_data_uri(data_uri(b"\xfb\xff\xfe", head), PARAM) == b"\xfb\xff\xfe"


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=99), width=st.integers(1, 80))
def test_line_breaks_and_missing_padding_are_allowed(data: bytes, width: int) -> None:
    text = base64.b64encode(data).decode().rstrip("=")
    lines = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert decode_data_uri(f"data:image/png;base64,{lines}\n", PARAM) == data


def test_percent_encoded_characters_are_read() -> None:
    assert decode_data_uri("data:image/png;base64,%2B%2f%2B%2F", PARAM) == b"\xfb\xff\xbf"


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS", "file", "ftp", "s3"])
def test_nothing_is_fetched(scheme: str) -> None:
    error = refusal(f"{scheme}://169.254.169.254/secret.png")
    assert isinstance(error, UnsupportedParameter)
    assert f"of the scheme {scheme.lower()}," in error.message
    assert "send the image as a data URI" in error.message
    assert "169.254" not in error.message


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "is not a URL"),
        ("cat.png", "is not a URL"),
        ("iVBORw0KGgo=", "is not a URL"),
        ("data:image/png;base64", "without a comma"),
        ("data:" + "x" * 9999 + ",AAAA", "without a comma"),
        ("data:,AAAA", "has the media type ''"),
        ("data:image/svg+xml;base64,AAAA", "has the media type 'image/svg+xml'"),
        ("data:text/html;base64,AAAA", "has the media type 'text/html'"),
        ("data:image/png,AAAA", "isn't in base64"),
        ("data:image/png;base64;charset=x,AAAA", "isn't in base64"),
        ("data:image/png;base64,", "is an empty image"),
        ("data:image/png;base64,====", "isn't base64"),
        ("data:image/png;base64,A", "isn't base64"),
        ("data:image/png;base64,AA=A", "isn't base64"),
        ("data:image/png;base64,AAA*", "isn't base64"),
        ("data:image/png;base64,-_-_", "isn't base64"),
        ("data:image/png;base64,AAAé", "isn't base64"),
        ("data:image/png;base64,%ff%ff%ff%ff", "isn't base64"),
        ("data:image/png;base64,AAAA\ud800", "isn't base64"),
    ],
)
def test_everything_else_is_refused_in_one_line(uri: str, words: str) -> None:
    assert words in refusal(uri).message


def test_the_largest_image_is_allowed_and_one_byte_more_is_not() -> None:
    assert len(decode_data_uri(data_uri(bytes(MAX_IMAGE_BYTES)), PARAM)) == MAX_IMAGE_BYTES
    assert "20,971,521 bytes" in refusal(data_uri(bytes(MAX_IMAGE_BYTES + 1))).message


def test_a_long_uri_is_refused_before_it_is_decoded() -> None:
    uri = "data:image/png;base64," + "A" * (MAX_URI_CHARS + 1)
    tracemalloc.start()
    error = refusal(uri)
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()
    assert f"{len(uri):,} characters" in error.message
