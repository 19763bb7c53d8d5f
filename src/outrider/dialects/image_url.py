"""Images in requests, which all wires write as URLs: the bytes of a data URI, or a refusal.

`decode_data_uri` knows RFC 2397 with base64 and nothing else. Nothing is fetched here: a server
that follows its callers' URLs can be sent anywhere. The size is checked on the text, before it is
decoded; what the bytes are is for `text.image_file` to find out.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import MAX_IMAGE_BYTES

MAX_TYPE_CHARS = 256  # between "data:" and the comma
# A quarter is base64's own; the rest is room for line breaks and percent-encoded characters.
MAX_URI_CHARS = MAX_IMAGE_BYTES * 3 // 2
# image/jpg is no registered type, but written often.
_TYPES = {"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"}
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_REMOTE = re.compile(r"(?i)\s*https?:")
_SPACE = b" \t\n\f\r"
_REMEDY = "send the image as a data URI, data:image/png;base64,..."


def is_remote(url: str) -> bool:
    """Say whether an image would have to be fetched."""
    return _REMOTE.match(url) is not None


def decode_data_uri(uri: str, param: str) -> bytes:
    """Give the bytes of a base64 data URI; `param` is the path of the request's field."""
    scheme = _SCHEME.match(uri)
    if scheme is None:
        raise InvalidRequest(f"{param} is not a URL; {_REMEDY}", param)
    if scheme[1].lower() != "data":
        raise UnsupportedParameter(
            f"{param} is a URL of the scheme {scheme[1].lower()}, which isn't taken here; "
            f"{_REMEDY}",
            param,
        )
    comma = uri.find(",", scheme.end(), scheme.end() + MAX_TYPE_CHARS)
    if comma < 0:
        raise InvalidRequest(f"{param} is a data URI without a comma; {_REMEDY}", param)
    media_type, *attributes = (
        part.strip().lower() for part in uri[scheme.end() : comma].split(";")
    )
    if media_type not in _TYPES:
        raise InvalidRequest(
            f"{param} has the media type {media_type[:40]!r}; send PNG, JPEG, WebP or GIF", param
        )
    if "base64" not in attributes[-1:]:
        raise InvalidRequest(f"{param} is a data URI that isn't in base64; {_REMEDY}", param)
    if len(uri) - comma > MAX_URI_CHARS:
        raise InvalidRequest(
            f"{param} has {len(uri):,} characters; an image may have {MAX_IMAGE_BYTES:,} bytes",
            param,
        )
    return _decode_base64(uri[comma + 1 :], param)


def encode_data_uri(data: bytes) -> str:
    """Write an image as a base64 data URI."""
    return f"data:{_media_type(data)};base64,{base64.b64encode(data).decode()}"


def _media_type(data: bytes) -> str:
    """Name the format of an image by its first bytes; PNG if it is none of them."""
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if data.startswith(b"GIF8"):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/png"


def _decode_base64(text: str, param: str) -> bytes:
    """Decode base64 as browsers do: white space is skipped and padding may be left out."""
    try:
        data = unquote_to_bytes(text) if "%" in text else text.encode("ascii")
        data = data.translate(None, _SPACE)
        if len(data) % 4 == 0:
            data = data.removesuffix(b"=").removesuffix(b"=")
        result = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidRequest(
            f"{param} holds text that isn't base64; encode it again", param
        ) from None
    if not result:
        raise InvalidRequest(f"{param} is an empty image; {_REMEDY}", param)
    if len(result) > MAX_IMAGE_BYTES:
        raise InvalidRequest(
            f"{param} has {len(result):,} bytes; an image may have {MAX_IMAGE_BYTES:,}", param
        )
    return result
