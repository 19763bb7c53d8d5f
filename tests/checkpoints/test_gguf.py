"""The GGUF container: good files of every kind, and every hostile one of the catalogue."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.gguf import GgufFile, open_gguf
from outrider.checkpoints.gguf_quants import BlockType, to_values
from outrider.errors import CheckpointError
from tiny_models import effective_tensors, gguf_name, random_llama, vocabulary, write_gguf

F32, Q4_0 = 0, 2


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(key: str, kind: int, content: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + content


def tensor(
    name: str = "a", dims: tuple[int, ...] = (32, 2), kind: int = F32, offset: int = 0
) -> bytes:
    numbers = b"".join(struct.pack("<Q", dim) for dim in dims)
    return text(name) + struct.pack("<I", len(dims)) + numbers + struct.pack("<IQ", kind, offset)


def file_bytes(
    values: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    *,
    counts: tuple[int, int] | None = None,
    version: int = 3,
    data: int = 256,
) -> bytes:
    num_tensors, num_values = counts or (len(tensors), len(values))
    head = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_values)
    head += b"".join(values) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + b"\1" * data


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], GgufFile]:
    def write_and_open(content: bytes) -> GgufFile:
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
        return open_gguf(path)

    return write_and_open


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_tensors_read_back_as_written(tmp_path: Path, type_name: str) -> None:
    model = random_llama()
    file = open_gguf(write_gguf(model, tmp_path / "m.gguf", type_name))
    for name, expected in effective_tensors(model, type_name).items():
        stored = file.tensors[gguf_name(name)]
        assert stored.shape == expected.shape
        rows = to_values(stored.type, stored.rows(slice(None)), name)
        np.testing.assert_array_equal(rows.reshape(expected.shape), expected)
        assert not stored.data.flags.writeable


def test_metadata_reads_back_as_written(tmp_path: Path) -> None:
    extra = {"x.int": -5, "x.float": 0.5, "x.bool": True, "x.text": "naïve", "x.list": [1, 2, 3]}
    metadata = open_gguf(write_gguf(random_llama(), tmp_path / "m.gguf", extra=extra)).metadata
    assert [metadata[key] for key in list(extra)[:4]] == [-5, 0.5, True, "naïve"]
    assert list(metadata["x.list"]) == [1, 2, 3]
    assert metadata["tokenizer.ggml.tokens"] == vocabulary()


def test_every_value_type_and_nested_arrays_are_read(opened: Callable[[bytes], GgufFile]) -> None:
    inner = struct.pack("<IQ", 8, 1) + text("deep")
    file = opened(
        file_bytes(
            (
                value("u8", 0, b"\xff"), value("i8", 1, b"\xff"), value("u16", 2, b"\xff\xff"),
                value("i16", 3, b"\xff\xff"), value("u64", 10, b"\xff" * 8),
                value("i64", 11, b"\xff" * 8), value("f64", 12, struct.pack("<d", 0.1)),
                value("nested", 9, struct.pack("<IQ", 9, 2) + inner + inner),
                value("empty", 9, struct.pack("<IQ", 8, 0)),
            )
        )
    )  # fmt: skip
    assert file.metadata == {
        "u8": 255, "i8": -1, "u16": 65535, "i16": -1, "u64": 2**64 - 1, "i64": -1, "f64": 0.1,
        "nested": [["deep"], ["deep"]], "empty": [],
    }  # fmt: skip


def test_version_2_is_read(opened: Callable[[bytes], GgufFile]) -> None:
    file = opened(file_bytes((), (tensor(),), version=2))
    assert file.tensors["a"].shape == (2, 32)
    assert file.tensors["a"].type is BlockType.F32


HOSTILE = {
    "empty": (b"", "0 bytes"),
    "magic": (b"GGML" + file_bytes()[4:], "isn't a GGUF file"),
    "version_1": (file_bytes(version=1), "version 1"),
    "version_4": (file_bytes(version=4), "version 4"),
    "big_endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big endian"),
    "tensor_count": (file_bytes(counts=(2**63, 0)), "9223372036854775808 tensors don't fit"),
    "value_count": (file_bytes(counts=(0, 2**63)), "metadata values don't fit"),
    "key_too_long": (
        file_bytes((struct.pack("<Q", 70000) + b"k" * 70000 + b"\0" * 12,)), "has 70000 bytes"
    ),
    "string_past_end": (
        file_bytes((value("k", 8, struct.pack("<Q", 2**62)),)), "needs 4611686018427387904 bytes"
    ),
    "string_not_utf8": (
        file_bytes((value("k", 8, struct.pack("<Q", 2) + b"\xff\xfe"),)), "isn't UTF-8"
    ),
    "array_past_end": (
        file_bytes((value("k", 9, struct.pack("<IQ", 4, 2**61)),)), "the file ends"
    ),
    "strings_past_end": (
        file_bytes((value("k", 9, struct.pack("<IQ", 8, 2**40)),)), "don't fit"
    ),
    "element_past_end": (
        file_bytes((value("k", 9, struct.pack("<IQQ", 8, 2, 2**63)),)), "longer than the file"
    ),
    "element_not_utf8": (
        file_bytes((value("k", 9, struct.pack("<IQQ", 8, 1, 1) + b"\xff"),)), "element 0"
    ),
    "array_depth": (
        file_bytes((value("k", 9, struct.pack("<IQ", 9, 1) * 8),)), "nested deeper"
    ),
    "value_type": (file_bytes((value("k", 13, b""),)), "unknown type 13"),
    "bool": (file_bytes((value("k", 7, b"\2"),)), "neither true nor false"),
    "duplicate_key": (file_bytes((value("k", 7, b"\1"),) * 2), "'k' occurs twice"),
    "name_unprintable": (file_bytes((), (tensor("a\nb"),)), "can't be printed"),
    "duplicate_tensor": (file_bytes((), (tensor(), tensor(offset=32))), "tensor a occurs twice"),
    "tensor_type": (file_bytes((), (tensor(kind=99),)), "number 99"),
    "known_other_type": (file_bytes((), (tensor(kind=23),)), "IQ4_XS"),
    "no_dims": (file_bytes((), (tensor(dims=()),)), "0 dimensions"),
    "five_dims": (file_bytes((), (tensor(dims=(1,) * 5),)), "5 dimensions"),
    "dim_0": (file_bytes((), (tensor(dims=(32, 0)),)), "a dimension of 0"),
    "dims_overflow": (file_bytes((), (tensor(dims=(2**32, 2**32)),)), "past the file's end"),
    "dims_wrap_to_small": (
        file_bytes((), (tensor(dims=(4194305, 4194305, 211106198978564)),)), "past the file's end"
    ),
    "row_no_block": (file_bytes((), (tensor(dims=(33,), kind=Q4_0),)), "blocks of 32"),
    "offset_unaligned": (file_bytes((), (tensor(offset=8, dims=(1,)),)), "not 32-aligned"),
    "offset_past_end": (file_bytes((), (tensor(offset=2**63),)), "past the file's end"),
    "offset_wraps": (file_bytes((), (tensor(offset=2**64 - 32),)), "past the file's end"),
    "data_cut": (file_bytes((), (tensor(),), data=255), "the file has"),
    "overlap": (
        file_bytes((), (tensor("a"), tensor("b", offset=224)), data=512), "overlaps tensor a"
    ),
    "alignment_0": (
        file_bytes((value("general.alignment", 4, struct.pack("<I", 0)),)), "power of 2"
    ),
    "alignment_24": (
        file_bytes((value("general.alignment", 4, struct.pack("<I", 24)),)), "power of 2"
    ),
    "alignment_huge": (
        file_bytes((value("general.alignment", 10, struct.pack("<Q", 2**63)),)), "power of 2"
    ),
    "alignment_text": (file_bytes((value("general.alignment", 8, text("x")),)), "power of 2"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_refused_in_one_line(
    opened: Callable[[bytes], GgufFile], content: bytes, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(content)
    assert "\n" not in caught.value.message
    assert "x.gguf" in caught.value.message


def whole_file() -> bytes:
    strings = struct.pack("<IQ", 8, 3) + text("a") + text("bc") + text("ñ")
    numbers = struct.pack("<IQ", 5, 4) + struct.pack("<4i", 1, 2, 3, 4)
    values = (
        value("general.alignment", 4, struct.pack("<I", 32)),
        value("s", 9, strings),
        value("n", 9, numbers),
        value("t", 8, text("text")),
    )
    tensors = (tensor("a", (8,), F32, 0), tensor("b", (32, 3), Q4_0, 32))
    return file_bytes(values, tensors, data=32 + 54)


def test_file_cut_at_any_byte_is_refused(opened: Callable[[bytes], GgufFile]) -> None:
    content = whole_file()
    assert set(opened(content).tensors) == {"a", "b"}
    for length in range(len(content)):
        with pytest.raises(CheckpointError):
            opened(content[:length])


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_bytes_give_a_file_or_a_checkpoint_error(
    opened: Callable[[bytes], GgufFile], data: st.DataObject
) -> None:
    content = bytearray(whole_file())
    places = st.tuples(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=9))
    for place, patch in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place : place + len(patch)] = patch
    try:
        file = opened(bytes(content))
    except CheckpointError as error:
        assert "\n" not in error.message
    else:
        for stored in file.tensors.values():
            assert stored.data.size == stored.rows(slice(None)).size


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(CheckpointError, match=r"isn't a file"):
            open_gguf(path)


def test_vocabulary_of_100_000_strings_is_read_fast(opened: Callable[[bytes], GgufFile]) -> None:
    strings = b"".join(text(f"token{number}") for number in range(100_000))
    content = file_bytes((value("k", 9, struct.pack("<IQ", 8, 100_000) + strings),))
    begin = time.perf_counter()
    assert opened(content).metadata["k"][99_999] == "token99999"
    assert time.perf_counter() - begin < 2  # takes 0.05 s; the bound only catches a slow path


def test_any_part_of_a_split_file_opens_the_whole(tmp_path: Path) -> None:
    model = random_llama()
    whole = open_gguf(write_gguf(model, tmp_path / "whole.gguf"))
    write_gguf(model, tmp_path / "m.gguf", split_tensors=6)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) > 2
    for part in parts:
        file = open_gguf(part)
        assert file.files == tuple(parts)
        assert set(file.tensors) == set(whole.tensors)
        assert file.metadata["general.name"] == "tiny llama"


def test_missing_part_is_named(tmp_path: Path) -> None:
    first = write_gguf(random_llama(), tmp_path / "m.gguf", split_tensors=6)
    second = sorted(tmp_path.glob("m-*.gguf"))[1]
    second.unlink()
    with pytest.raises(CheckpointError, match=f"{second.name} is missing"):
        open_gguf(first)


def test_parts_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    first = write_gguf(random_llama(), tmp_path / "m.gguf", split_tensors=6)
    _, second, third, *_ = sorted(tmp_path.glob("m-*.gguf"))
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"says it is part 2"):
        open_gguf(first)


def test_renamed_part_is_refused(tmp_path: Path) -> None:
    first = write_gguf(random_llama(), tmp_path / "m.gguf", split_tensors=6)
    alone = first.rename(tmp_path / "alone.gguf")
    with pytest.raises(CheckpointError, match=r"one part of a split file"):
        open_gguf(alone)
    zeroth = alone.rename(tmp_path / "m-00000-of-00004.gguf")
    with pytest.raises(CheckpointError, match=r"part 0 of 4"):
        open_gguf(zeroth)


def test_parts_with_too_few_tensors_are_refused(tmp_path: Path) -> None:
    split = value("split.no", 2, b"\0\0"), value("split.count", 2, b"\2\0")
    total = value("split.tensors.count", 5, struct.pack("<i", 5))
    other = value("split.no", 2, b"\1\0"), value("split.count", 2, b"\2\0")
    first = tmp_path / "m-00001-of-00002.gguf"
    first.write_bytes(file_bytes((*split, total), (tensor("a"),)))
    second = tmp_path / "m-00002-of-00002.gguf"
    second.write_bytes(file_bytes(other, (tensor("b"),)))
    with pytest.raises(CheckpointError, match=r"hold 2 tensors but the first says 5"):
        open_gguf(first)
    second.write_bytes(file_bytes(other, (tensor("a"),)))
    with pytest.raises(CheckpointError, match=r"tensor a is in an earlier part"):
        open_gguf(first)
