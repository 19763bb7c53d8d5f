"""The forward pass of the Llama family over packed weights and a paged KV cache.

One decoder serves every member: what differs between layers (rotary embedding, attention chunks)
is asked of the `ModelConfig`. It computes hidden states and logits for a `Batch` and knows nothing
of requests, sampling or time. T tokens, C hidden size, H heads, K KV heads, D head size, F
intermediate size, V vocabulary.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.model.batch import Batch
from outrider.model.config import BLOCK_SIZE, ModelConfig
from outrider.model.rope import RotaryTable

F32Array = NDArray[np.float32]


class KvCache:
    """Keys and values of every layer in blocks of 16 positions.

    Per layer k [N, K, D, B] and v [N, K, B, D]; float32, or bf16 bit patterns in uint16. Memory is
    only touched when a block is first written, so an unused cache costs address space.
    """

    def __init__(self, config: ModelConfig, num_blocks: int, dtype: str) -> None:
        kind = np.dtype({"f32": np.float32, "bf16": np.uint16}[dtype])
        k_shape = (num_blocks, config.num_kv_heads, config.head_dim, BLOCK_SIZE)
        v_shape = (num_blocks, config.num_kv_heads, BLOCK_SIZE, config.head_dim)
        self.layers = [
            (_lazy_zeros(k_shape, kind), _lazy_zeros(v_shape, kind))
            for _ in range(config.num_layers)
        ]
        self.num_blocks = num_blocks


def _lazy_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array of zeros that takes memory page by page.

    NumPy asks for huge pages, and then the first block of every layer would take 2 MiB.
    """
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


@dataclass(frozen=True)
class Layer:
    """Weights of one decoder layer; fields are named as in Hugging Face's checkpoints."""

    input_layernorm: F32Array  # [C]
    q_proj: kernels.Weight  # [H D, C]
    k_proj: kernels.Weight  # [K D, C]
    v_proj: kernels.Weight  # [K D, C]
    o_proj: kernels.Weight  # [C, H D]
    post_attention_layernorm: F32Array  # [C]
    gate_proj: kernels.Weight  # [F, C]
    up_proj: kernels.Weight  # [F, C]
    down_proj: kernels.Weight  # [C, F]


class Tensors(Protocol):
    """Where weights come from: a packed model, or anything with its two look-ups."""

    def weight(self, name: str) -> kernels.Weight:
        """Give a matrix by its canonical name."""
        ...

    def vector(self, name: str) -> F32Array:
        """Give a norm's gain [C] by its canonical name."""
        ...


def read_layer(tensors: Tensors, index: int) -> Layer:
    """Collect the weights of layer `index`."""
    prefix = f"layers.{index}."
    return Layer(
        input_layernorm=tensors.vector(prefix + "input_layernorm"),
        q_proj=tensors.weight(prefix + "q_proj"),
        k_proj=tensors.weight(prefix + "k_proj"),
        v_proj=tensors.weight(prefix + "v_proj"),
        o_proj=tensors.weight(prefix + "o_proj"),
        post_attention_layernorm=tensors.vector(prefix + "post_attention_layernorm"),
        gate_proj=tensors.weight(prefix + "gate_proj"),
        up_proj=tensors.weight(prefix + "up_proj"),
        down_proj=tensors.weight(prefix + "down_proj"),
    )


class Scratch:
    """Buffers of one step, kept between steps of the same number of tokens."""

    def __init__(self, config: ModelConfig, num_tokens: int) -> None:
        heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

        def empty(cols: int) -> F32Array:
            return np.empty((num_tokens, cols), np.float32)

        self.x = empty(config.hidden_size)  # [T, C] the residual stream
        self.normed = empty(config.hidden_size)
        self.q, self.k, self.v = empty(heads), empty(kv_heads), empty(kv_heads)
        self.attended = empty(heads)
        self.gate, self.up = empty(config.intermediate_size), empty(config.intermediate_size)
        shape = (num_tokens, -1, config.head_dim)
        self.q_heads = self.q.reshape(shape)  # views [T, H, D] and [T, K, D]
        self.k_heads, self.v_heads = self.k.reshape(shape), self.v.reshape(shape)
        self.attended_heads = self.attended.reshape(shape)


class Decoder:
    """Computes logits for batches of tokens; owns no request state but the cache it is given."""

    def __init__(self, config: ModelConfig, tensors: Tensors, context: kernels.Context) -> None:
        self.config = config
        self.context = context
        self.embed_tokens = tensors.weight("embed_tokens")  # [V, C]
        self.layers = [read_layer(tensors, index) for index in range(config.num_layers)]
        self.norm = tensors.vector("norm")  # [C]
        tied = config.tie_word_embeddings
        self.lm_head = self.embed_tokens if tied else tensors.weight("lm_head")  # [V, C]
        self._rotary = RotaryTable(config)
        self._scratch = Scratch(config, 1)

    def forward(self, batch: Batch, cache: KvCache) -> F32Array:
        """Run the batch through every layer and give logits [R, V] of its `logits_rows`.

        Writes the tokens' keys and values into `cache` at their slots.
        """
        config, context = self.config, self.context
        s = self._scratch_for(len(batch.token_ids))
        cosines, sines = self._rotary.at(batch.positions)  # [T, D/2]
        kernels.embed(context, self.embed_tokens, batch.token_ids, s.x)
        for index, layer in enumerate(self.layers):
            kernels.rmsnorm(context, s.x, layer.input_layernorm, config.rms_norm_eps, s.normed)
            kernels.linear(
                context, s.normed, (layer.q_proj, layer.k_proj, layer.v_proj), (s.q, s.k, s.v)
            )
            if not config.is_nope_layer(index):
                kernels.rope(context, s.q_heads, cosines, sines)
                kernels.rope(context, s.k_heads, cosines, sines)
            self._attend(index, batch, cache)
            kernels.linear(context, s.attended, (layer.o_proj,), (s.x,), accumulate=True)
            kernels.rmsnorm(
                context, s.x, layer.post_attention_layernorm, config.rms_norm_eps, s.normed
            )
            kernels.linear(context, s.normed, (layer.gate_proj, layer.up_proj), (s.gate, s.up))
            kernels.swiglu(context, s.gate, s.up, s.gate)
            kernels.linear(context, s.gate, (layer.down_proj,), (s.x,), accumulate=True)
        return self._logits(s.x[batch.logits_rows])

    def _attend(self, index: int, batch: Batch, cache: KvCache) -> None:
        s, layer_cache = self._scratch, cache.layers[index]
        kernels.store_kv(self.context, s.k_heads, s.v_heads, *layer_cache, batch.slot_mapping)
        kernels.attend(
            self.context,
            s.q_heads,
            layer_cache,
            (batch.block_tables, batch.cu_query_lens, batch.seq_lens),
            self.config.attention_chunk_size(index),
            self.config.head_dim**-0.5,
            s.attended_heads,
        )

    def _logits(self, hidden: F32Array) -> F32Array:
        """Normalise hidden states [R, C] and project them → [R, V]."""
        kernels.rmsnorm(self.context, hidden, self.norm, self.config.rms_norm_eps, hidden)
        logits = np.empty((len(hidden), self.config.vocab_size), np.float32)
        if len(hidden):
            kernels.linear(self.context, hidden, (self.lm_head,), (logits,))
        return logits

    def _scratch_for(self, num_tokens: int) -> Scratch:
        if len(self._scratch.x) != num_tokens:
            self._scratch = Scratch(self.config, num_tokens)
        return self._scratch
