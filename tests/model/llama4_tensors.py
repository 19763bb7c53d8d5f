"""A tiny Llama 4 as the decoder takes it, without a file in between: weights packed as f32."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import layout
from outrider.kernels.formats import GROUP, Format
from outrider.model.batch import Batch, KvSlots
from outrider.model.config import BLOCK_SIZE, ModelConfig, RopeScaling
from outrider.model.decoder import Decoder, KvCache
from tiny_llama4 import TinyLlama4

F32Array = NDArray[np.float32]
I32Array = NDArray[np.int32]


class PlainTensors:
    """The decoder's look-ups over arrays in memory."""

    def __init__(self, model: TinyLlama4, fmt: Format = Format.F32) -> None:
        self.arrays, self.format = model.tensors, fmt

    def weight(self, name: str) -> kernels.Weight:
        values = self.arrays[name]
        fmt = Format.F32 if name.endswith(".router") else self.format
        return kernels.Weight(int(fmt), *values.shape, pack(values, fmt))

    def experts(self, name: str) -> kernels.Experts:
        values = self.arrays[name]
        data = np.concatenate([pack(matrix, self.format) for matrix in values])
        return kernels.Experts(int(self.format), *values.shape, data)

    def vector(self, name: str) -> F32Array:
        return self.arrays[name]

    def matrix(self, name: str) -> F32Array:
        return self.arrays[name].copy()


def pack(values: F32Array, fmt: Format) -> NDArray[np.uint8]:
    """Pack a matrix [N, K]; padding of K is zeros."""
    if fmt is Format.F32:
        return layout.pack_f32(values)
    if fmt is Format.BF16:
        return layout.pack_bf16(layout.f32_to_bf16(values))
    wide = np.pad(values, ((0, 0), (0, -values.shape[1] % GROUP)))
    return layout.pack_quants(layout.quantise(wide, fmt))


def model_config(model: TinyLlama4) -> ModelConfig:
    """Give the config that a reader of the model's files must arrive at; no image tower."""
    layers = range(model.num_layers)
    types = model.layer_types or ["chunked_attention" if f else "" for f in model.rope_flags]
    is_chunked = model.attention_chunk_size is not None
    scaling = {k: v for k, v in (model.rope_scaling or {}).items() if k != "rope_type"}
    return ModelConfig(
        architecture="llama4",
        name="tiny",
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size_mlp,
        num_heads=model.heads[0],
        num_kv_heads=model.heads[1],
        head_dim=model.heads[2],
        vocab_size=model.vocab_size,
        max_position_embeddings=model.max_position_embeddings,
        rms_norm_eps=model.rms_norm_eps,
        rope_theta=model.rope_theta,
        rope_scaling=msgspec.convert(scaling, RopeScaling) if scaling else None,
        tie_word_embeddings=model.tied,
        num_experts=model.num_experts,
        num_experts_per_token=model.top_k,
        expert_intermediate_size=model.intermediate_size,
        moe_layers=model.moe_layers,
        nope_layers=tuple(i for i in layers if not model.rope_flags[i]),
        chunked_layers=tuple(i for i in layers if is_chunked and types[i] == "chunked_attention"),
        attention_chunk_size=model.attention_chunk_size or 0,
        use_qk_norm=model.use_qk_norm,
        attn_temperature_tuning=model.attn_temperature_tuning,
        floor_scale=model.floor_scale,
        attn_scale=model.attn_scale,
    )


class Runner:
    """Runs sequences through a decoder; each owns the same blocks in every KV group."""

    def __init__(self, decoder: Decoder, dtype: str = "f32", blocks: int = 32) -> None:
        self.decoder, self.config = decoder, decoder.config
        self.dtype, self.blocks = dtype, blocks  # blocks per sequence

    def cache(self, num_sequences: int = 1) -> KvCache:
        counts = [self.blocks * num_sequences] * len(self.config.kv_groups())
        return KvCache(self.config, counts, self.dtype)

    def batch(self, parts: list[tuple[I32Array, int, int]]) -> Batch:
        """Lay out tokens begin .. end of each sequence; all rows get logits.

        Blocks that a chunked group could have freed have the entry -1, as the engine leaves them.
        """
        positions = [np.arange(begin, end, dtype=np.int32) for _, begin, end in parts]
        num_tokens = sum(end - begin for _, begin, end in parts)
        slots = [p + self.blocks * BLOCK_SIZE * s for s, p in enumerate(positions)]
        kv = []
        for group in self.config.kv_groups():
            tables = np.arange(self.blocks * len(parts), dtype=np.int32).reshape(len(parts), -1)
            for row, (_, begin, _) in zip(tables, parts, strict=True):
                chunk = group.chunk_size or begin + 1
                row[: begin // chunk * chunk // BLOCK_SIZE] = -1
            kv.append(KvSlots(np.concatenate(slots, dtype=np.int32), tables))
        return Batch(
            token_ids=np.concatenate([ids[begin:end] for ids, begin, end in parts]),
            positions=np.concatenate(positions),
            cu_query_lens=np.cumsum([0, *(len(p) for p in positions)], dtype=np.int32),
            seq_lens=np.array([end for _, _, end in parts], np.int32),
            kv=tuple(kv),
            logits_rows=np.arange(num_tokens, dtype=np.int32),
        )

    def logits(self, ids: I32Array) -> F32Array:
        """Compute logits [T, V] of one sequence in one step."""
        return self.decoder.forward(self.batch([(ids, 0, len(ids))]), self.cache()).copy()

    def greedy(self, ids: I32Array, max_tokens: int) -> list[int]:
        """Continue with the best token each time, one step per token."""
        cache, tokens, begin = self.cache(), ids, 0
        for _ in range(max_tokens):
            logits = self.decoder.forward(self.batch([(tokens, begin, len(tokens))]), cache)
            begin = len(tokens)
            tokens = np.append(tokens, np.int32(logits[-1].argmax())).astype(np.int32)
        return [int(token) for token in tokens[len(ids) :]]


def tiny_runner(
    model: TinyLlama4, context: kernels.Context, dtype: str = "f32", fmt: Format = Format.F32
) -> Runner:
    """Make a runner of a model without a file in between; `dtype` is that of the KV cache."""
    return Runner(Decoder(model_config(model), PlainTensors(model, fmt), context), dtype)


def random_ids(length: int, vocab_size: int, seed: int = 0) -> I32Array:
    """Draw token ids."""
    return np.random.RandomState(seed).randint(0, vocab_size, length).astype(np.int32)
