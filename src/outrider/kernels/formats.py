"""The six formats of packed weights and their sizes; `layout` draws their tiles.

Free of NumPy, so that a process which only reads headers stays small.
"""

from __future__ import annotations

from enum import IntEnum

GROUP = 32  # values along K that share a scale
PANEL = 16  # output rows of a tile


class Format(IntEnum):
    """How a packed matrix stores its values; the numbers are those of kernels.h."""

    F32 = 0
    BF16 = 1
    Q8 = 2
    Q8_OFFSET = 3
    Q4 = 4
    Q4_OFFSET = 5

    @property
    def is_quantised(self) -> bool:
        """Whether values are integers with a scale per group."""
        return self >= Format.Q8

    @property
    def has_offset(self) -> bool:
        """Whether groups have an offset beside their scale."""
        return self in (Format.Q8_OFFSET, Format.Q4_OFFSET)

    @property
    def zero(self) -> int:
        """The unsigned quant that stands for 0 in the symmetric formats."""
        return {Format.Q8: 128, Format.Q4: 8}.get(self, 0)

    @property
    def max_quant(self) -> int:
        """The largest unsigned quant."""
        return 255 if self in (Format.Q8, Format.Q8_OFFSET) else 15


def padded(size: int, multiple: int) -> int:
    """Round `size` up to a multiple."""
    return -(-size // multiple) * multiple


def tile_nbytes(fmt: Format) -> int:
    """Give the bytes of one panel's 32 values along K."""
    if fmt is Format.F32:
        return PANEL * GROUP * 4
    if fmt is Format.BF16:
        return PANEL * GROUP * 2
    quants = PANEL * GROUP if fmt in (Format.Q8, Format.Q8_OFFSET) else PANEL * GROUP // 2
    return quants + PANEL * 2 * (2 if fmt.has_offset else 1)


def packed_nbytes(fmt: Format, rows: int, cols: int) -> int:
    """Give the bytes of a packed matrix [rows, cols], padding included."""
    return (padded(rows, PANEL) // PANEL) * (padded(cols, GROUP) // GROUP) * tile_nbytes(fmt)
