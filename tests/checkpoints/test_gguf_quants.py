"""Block types against the gguf package, which is the oracle."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider.checkpoints.gguf_quants import BlockType, to_matrix, to_values
from outrider.checkpoints.source import Bf16Bits, Matrix
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import Quants, bf16_to_f32
from tiny_models import dequantised, encoded

# Largest error relative to the largest value. Q4_K and Q5_K: products of scales rounded to f16
# (2^-11 of scale and of offset); Q2_K, Q3_K and Q6_K: half a step of q8, 1/254.
TOLERANCES = {"Q4_K": 2**-10, "Q5_K": 2**-10, "Q2_K": 0.004, "Q3_K": 0.004, "Q6_K": 0.004}


def random_values(rows: int = 7, cols: int = 512) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((rows, cols)).astype(np.float32)


def as_bytes(blocks: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(blocks).view(np.uint8)


def dense(matrix: Matrix) -> NDArray[np.float32]:
    if isinstance(matrix, Quants):
        return matrix.dequantise()
    return bf16_to_f32(matrix.bits) if isinstance(matrix, Bf16Bits) else matrix


@pytest.mark.parametrize("kind", BlockType, ids=lambda kind: kind.name)
def test_values_equal_those_of_the_gguf_package(kind: BlockType) -> None:
    values = random_values()
    blocks = as_bytes(encoded(values, kind.name))
    np.testing.assert_array_equal(
        to_values(kind, blocks, "x"), dequantised(values, kind.name), strict=True
    )


@pytest.mark.parametrize("kind", BlockType, ids=lambda kind: kind.name)
def test_matrix_stands_for_the_same_values(kind: BlockType) -> None:
    values = random_values()
    matrix = to_matrix(kind, as_bytes(encoded(values, kind.name)), "x")
    expected = dequantised(values, kind.name)
    error = np.abs(dense(matrix) - expected).max() / np.abs(expected).max()
    assert error <= TOLERANCES.get(kind.name, 0)
    if isinstance(matrix, Quants):
        assert matrix.format is kind.format
        assert matrix.q.max() <= matrix.format.max_quant
        assert matrix.scale.shape == (7, 512 // 32)
    else:
        assert kind.format is (Format.BF16 if isinstance(matrix, Bf16Bits) else Format.F32)


@pytest.mark.parametrize("kind", BlockType, ids=lambda kind: kind.name)
@given(data=st.data())
def test_any_bytes_give_the_oracles_values_or_an_error(
    kind: BlockType, data: st.DataObject
) -> None:
    num_values = max(kind.block_values, 4)
    nbytes = num_values // kind.block_values * kind.block_nbytes
    content = data.draw(st.binary(min_size=2 * nbytes, max_size=2 * nbytes))
    rows = np.frombuffer(content, np.uint8).reshape(2, nbytes)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind.name])
    expected = np.asarray(expected, np.float32).reshape(2, num_values)
    if np.isfinite(expected).all():
        np.testing.assert_array_equal(to_values(kind, rows, "x"), expected)
    else:
        with pytest.raises(CheckpointError, match=r"NaN or infinite"):
            to_values(kind, rows, "x")


@pytest.mark.parametrize("kind", BlockType, ids=lambda kind: kind.name)
@pytest.mark.parametrize("bits", [0x7E00, 0x7C00, 0xFC00], ids=["nan", "inf", "minus_inf"])
def test_scale_that_is_no_number_is_refused_with_the_tensors_name(
    kind: BlockType, bits: int
) -> None:
    blocks = as_bytes(encoded(random_values(), kind.name)).copy()
    places = {"Q2_K": 80, "Q3_K": 108, "Q6_K": 208}
    at = places.get(kind.name, 0)
    if kind in (BlockType.F32, BlockType.BF16):
        at, bits = blocks.shape[1] - 2, 0x7FC0 if bits == 0x7E00 else bits | 0x7F80
    blocks[2, at : at + 2] = np.array([bits], "<u2").view(np.uint8)
    for read in (to_matrix, to_values):
        with pytest.raises(CheckpointError, match=r"blk.0.attn_q has a NaN or infinite"):
            read(kind, blocks, "blk.0.attn_q")


def test_product_of_scales_beyond_f16_is_refused() -> None:
    blocks = as_bytes(encoded(random_values(1, 256), "Q4_K")).copy()
    blocks[0, 0:2] = np.array([60000], np.float16).view(np.uint8)
    blocks[0, 4:16] = 63
    with pytest.raises(CheckpointError, match=r"infinite scale"):
        to_matrix(BlockType.Q4_K, blocks, "x")
