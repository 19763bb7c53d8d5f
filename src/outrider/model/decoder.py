"""The forward pass of the Llama family over packed weights and a paged KV cache.

One decoder serves every member: what differs between layers (rotary embedding, QK norm, attention
chunks, experts) is asked of the `ModelConfig`. It computes hidden states and logits for a `Batch`
and knows nothing of requests, sampling or time. A row's result never depends on the other rows of
its batch. T tokens, C hidden size, H heads, K KV heads, D head size, F intermediate size, E
experts, R rows of all experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from outrider.model.step import Step
from outrider.model.temperature import attention_temperatures

F32Array = NDArray[np.float32]


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
        step = self._step_of(batch, cache)
        self.compute(step)
        return step.logits

    def hidden_states(self, batch: Batch, cache: KvCache) -> Iterator[F32Array]:
        """Run the batch; give the residual stream [T, C] before the first and after every layer.

        It is the same array every time, and the next layer writes over it.
        """
        return self._run_layers(self._step_of(batch, cache))

    def compute(self, step: Step) -> None:
        """Compute a step's logits. But for images, kernels do all of it: it can be recorded."""
        for _ in self._run_layers(step):
            pass
        self._compute_logits(step)

    def rotary(self, positions: NDArray[np.int32]) -> tuple[F32Array, F32Array]:
        """Give cosines and sines [T, D/2] at positions [T]."""
        return self._rotary.at(positions)

    def temperatures(self, positions: NDArray[np.int32]) -> F32Array | None:
        """Give the factors [T] of queries in NoPE layers; None where the model has none."""
        return attention_temperatures(self.config, positions)

    def _step_of(self, batch: Batch, cache: KvCache) -> Step:
        cosines, sines = self.rotary(batch.positions)
        return Step(
            token_ids=batch.token_ids,
            cosines=cosines,
            sines=sines,
            temperatures=self.temperatures(batch.positions),
            cu_query_lens=batch.cu_query_lens,
            seq_lens=batch.seq_lens,
            kv=batch.kv,
            logits_rows=batch.logits_rows,
            images=batch.images,
            cache=cache,
            scratch=self._use_scratch(batch.num_tokens),
            logits=np.empty((len(batch.logits_rows), self.config.vocab_size), np.float32),
        )

    def _run_layers(self, step: Step) -> Iterator[F32Array]:
        x = step.scratch.x
        kernels.embed(self.context, self.embed_tokens, step.token_ids, x)
        if step.images is not None:
            x[step.images.rows] = step.images.features
        yield x
        for index, layer in enumerate(self.layers):
            self._add_attention(index, layer, step)
            self._add_feed_forward(layer, step.scratch)
            yield x

    def _add_attention(self, index: int, layer: Layer, step: Step) -> None:
        s, context, eps = step.scratch, self.context, self.config.rms_norm_eps
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

    def _attend(self, index: int, step: Step) -> None:
        s, layer_cache = step.scratch, step.cache.layers[index]
        slots = step.kv[self._group_of[index]]
        kernels.store_kv(self.context, s.k_heads, s.v_heads, layer_cache, slots.slot_mapping)
        kernels.attend(
            self.context,
            s.q_heads,
            layer_cache,
            (slots.block_tables, step.cu_query_lens, step.seq_lens),
            self.config.chunk_size_of(index),
            self.config.head_dim**-0.5,
            s.attended_heads,
        )

    def _add_feed_forward(self, layer: Layer, s: Scratch) -> None:
        eps = self.config.rms_norm_eps
        kernels.rmsnorm(self.context, s.x, layer.post_attention_layernorm, eps, s.normed)
        if isinstance(layer.feed_forward, Mlp):
            self._add_mlp(layer.feed_forward, s)
        else:
            self._add_mlp(layer.feed_forward.shared_expert, s)
            self._add_experts(layer.feed_forward, s)

    def _add_mlp(self, mlp: Mlp, s: Scratch) -> None:
        context = self.context
        gate, up = s.gate_and_up(s.num_tokens, mlp.gate_proj.rows)  # [T, F]
        kernels.linear(context, s.normed, (mlp.gate_proj, mlp.up_proj), (gate, up))
        kernels.swiglu(context, gate, up, gate)
        kernels.linear(context, gate, (mlp.down_proj,), (s.x,), accumulate=True)

    def _add_experts(self, moe: Moe, s: Scratch) -> None:
        context = self.context
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

    def _compute_logits(self, step: Step) -> None:
        """Normalise the wanted rows [R, C] of the residual stream and project them → [R, V]."""
        s, context, num_rows = step.scratch, self.context, len(step.logits_rows)
        hidden = s.normed[:num_rows]
        kernels.gather_rows(context, s.x, step.logits_rows, s.ones[:num_rows], hidden)
        kernels.rmsnorm(context, hidden, self.norm, self.config.rms_norm_eps, hidden)
        if num_rows:
            kernels.linear(context, hidden, (self.lm_head,), (step.logits,))

    def _use_scratch(self, num_tokens: int) -> Scratch:
        if self._scratch.num_tokens != num_tokens:
            buffers = self._scratch.buffers
            if buffers.capacity < num_tokens:
                buffers = Buffers(self.config, num_tokens)
            self._scratch = Scratch(self.config, buffers, num_tokens)
        return self._scratch
