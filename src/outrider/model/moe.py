"""Which experts a step's tokens meet, and in which order.

Llama 4 routes by the raw router logits; the sigmoid of a chosen logit then scales the expert's
input, not its output. Tokens are grouped per expert, so that each expert's weights are read once.
A token's routing never depends on the other tokens of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32Array = NDArray[np.float32]
I32Array = NDArray[np.int32]


@dataclass(frozen=True)
class Routing:
    """Rows of the step sorted by expert: each token occurs once per expert that it meets."""

    rows: I32Array  # [R], the token of each row; ascending within an expert
    factors: F32Array  # [R], what the row's input is multiplied by
    cu_rows: I32Array  # [E + 1], expert e has the rows cu[e] .. cu[e + 1]


def route(logits: F32Array, top_k: int) -> Routing:
    """Choose the `top_k` experts of every token from router logits [T, E].

    Of equal logits the expert with the lower index wins.
    """
    num_experts = logits.shape[1]
    if top_k == 1:
        chosen = logits.argmax(axis=1)[:, None]
    else:
        chosen = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]  # [T, top_k]
    factors = _sigmoid(np.take_along_axis(logits, chosen, axis=1)).reshape(-1)
    experts = chosen.reshape(-1)
    order = np.argsort(experts, kind="stable")
    cu_rows = np.zeros(num_experts + 1, np.int32)
    np.cumsum(np.bincount(experts, minlength=num_experts), out=cu_rows[1:])
    return Routing((order // top_k).astype(np.int32), factors[order], cu_rows)


def _sigmoid(logits: F32Array) -> F32Array:
    # In f64, where neither tail overflows for f32 logits that a model can have; -inf gives 0.
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
