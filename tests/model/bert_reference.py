"""BERT in plain NumPy and float64, as the paper has it (Devlin et al., arXiv:1810.04805)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

F32Array = NDArray[np.float32]
F64Array = NDArray[np.float64]


def states(
    tensors: Mapping[str, F32Array], num_layers: int, num_heads: int, token_ids: Sequence[int]
) -> F64Array:
    """Give the last states [T, C] of one text."""
    t = {name: values.astype(np.float64) for name, values in tensors.items()}

    def norm(x: F64Array, name: str) -> F64Array:
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def dense(x: F64Array, name: str) -> F64Array:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    e = "embeddings."
    x = t[f"{e}word_embeddings.weight"][list(token_ids)]
    x = x + t[f"{e}position_embeddings.weight"][: len(token_ids)]
    x = norm(x + t[f"{e}token_type_embeddings.weight"][0], f"{e}LayerNorm")
    for layer in range(num_layers):
        p = f"encoder.layer.{layer}."
        q, k, v = (
            dense(x, f"{p}attention.self.{part}").reshape(len(x), num_heads, -1)
            for part in ("query", "key", "value")
        )
        scores = np.exp(np.einsum("thd,phd->htp", q, k) / math.sqrt(q.shape[2]))
        seen = np.einsum("htp,phd->thd", scores / scores.sum(axis=2, keepdims=True), v)
        attended = dense(seen.reshape(x.shape), f"{p}attention.output.dense")
        x = norm(x + attended, f"{p}attention.output.LayerNorm")
        wide = dense(x, f"{p}intermediate.dense")
        phi = np.vectorize(lambda value: (1 + math.erf(value / math.sqrt(2))) / 2)(wide)
        x = norm(x + dense(wide * phi, f"{p}output.dense"), f"{p}output.LayerNorm")
    return x
