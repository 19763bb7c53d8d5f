"""How much memory a model needs and how many KV blocks fit: the arithmetic behind the settings.

Pure functions of a model's config and the settings; nothing is allocated here. Each KV group has a
pool of its own: layers that see everything need room for every token, chunked layers only for a
chunk and a step. A budget that can't hold one sequence of the asked length is refused with the
numbers and the choices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from outrider.config import EngineConfig
from outrider.errors import ConfigError
from outrider.model.config import BLOCK_SIZE, KvGroup, ModelConfig

MIB = 1 << 20
KV_TABLE_TOKENS = (32 << 10, 128 << 10, 256 << 10, 1 << 20, 10 << 20)
# Of the memory that is free once the weights are in, the cache may take this share by default.
_DEFAULT_SHARE = 0.5
# Sequences of full length that the default cache is made for; more would rarely be used.
_DEFAULT_FULL_SEQUENCES = 8
# When not even those fit, chunked layers get at most this share, so that long ones still do.
_CHUNKED_SHARE = 0.5


@dataclass(frozen=True)
class KvPlan:
    """The size of a KV cache; the tuples are in the order of `ModelConfig.kv_groups()`."""

    dtype: str  # "f32", "bf16" or "int8"
    max_model_len: int  # tokens
    num_blocks: tuple[int, ...]
    block_bytes: tuple[int, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole cache; touched only as blocks are used."""
        return _dot(self.num_blocks, self.block_bytes)


