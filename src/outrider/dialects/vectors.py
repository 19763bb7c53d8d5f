"""Vectors as they come from other machines: numbers or bytes become little-endian f32, checked.

Vectors of several sizes, none, cut off or with what isn't a number are refused: nobody could see
later that a distance to them means nothing.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence

from outrider.errors import ProviderError


def pack(values: Sequence[float]) -> bytes:
    """Give numbers as f32; raises `ProviderError` for one that is too large."""
    try:
        return struct.pack(f"<{len(values)}f", *values)
    except OverflowError as error:
        raise ProviderError("a number of the answer's vectors is too large for f32") from error


def unpack_base64(text: str) -> bytes:
    """Give the bytes of a vector in base64; raises `ProviderError`."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProviderError("a vector of the answer isn't base64") from error


def join(vectors: Sequence[bytes]) -> bytes:
    """Give vectors one behind the other; raises `ProviderError` unless all are of one size."""
    sizes = {len(vector) for vector in vectors}
    if len(sizes) != 1 or (size := sizes.pop()) % 4 or not size:
        raise ProviderError("the answer's vectors are none, empty, of several sizes or cut off")
    for vector in vectors:
        # Finite numbers of f32 have a finite sum in f64; one that isn't finite spoils it.
        if not math.isfinite(sum(struct.unpack(f"<{size // 4}f", vector))):
            raise ProviderError("the answer's vectors have values that aren't finite numbers")
    return b"".join(vectors)
