"""The forward pass of the Llama family over packed weights and a paged KV cache.

One decoder serves every member: what differs between layers (rotary embedding, QK norm, attention
chunks, experts) is asked of the `ModelConfig`. It computes hidden states and logits for a `Batch`
and knows nothing of requests, sampling or time. A row's result never depends on the other rows of
its batch. T tokens, C hidden size, H heads, K KV heads, D head size, F intermediate size, E
experts, R rows of all experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.model.batch import Batch
from outrider.model.config import ModelConfig
from outrider.model.kv_cache import KvCache as KvCache
from outrider.model.layer import Layer, Mlp, Moe, read_layer
from outrider.model.layer import Tensors as Tensors
from outrider.model.rope import RotaryTable
from outrider.model.scratch import Buffers, Scratch
from outrider.model.temperature import attention_temperatures

F32Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Step:
    """What all layers of a step share."""

    batch: Batch
    cache: KvCache
    cosines: F32Array  # [T, D/2]
    sines: F32Array  # [T, D/2]
    temperatures: F32Array | None  # [T], factors of the queries in NoPE layers; None: all are 1


class Decoder:
    """Computes logits for batches of tokens; owns no request state but the cache it is given."""

    def __init__(self, config: ModelConfig, tensors: Tensors, context: kernels.Context) -> None:
        self.config = config
        self.context = context
        self.embed_tokens = tensors.weight("embed_tokens")  # [V, C]
        self.layers = [read_layer(config, tensors, index) for index in range(config.num_layers)]
        self.norm = tensors.vector("norm")  # [C]
        tied = config.tie_word_embeddings
        self.lm_head = self.embed_tokens if tied else tensors.weight("lm_head")  # [V, C]
        self._rotary = RotaryTable(config)
        self._ones = np.ones(config.head_dim, np.float32)  # gain of the weightless QK norm
        self._group_of = {
            layer: index for index, group in enumerate(config.kv_groups()) for layer in group.layers
        }
        self._scratch = Scratch(config, Buffers(config, 1), 1)

    def forward(self, batch: Batch, cache: KvCache) -> F32Array:
        """Run the batch through every layer and give logits [R, V] of its `logits_rows`.

        Writes the tokens' keys and values into `cache` at their slots.
        """
        for _ in self.hidden_states(batch, cache):
            pass
        return self._logits(self._scratch.x[batch.logits_rows])

    def hidden_states(self, batch: Batch, cache: KvCache) -> Iterator[F32Array]:
        """Run the batch; give the residual stream [T, C] before the first and after every layer.

        It is the same array every time, and the next layer writes over it.
        """
        s = self._use_scratch(batch.num_tokens)
        cosines, sines = self._rotary.at(batch.positions)
        temperatures = attention_temperatures(self.config, batch.positions)
        step = _Step(batch, cache, cosines, sines, temperatures)
        kernels.embed(self.context, self.embed_tokens, batch.token_ids, s.x)
        if batch.images is not None:
            s.x[batch.images.rows] = batch.images.features
        yield s.x
        for index, layer in enumerate(self.layers):
            self._add_attention(index, layer, step)
            self._add_feed_forward(layer)
            yield s.x

    def _add_attention(self, index: int, layer: Layer, step: _Step) -> None:
        s, context, eps = self._scratch, self.context, self.config.rms_norm_eps
        kernels.rmsnorm(context, s.x, layer.input_layernorm, eps, s.normed)
        projections = (layer.q_proj, layer.k_proj, layer.v_proj)
        kernels.linear(context, s.normed, projections, (s.q, s.k, s.v))
        if not self.config.is_nope_layer(index):
            kernels.rope(context, s.q_heads, step.cosines, step.sines)
            kernels.rope(context, s.k_heads, step.cosines, step.sines)
            if self.config.use_qk_norm:
                kernels.rmsnorm(context, s.q_rows, self._ones, eps, s.q_rows)
                kernels.rmsnorm(context, s.k_rows, self._ones, eps, s.k_rows)
        elif step.temperatures is not None:
            kernels.scale_rows(context, s.q, step.temperatures)
        self._attend(index, step)
        kernels.linear(context, s.attended, (layer.o_proj,), (s.x,), accumulate=True)

    def _attend(self, index: int, step: _Step) -> None:
        s, batch, layer_cache = self._scratch, step.batch, step.cache.layers[index]
        slots = batch.kv[self._group_of[index]]
        kernels.store_kv(self.context, s.k_heads, s.v_heads, layer_cache, slots.slot_mapping)
        kernels.attend(
            self.context,
            s.q_heads,
            layer_cache,
            (slots.block_tables, batch.cu_query_lens, batch.seq_lens),
            self.config.chunk_size_of(index),
            self.config.head_dim**-0.5,
            s.attended_heads,
        )

    def _add_feed_forward(self, layer: Layer) -> None:
        s, eps = self._scratch, self.config.rms_norm_eps
        kernels.rmsnorm(self.context, s.x, layer.post_attention_layernorm, eps, s.normed)
        if isinstance(layer.feed_forward, Mlp):
            self._add_mlp(layer.feed_forward)
        else:
            self._add_mlp(layer.feed_forward.shared_expert)
            self._add_experts(layer.feed_forward)

    def _add_mlp(self, mlp: Mlp) -> None:
        s, context = self._scratch, self.context
        gate, up = s.gate_and_up(s.num_tokens, mlp.gate_proj.rows)  # [T, F]
        kernels.linear(context, s.normed, (mlp.gate_proj, mlp.up_proj), (gate, up))
        kernels.swiglu(context, gate, up, gate)
        kernels.linear(context, gate, (mlp.down_proj,), (s.x,), accumulate=True)

    def _add_experts(self, moe: Moe) -> None:
        s, context = self._scratch, self.context
        kernels.linear(context, s.normed, (moe.router,), (s.router_logits,))
        rows, factors, cu_rows = s.rows, s.factors, s.cu_rows
        top_k = self.config.num_experts_per_token
        kernels.route(context, s.router_logits, top_k, rows, factors, cu_rows)
        gate, up = s.gate_and_up(len(rows), self.config.expert_intermediate_size)  # [R, F]
        kernels.gather_rows(context, s.normed, rows, factors, s.routed)
        kernels.grouped_linear(context, s.routed, cu_rows, (moe.gate_proj, moe.up_proj), (gate, up))
        kernels.swiglu(context, gate, up, gate)
        kernels.grouped_linear(context, gate, cu_rows, (moe.down_proj,), (s.routed,))
        kernels.scatter_add(context, s.routed, rows, s.x)

    def _logits(self, hidden: F32Array) -> F32Array:
        """Normalise hidden states [R, C] and project them → [R, V]."""
        kernels.rmsnorm(self.context, hidden, self.norm, self.config.rms_norm_eps, hidden)
        logits = np.empty((len(hidden), self.config.vocab_size), np.float32)
        if len(hidden):
            kernels.linear(self.context, hidden, (self.lm_head,), (logits,))
        return logits

    def _use_scratch(self, num_tokens: int) -> Scratch:
        if self._scratch.num_tokens != num_tokens:
            buffers = self._scratch.buffers
            if buffers.capacity < num_tokens:
                buffers = Buffers(self.config, num_tokens)
            self._scratch = Scratch(self.config, buffers, num_tokens)
        return self._scratch
