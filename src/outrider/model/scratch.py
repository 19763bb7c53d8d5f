"""The buffers of a step, kept from step to step.

They grow to the longest step seen and never shrink: fresh pages of a long step cost more than its
elementwise kernels. Their content means nothing between steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outrider.model.config import ModelConfig

F32Array = NDArray[np.float32]


class Buffers:
    """The memory, for steps of up to `capacity` tokens."""

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        rows = capacity * max(config.num_experts_per_token, 1)
        heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        has_dense = len(config.moe_layers) < config.num_layers
        width = max(
            capacity * config.intermediate_size if has_dense else 0,
            rows * config.expert_intermediate_size,
        )

        def empty(count: int) -> F32Array:
            return np.empty(count, np.float32)

        self.capacity = capacity
        self.hidden = [empty(capacity * config.hidden_size) for _ in range(2)]
        self.q, self.attended = empty(capacity * heads), empty(capacity * heads)
        self.k, self.v = empty(capacity * kv_heads), empty(capacity * kv_heads)
        self.gate, self.up = empty(width), empty(width)
        self.router_logits = empty(capacity * config.num_experts)
        self.routed = empty(rows * config.hidden_size if config.moe_layers else 0)
        self.rows, self.factors = np.empty(rows, np.int32), empty(rows)
        self.ones = np.ones(capacity, np.float32)


class Scratch:
    """The buffers as arrays of a step of `num_tokens` tokens."""

    def __init__(self, config: ModelConfig, buffers: Buffers, num_tokens: int) -> None:
        def view(buffer: F32Array, rows: int, cols: int) -> F32Array:
            return buffer[: rows * cols].reshape(rows, cols)

        t, c = num_tokens, config.hidden_size
        h, k, d = config.num_heads, config.num_kv_heads, config.head_dim
        self.buffers, self.num_tokens = buffers, num_tokens
        self.x = view(buffers.hidden[0], t, c)  # [T, C] the residual stream
        self.normed = view(buffers.hidden[1], t, c)
        self.q, self.attended = view(buffers.q, t, h * d), view(buffers.attended, t, h * d)
        self.k, self.v = view(buffers.k, t, k * d), view(buffers.v, t, k * d)
        self.q_heads, self.attended_heads = (
            array.reshape(t, h, d) for array in (self.q, self.attended)
        )
        self.k_heads, self.v_heads = (array.reshape(t, k, d) for array in (self.k, self.v))
        # One row per token and head, for the norm over a head's values.
        self.q_rows, self.k_rows = self.q.reshape(t * h, d), self.k.reshape(t * k, d)
        self.router_logits = view(buffers.router_logits, t, config.num_experts)  # [T, E]
        # [R, C], R = T x experts per token: inputs of the experts, then their outputs
        rows = t * config.num_experts_per_token if config.moe_layers else 0
        self.routed = view(buffers.routed, rows, c)
        # The routing: rows sorted by expert, their tokens and factors, and where experts begin.
        self.rows, self.factors = buffers.rows[:rows], buffers.factors[:rows]  # [R]
        self.cu_rows = np.empty(config.num_experts + 1, np.int32)
        self.ones = buffers.ones[:t]

    def gate_and_up(self, rows: int, width: int) -> tuple[F32Array, F32Array]:
        """Give two arrays [rows, width] for a SwiGLU; the next call's are the same memory."""
        size = rows * width
        gate, up = self.buffers.gate[:size], self.buffers.up[:size]
        return gate.reshape(rows, width), up.reshape(rows, width)
