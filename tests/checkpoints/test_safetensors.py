"""The safetensors container: every hostile file of the catalogue."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.safetensors import StoredTensor, open_safetensors
from outrider.errors import CheckpointError
from tiny_models import write_safetensors

Open = Callable[[bytes], dict[str, StoredTensor]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    def write_and_open(content: bytes) -> dict[str, StoredTensor]:
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        return open_safetensors(path)

    return write_and_open


def entry(shape: list[Any], begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_bytes(header: Any, data: int = 0) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + b"\0" * data


@pytest.mark.parametrize(("dtype", "nbytes"), [("F32", 4), ("F16", 2), ("BF16", 2)])
def test_tensors_read_back(tmp_path: Path, dtype: str, nbytes: int) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = write_safetensors(tmp_path / "m.safetensors", {"a": values, "b": values[0]}, dtype)
    tensors = open_safetensors(path)
    assert [(t.dtype, t.shape, t.data.size) for t in tensors.values()] == [
        (dtype, (2, 3), 6 * nbytes), (dtype, (3,), 3 * nbytes),
    ]  # fmt: skip
    assert not tensors["a"].data.flags.writeable


GOOD = {"a": entry([2, 2], 0, 16), "b": entry([2], 16, 24)}
HOSTILE = {
    "empty": (b"", "too short"),
    "header_past_end": (struct.pack("<Q", 100) + b"{}", "claims 100 bytes"),
    "header_of_2_63": (struct.pack("<Q", 2**63) + b"{}", "claims 9223372036854775808"),
    "header_0": (struct.pack("<Q", 0) + b"{}", "bad JSON"),
    "not_utf8": (file_bytes(b'{"\xff": 1}'), "bad JSON"),
    "not_json": (file_bytes(b'{"a"'), "bad JSON"),
    "not_object": (file_bytes([1]), "not an object"),
    "deep": (file_bytes(b"[" * 200_000), "nested too deep"),
    "duplicate": (
        file_bytes(b'{"a": ' + json.dumps(GOOD["a"]).encode() + b', "a": {}}', 16), "occurs twice"
    ),
    "entry_no_object": (file_bytes({"a": 3}), "isn't described by an object"),
    "dtype": (file_bytes({"a": entry([4], 0, 4, "I4")}, 4), "unknown dtype 'I4'"),
    "dtype_list": (file_bytes({"a": entry([4], 0, 4, ["F32"])}, 4), "unknown dtype"),
    "shape_negative": (file_bytes({"a": entry([-1], 0, 4)}, 4), "impossible shape"),
    "shape_float": (file_bytes({"a": entry([1.0], 0, 4)}, 4), "impossible shape"),
    "shape_bool": (file_bytes({"a": entry([True], 0, 4)}, 4), "impossible shape"),
    "shape_0": (file_bytes({"a": entry([0], 0, 0)}), "impossible shape"),
    "shape_wraps": (
        file_bytes({"a": entry([4194305, 4194305, 211106198978564], 0, 16)}, 16),
        "has the offsets",
    ),
    "shape_bytes": (file_bytes({"a": entry([3], 0, 16)}, 16), "of 12 bytes has the offsets"),
    "offsets_text": (file_bytes({"a": entry([1], "0", 4)}, 4), "impossible offsets"),
    "offsets_three": (
        file_bytes({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, 1),
        "impossible offsets",
    ),
    "offsets_swapped": (file_bytes({"a": entry([1], 4, 0)}, 4), "has the offsets"),
    "overlap": (
        file_bytes({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12), "b begins at 4"
    ),
    "hole": (file_bytes({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, 20), "begins at 12"),
    "data_cut": (file_bytes(GOOD, 23), "take 24 bytes but it holds 23"),
    "data_more": (file_bytes(GOOD, 25), "take 24 bytes but it holds 25"),
    "name": (file_bytes({"a\x1b[2J": entry([1], 0, 4)}, 4), "can't be printed"),
    "too_many": (
        file_bytes({str(i): 0 for i in range(100_001)}), "more than 100000"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_refused_in_one_line(opened: Open, content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(content)
    assert "\n" not in caught.value.message


def test_file_cut_at_any_byte_is_refused(opened: Open) -> None:
    content = file_bytes(GOOD, 24)
    assert set(opened(content)) == {"a", "b"}
    for length in range(len(content)):
        with pytest.raises(CheckpointError):
            opened(content[:length])


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 120), patch=st.binary(min_size=1, max_size=6))
def test_changed_bytes_give_tensors_or_a_checkpoint_error(
    opened: Open, place: int, patch: bytes
) -> None:
    content = bytearray(file_bytes(GOOD, 24))
    content[place : place + len(patch)] = patch
    try:
        opened(bytes(content))
    except CheckpointError as error:
        assert "\n" not in error.message


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"isn't a file"):
        open_safetensors(tmp_path)