@dataclass(frozen=True)
class SequenceCost:
    """What sequences of one model take in the KV cache."""

    dtype: str
    groups: tuple[KvGroup, ...]
    block_bytes: tuple[int, ...]
    num_batched_tokens: int  # of one step, at most

    @classmethod
    def of(cls, model: ModelConfig, dtype: str, num_batched_tokens: int) -> SequenceCost:
        """Read it from a model's config."""
        groups = model.kv_groups()
        block_bytes = tuple(BLOCK_SIZE * model.kv_bytes_per_token(g, dtype) for g in groups)
        return cls(dtype, groups, block_bytes, num_batched_tokens)

    def num_blocks(self, num_tokens: int) -> tuple[int, ...]:
        """Count the blocks of each group that a sequence needs at most, while it is computed."""
        whole = blocks_of(num_tokens)
        return tuple(
            min(whole, self._widest(group.chunk_size)) if group.chunk_size else whole
            for group in self.groups
        )

    def num_bytes(self, num_tokens: int) -> int:
        """Count the bytes that a sequence needs at most."""
        return _dot(self.num_blocks(num_tokens), self.block_bytes)

    def longest(self, num_bytes: int, max_tokens: int) -> int:
        """Give the longest sequence, up to a limit, that so many bytes can hold."""
        if self.num_bytes(max_tokens) <= num_bytes:
            return max_tokens
        lengths = range(0, max_tokens + 1, BLOCK_SIZE)
        return lengths[bisect_right(lengths, num_bytes, key=self.num_bytes) - 1]

    def longest_in(self, num_blocks: Sequence[int]) -> int:
        """Give the longest sequence that pools of these sizes can hold."""
        longest = 2**53
        for group, count in zip(self.groups, num_blocks, strict=True):
            if not group.chunk_size or count < self._widest(group.chunk_size):
                longest = min(longest, count * BLOCK_SIZE)
        return longest

    def share(
        self, num_bytes: int, num_tokens: int, num_seqs: int, *, may_shorten: bool
    ) -> tuple[int, ...]:
        """Share bytes, which hold a sequence of `num_tokens`, between the pools.

        They are made for `num_seqs` such sequences or, if they are too few, for one and the chunks
        of others; with `may_shorten` for chunks of many rather than for all of the one's length.
        """
        one = self.num_blocks(num_tokens)
        ideal = [num_seqs * count for count in one]
        ideal_bytes = _dot(ideal, self.block_bytes)
        if num_bytes >= ideal_bytes:
            return tuple(count * num_bytes // ideal_bytes for count in ideal)
        if len(one) == 1:
            return (num_bytes // self.block_bytes[0],)
        full_bytes, chunk_bytes = self.block_bytes
        num_chunked = min(ideal[1], int(num_bytes * _CHUNKED_SHARE) // chunk_bytes)
        if not may_shorten:
            num_chunked = min(num_chunked, (num_bytes - one[0] * full_bytes) // chunk_bytes)
        num_chunked = max(num_chunked, one[1])
        return (num_bytes - num_chunked * chunk_bytes) // full_bytes, num_chunked

    def _widest(self, chunk_size: int) -> int:
        return widest_window(chunk_size, self.num_batched_tokens, BLOCK_SIZE)


def plan_kv(
    config: EngineConfig, model: ModelConfig, weights_bytes: int, available_bytes: int | None
) -> KvPlan:
    """Choose dtype, length of sequences and number of blocks of the KV cache.

    `available_bytes` is the memory free before the weights are mapped; None: unknown, then only
    an explicit setting or the default size counts. Raises `ConfigError` when it can't fit.
    """
    dtype = config.kv if config.kv != "auto" else "f32" if config.weights == "f32" else "bf16"
    cost = SequenceCost.of(model, dtype, config.max_num_batched_tokens)
    length = config.max_model_len or model.max_position_embeddings
    if length > model.max_position_embeddings:
        raise ConfigError(
            f"--max-model-len is {length:,} but {model.name} was made for at most "
            f"{model.max_position_embeddings:,} tokens; lower it"
        )
    used_bytes = weights_bytes + image_cache_bytes(config, model, length)
    num_seqs = min(config.max_num_seqs, _DEFAULT_FULL_SEQUENCES)
    budget = num_seqs * cost.num_bytes(length)
    if config.kv_memory_mib:
        budget = config.kv_memory_mib * MIB
    elif available_bytes is not None:
        _check_weights(used_bytes, available_bytes)
        budget = min(budget, int((available_bytes - used_bytes) * _DEFAULT_SHARE))
    longest = cost.longest(budget, length)
    if longest == 0 or (longest < length and config.max_model_len):
        raise _too_long(cost, config.max_model_len or 1, budget)
    num_blocks = cost.share(budget, longest, num_seqs, may_shorten=longest < length)
    longest = min(longest, cost.longest_in(num_blocks))
    plan = KvPlan(dtype, longest, num_blocks, cost.block_bytes)
    if available_bytes is not None and used_bytes + plan.total_bytes > available_bytes:
        raise _too_large(used_bytes, plan.total_bytes, available_bytes)
    return plan


def kv_bytes(model: ModelConfig, dtype: str, num_tokens: int) -> tuple[int, int]:
    """Give the bytes of one sequence: as they are kept, and were no block ever freed.

    The first counts full chunks, the most that chunked layers hold between two steps.
    """
    kept = naive = 0
    for group in model.kv_groups():
        token_bytes = model.kv_bytes_per_token(group, dtype)
        naive += num_tokens * token_bytes
        kept += min(num_tokens, group.chunk_size or num_tokens) * token_bytes
    return kept, naive


def image_cache_bytes(config: EngineConfig, model: ModelConfig, max_model_len: int) -> int:
    """Give the most bytes that encoded images can take: no prompt is all images and longer."""
    if model.vision is None:
        return 0
    num_seqs = min(config.max_num_seqs, _DEFAULT_FULL_SEQUENCES)
    return min(config.image_cache_mib * MIB, num_seqs * max_model_len * model.hidden_size * 4)


def widest_window(chunk_size: int, num_batched_tokens: int, block_size: int) -> int:
    """Count the most blocks of chunked layers that a sequence holds while a step is computed."""
    # A chunk but for its last token, and a step: anywhere, so with one block that is cut.
    return -(-(chunk_size - 1 + num_batched_tokens) // block_size) + 1


def blocks_of(num_tokens: int) -> int:
    """Count the blocks that tokens fill, the last one perhaps in part."""
    return -(-num_tokens // BLOCK_SIZE)


def _check_weights(used_bytes: int, available_bytes: int) -> None:
    if used_bytes >= available_bytes:
        raise ConfigError(
            f"the model needs {_mib(used_bytes)} MiB without any KV cache, which don't fit into "
            f"the {_mib(available_bytes)} MiB of memory that are free; choose smaller --weights "
            "(q8, q4), another model or free memory"
        )


def _too_long(cost: SequenceCost, num_tokens: int, budget: int) -> ConfigError:
    longest = cost.longest(budget, num_tokens)
    smaller = "" if cost.dtype == "int8" else "choose --kv int8, "
    return ConfigError(
        f"a sequence of {num_tokens:,} tokens needs {_mib(cost.num_bytes(num_tokens))} MiB of KV "
        f"cache but {_mib(budget)} MiB are there, enough for {longest:,}; raise --kv-memory-mib, "
        f"lower --max-model-len, {smaller}or free memory"
    )


def _too_large(used_bytes: int, kv_bytes: int, available_bytes: int) -> ConfigError:
    return ConfigError(
        f"weights of {_mib(used_bytes)} MiB and a KV cache of {_mib(kv_bytes)} MiB don't fit into "
        f"the {_mib(available_bytes)} MiB of memory that are free; choose smaller --weights, lower "
        "--kv-memory-mib or free memory"
    )


def _dot(counts: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(count * size for count, size in zip(counts, sizes, strict=True))


def _mib(num_bytes: int) -> str:
    return f"{-(-num_bytes // MIB):,}"
