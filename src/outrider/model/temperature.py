"""Attention temperature of NoPE layers: queries grow with their absolute position.

Layers without rotary embedding see the whole context; Llama 4 sharpens their attention for late
positions (scalable softmax, arXiv 2501.19399) by a factor per query. It is 1 up to position
floor_scale - 2, so short texts can't tell whether it is there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outrider.model.config import ModelConfig

F32Array = NDArray[np.float32]


def attention_temperatures(config: ModelConfig, positions: NDArray[np.int32]) -> F32Array | None:
    """Give the factors [T] of the queries at positions [T]; None where the model has none."""
    if not (config.attn_temperature_tuning and config.nope_layers):
        return None
    # In f32 throughout, as transformers (modeling_llama4.py, Llama4TextAttention) computes it.
    passed = np.floor((positions.astype(np.float32) + 1) / np.float32(config.floor_scale))
    factors = np.log1p(passed) * np.float32(config.attn_scale) + np.float32(1)
    return np.asarray(factors, np.float32)
