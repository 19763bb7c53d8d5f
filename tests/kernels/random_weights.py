"""Random packed weights of every format, and a call of `linear` that owns its output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import formats, layout
from outrider.kernels.formats import Format

ISAS = kernels.supported_isas()
SHAPES = [(1, 1), (7, 33), (16, 32), (31, 64), (33, 96), (48, 576), (100, 7)]


def random_weight(fmt: Format, rows: int, cols: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng([rows, cols, seed])
    values = rng.standard_normal((rows, cols)).astype(np.float32)
    if fmt is Format.F32:
        return layout.pack_f32(values)
    if fmt is Format.BF16:
        return layout.pack_bf16(layout.f32_to_bf16(values))
    wide = np.zeros((rows, formats.padded(cols, formats.GROUP)), np.float32)
    wide[:, :cols] = values
    return layout.pack_quants(layout.quantise(wide, fmt))


def run_linear(
    context: kernels.Context, x: NDArray[np.float32], weight: kernels.Weight
) -> NDArray[np.float32]:
    out = np.full((len(x), weight.rows), np.nan, np.float32)
    kernels.linear(context, x, [weight], [out])
    return out
