"""The encoder of the BERT family: token ids in, one vector per text out.

embeddings → norm → L times (attention in both directions, norm, MLP, norm) → pooling. Texts lie one
behind the other without padding, so a text costs what its own tokens cost and its vector doesn't
depend on its neighbours. Nothing is truncated: too long a text is for the caller to refuse. T
tokens of all texts, S texts, C hidden size, F MLP width, H heads, D head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.model.config import BLOCK_SIZE, EncoderConfig, Pooling, padded_head_dim
from outrider.model.vision_layer import Affine, Norm

F32Array = NDArray[np.float32]
I32Array = NDArray[np.int32]


class EncoderTensors(Protocol):
    """Where weights come from, by their names in Hugging Face's checkpoints."""

    def weight(self, name: str) -> kernels.Weight:
        """Give a matrix as kernels take it."""
        ...

    def vector(self, name: str) -> F32Array:
        """Give a vector."""
        ...

    def matrix(self, name: str) -> F32Array:
        """Give a table of embeddings as it is stored."""
        ...


@dataclass(frozen=True)
class EncoderLayer:
    """Weights of one layer."""

    query: Affine  # [C, C]
    key: Affine
    value: Affine
    attention_output: Affine  # [C, C]
    attention_norm: Norm
    intermediate: Affine  # [F, C]
    output: Affine  # [C, F]
    output_norm: Norm

    @classmethod
    def read(cls, tensors: EncoderTensors, index: int) -> EncoderLayer:
        """Collect the weights of layer `index`."""
        p = f"encoder.layer.{index}."
        return cls(
            query=_affine(tensors, p + "attention.self.query"),
            key=_affine(tensors, p + "attention.self.key"),
            value=_affine(tensors, p + "attention.self.value"),
            attention_output=_affine(tensors, p + "attention.output.dense"),
            attention_norm=_norm(tensors, p + "attention.output.LayerNorm"),
            intermediate=_affine(tensors, p + "intermediate.dense"),
            output=_affine(tensors, p + "output.dense"),
            output_norm=_norm(tensors, p + "output.LayerNorm"),
        )


