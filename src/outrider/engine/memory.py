"""How much memory a model needs and how many KV blocks fit: the arithmetic behind the settings.

Pure functions of a model's config and the settings; nothing is allocated here. A budget that
can't hold one sequence of the asked length is refused with the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from outrider.config import EngineConfig
from outrider.errors import ConfigError
from outrider.model.config import BLOCK_SIZE, ModelConfig

MIB = 1 << 20
# Of the memory that is free once the weights are in, the cache may take this share by default.
_DEFAULT_SHARE = 0.5
# Sequences of full length that the default cache is made for; more would rarely be used.
_DEFAULT_FULL_SEQUENCES = 8


@dataclass(frozen=True)
class KvPlan:
    """The size of a KV cache."""

    dtype: str  # "f32" or "bf16"
    max_model_len: int  # tokens
    num_blocks: int
    block_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole cache; touched only as blocks are used."""
        return self.num_blocks * self.block_bytes


def plan_kv(
    config: EngineConfig, model: ModelConfig, weights_bytes: int, available_bytes: int | None
) -> KvPlan:
    """Choose dtype and number of blocks of the KV cache.

    `available_bytes` is the memory free before the weights are mapped; None: unknown, then only
    an explicit setting or the default size counts. Raises `ConfigError` when it can't fit.
    """
    dtype = config.kv if config.kv != "auto" else "f32" if config.weights == "f32" else "bf16"
    block_bytes = BLOCK_SIZE * model.kv_bytes_per_token(4 if dtype == "f32" else 2)
    max_model_len = config.max_model_len or model.max_position_embeddings
    if max_model_len > model.max_position_embeddings:
        raise ConfigError(
            f"--max-model-len is {max_model_len:,} but {model.name} was made for at most "
            f"{model.max_position_embeddings:,} tokens; lower it"
        )
    full_sequence = -(-max_model_len // BLOCK_SIZE)
    if config.kv_memory_mib:
        num_blocks = config.kv_memory_mib * MIB // block_bytes
    else:
        num_blocks = full_sequence * min(config.max_num_seqs, _DEFAULT_FULL_SEQUENCES)
        if available_bytes is not None:
            free = max(0, available_bytes - weights_bytes)
            num_blocks = min(num_blocks, int(free * _DEFAULT_SHARE) // block_bytes)
    if num_blocks < full_sequence and not config.max_model_len:
        # Nobody asked for the model's full length: serve what fits.
        max_model_len = min(max_model_len, num_blocks * BLOCK_SIZE)
        full_sequence = num_blocks
    plan = KvPlan(dtype, max_model_len, num_blocks, block_bytes)
    _check_fits(plan, full_sequence, weights_bytes, available_bytes)
    return plan


def _check_fits(
    plan: KvPlan, full_sequence: int, weights_bytes: int, available_bytes: int | None
) -> None:
    needed = max(1, full_sequence) * plan.block_bytes
    if plan.num_blocks < max(1, full_sequence):
        raise ConfigError(
            f"a sequence of {plan.max_model_len:,} tokens needs {_mib(needed)} MiB of KV cache but "
            f"{_mib(plan.total_bytes)} MiB are there; raise --kv-memory-mib, lower --max-model-len "
            "or free memory"
        )
    if available_bytes is not None and weights_bytes + plan.total_bytes > available_bytes:
        raise ConfigError(
            f"weights of {_mib(weights_bytes)} MiB and a KV cache of {_mib(plan.total_bytes)} MiB "
            f"don't fit into the {_mib(available_bytes)} MiB of memory that are free; choose "
            "smaller --weights, lower --kv-memory-mib or free memory"
        )


def _mib(num_bytes: int) -> str:
    return f"{-(-num_bytes // MIB):,}"