class TextBatch:
    """Where the tokens of several texts lie, and the cache blocks that attention uses for them."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        lengths = [len(text) for text in texts]
        self.num_texts, self.num_tokens = len(texts), sum(lengths)
        self.token_ids = np.fromiter(itertools.chain.from_iterable(texts), np.int32)  # [T]
        self.positions = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
        self.cu_lens = np.cumsum([0, *lengths], dtype=np.int32)  # [S + 1]
        num_blocks = [-(-n // BLOCK_SIZE) for n in lengths]
        first = np.cumsum([0, *num_blocks], dtype=np.int32)
        self.num_blocks = int(first[-1])
        # A text's blocks are neighbours; what lies beyond its own is never looked at.
        tables = first[:-1, None] + np.arange(max(num_blocks), dtype=np.int32)
        seq_lens = np.array(lengths, np.int32)
        self.sequences = (np.minimum(tables, self.num_blocks - 1), self.cu_lens, seq_lens)
        self.slots = np.repeat(first[:-1] * BLOCK_SIZE, lengths) + self.positions


class EncoderScratch:
    """Buffers for so many tokens and blocks; `take` gives views of the beginning of each."""

    def __init__(self, config: EncoderConfig, num_tokens: int, num_blocks: int) -> None:
        self.num_tokens, self.num_blocks = num_tokens, num_blocks
        heads, dim = config.num_heads, config.head_dim
        self._narrow = np.empty((5, num_tokens, config.hidden_size), np.float32)
        self._wide = np.empty((num_tokens, config.intermediate_size), np.float32)
        self._k = np.zeros((num_blocks, heads, dim, BLOCK_SIZE), np.float32)
        self._v = np.zeros((num_blocks, heads, BLOCK_SIZE, padded_head_dim(dim)), np.float32)
        self._heads = (heads, dim)

    def take(self, batch: TextBatch) -> None:
        """Lay out the buffers for a batch."""
        n, heads = batch.num_tokens, (batch.num_tokens, *self._heads)
        self.x, self.q, self.k, self.v, self.attended = (part[:n] for part in self._narrow)
        self.wide = self._wide[:n]
        self.q_heads, self.k_heads = self.q.reshape(heads), self.k.reshape(heads)
        self.v_heads, self.attended_heads = self.v.reshape(heads), self.attended.reshape(heads)
        self.cache = (self._k[: batch.num_blocks], self._v[: batch.num_blocks])


class Encoder:
    """Encodes batches of texts, one after the other."""

    def __init__(
        self, config: EncoderConfig, tensors: EncoderTensors, context: kernels.Context
    ) -> None:
        self.config, self.context = config, context
        self._words = tensors.matrix("embeddings.word_embeddings.weight")  # [V, C]
        positions = tensors.matrix("embeddings.position_embeddings.weight")
        types = tensors.matrix("embeddings.token_type_embeddings.weight")
        self._positions = positions + types[0]  # [P, C]; there is one segment only
        self._norm = _norm(tensors, "embeddings.LayerNorm")
        self._layers = [EncoderLayer.read(tensors, i) for i in range(config.num_layers)]
        self._scratch = EncoderScratch(config, 0, 0)

    def encode(self, texts: Sequence[Sequence[int]], pooling: Pooling | None = None) -> F32Array:
        """Encode texts of token ids, [CLS] and [SEP] included → [S, C]."""
        steps = self.steps(texts, pooling)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                vectors: F32Array = end.value
                return vectors

    def steps(
        self, texts: Sequence[Sequence[int]], pooling: Pooling | None = None
    ) -> Generator[None, None, F32Array]:
        """Encode as `encode` does, with a pause after every layer; one batch at a time."""
        batch = TextBatch(texts)
        s = self._scratch
        if s.num_tokens < batch.num_tokens or s.num_blocks < batch.num_blocks:
            s = self._scratch = EncoderScratch(self.config, batch.num_tokens, batch.num_blocks)
        s.take(batch)
        np.take(self._words, batch.token_ids, axis=0, out=s.q)
        np.take(self._positions, batch.positions, axis=0, out=s.k)
        np.add(s.q, s.k, out=s.q)
        self._normalise(s.q, self._norm, s.x)
        for layer in self._layers:
            self._attend(layer, batch, s)
            self._feed_forward(layer, s)
            yield
        return pool(s.x, batch.cu_lens, pooling or self.config.pooling)

    def _attend(self, layer: EncoderLayer, batch: TextBatch, s: EncoderScratch) -> None:
        """x = norm(x + what the tokens of each text see of each other)."""
        context, inputs = self.context, (layer.query, layer.key, layer.value)
        kernels.linear(context, s.x, [part.weight for part in inputs], (s.q, s.k, s.v))
        for part, values in zip(inputs, (s.q, s.k, s.v), strict=True):
            kernels.add_bias(context, values, part.bias)
        kernels.store_kv(context, s.k_heads, s.v_heads, s.cache, batch.slots)
        scale = self.config.head_dim**-0.5
        kernels.attend(
            context,
            s.q_heads,
            s.cache,
            batch.sequences,
            0,
            scale,
            s.attended_heads,
            is_causal=False,
        )
        output = layer.attention_output
        kernels.linear(context, s.attended, (output.weight,), (s.x,), accumulate=True)
        kernels.add_bias(context, s.x, output.bias)
        self._normalise(s.x, layer.attention_norm, s.x)

    def _feed_forward(self, layer: EncoderLayer, s: EncoderScratch) -> None:
        """x = norm(x + what the MLP makes of it)."""
        context = self.context
        kernels.linear(context, s.x, (layer.intermediate.weight,), (s.wide,))
        kernels.add_bias(context, s.wide, layer.intermediate.bias)
        kernels.gelu(context, s.wide, s.wide)
        kernels.linear(context, s.wide, (layer.output.weight,), (s.x,), accumulate=True)
        kernels.add_bias(context, s.x, layer.output.bias)
        self._normalise(s.x, layer.output_norm, s.x)

    def _normalise(self, x: F32Array, norm: Norm, out: F32Array) -> None:
        kernels.layernorm(self.context, x, norm.gain, norm.bias, self.config.layer_norm_eps, out)


def pool(states: F32Array, cu_lens: I32Array, pooling: Pooling) -> F32Array:
    """Make one vector of each text's states [T, C] → [S, C]."""
    if pooling == "cls":
        return states[cu_lens[:-1]]
    spans = itertools.pairwise(cu_lens.tolist())
    # Text by text, and rows in their order: a sum that spans texts would depend on the batch.
    return np.stack(
        [states[begin:end].sum(axis=0) / np.float32(end - begin) for begin, end in spans]
    )


def _affine(tensors: EncoderTensors, name: str) -> Affine:
    return Affine(tensors.weight(f"{name}.weight"), tensors.vector(f"{name}.bias"))


def _norm(tensors: EncoderTensors, name: str) -> Norm:
    return Norm(tensors.vector(f"{name}.weight"), tensors.vector(f"{name}.bias"))
