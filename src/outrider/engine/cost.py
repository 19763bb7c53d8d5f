"""What a step must read and multiply at least, and the time that a machine's limits give for it.

Weights are counted as they are packed and once per step, an expert only if a row meets it, keys and
values as far as attention sees them. Nothing here is measured: limits come from `machine_limits`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from outrider.checkpoints.packed_format import Header, TensorEntry
from outrider.kernels.formats import Format
from outrider.model.config import ModelConfig

# Billions per second; a kind that the machine lacks is 0 or missing.
GmacPerS = Mapping[str, float]


@dataclass(frozen=True)
class StepCost:
    """The least work of a step: bytes read from memory, and products by the kind of number."""

    num_bytes: float
    macs: Mapping[str, float]  # of "int8", "bf16" and "f32"

    def read_seconds(self, read_gb_per_s: float) -> float:
        """Give the time of reading alone."""
        return self.num_bytes / read_gb_per_s / 1e9

    def product_seconds(self, gmac_per_s: GmacPerS) -> float | None:
        """Give the time of the products alone; None: the limit of some kind isn't known."""
        rates = {kind: _fastest(kind, gmac_per_s) for kind in self.macs}
        if not all(rates.values()):
            return None
        return sum(macs / rates[kind] / 1e9 for kind, macs in self.macs.items())

    def limit_seconds(self, read_gb_per_s: float, gmac_per_s: GmacPerS) -> float:
        """Give the least time: reading and multiplying overlap, so it is the longer of both.

        Where the products' limit isn't known, reading is all that counts.
        """
        return max(self.read_seconds(read_gb_per_s), self.product_seconds(gmac_per_s) or 0.0)


@dataclass(frozen=True)
class ModelCost:
    """The costs of a packed model."""

    config: ModelConfig
    kv: str  # "f32", "bf16" or "int8"
    step_bytes: int  # whatever the rows are
    expert_bytes: int  # one expert in every layer that has experts
    token_macs: Mapping[str, float]  # of one token without the output head
    head_macs: Mapping[str, float]

    @classmethod
    def of(cls, header: Header, kv: str) -> ModelCost:
        """Count a packed file's tensors; the image tower and rows of the embedding don't count."""
        config = header.config
        tensors = [t for t in header.tensors if not t.name.startswith("vision.")]
        head_name = "embed_tokens" if config.tie_word_embeddings else "lm_head"
        used = [t for t in tensors if t.name in ("norm", head_name) or "." in t.name]
        token_macs: dict[str, float] = {}
        for tensor in used:
            if tensor.format is not None and tensor.name != head_name:
                top_k = config.num_experts_per_token if len(tensor.shape) == 3 else 1
                kind = _kind(tensor.format)
                token_macs[kind] = token_macs.get(kind, 0) + top_k * _macs(tensor)
        (head,) = (tensor for tensor in used if tensor.name == head_name)
        assert head.format is not None
        return cls(
            config=config,
            kv=kv,
            step_bytes=sum(t.nbytes for t in used if len(t.shape) < 3),
            expert_bytes=sum(t.nbytes // t.shape[0] for t in used if len(t.shape) == 3),
            token_macs=token_macs,
            head_macs={_kind(head.format): _macs(head)},
        )

    def decode(self, num_seqs: int, context: float, experts_hit: float | None = None) -> StepCost:
        """Give the cost of one token for every sequence, each after `context` tokens."""
        kv_bytes = num_seqs * self._kv_bytes(context)
        pairs = num_seqs * self._visible_pairs(context)
        return self._step(num_seqs, num_seqs, kv_bytes, pairs, experts_hit)

    def prompt(
        self, num_tokens: int, experts_hit: float | None = None, num_seqs: int = 1
    ) -> StepCost:
        """Give the cost of whole prompts; only the last token of each meets the head.

        Weights count once, as if all were computed in one step.
        """
        num_rows = num_seqs * num_tokens
        pairs = num_rows * self._visible_pairs(num_tokens / 2)  # a triangle
        kv_bytes = num_seqs * self._kv_bytes(num_tokens)
        return self._step(num_rows, num_seqs, kv_bytes, pairs, experts_hit)

    def expected_hits(self, num_rows: int) -> float:
        """Give the experts that so many rows hit per layer if all experts are equally likely."""
        config = self.config
        if not config.num_experts:
            return 0
        missed = (1 - config.num_experts_per_token / config.num_experts) ** num_rows
        return config.num_experts * (1 - missed)

    def _step(
        self,
        num_rows: int,
        num_logits: int,
        kv_bytes: float,
        pairs: float,
        experts_hit: float | None,
    ) -> StepCost:
        hits = self.expected_hits(num_rows) if experts_hit is None else experts_hit
        macs = {kind: num_rows * count for kind, count in self.token_macs.items()}
        attention = 2 * pairs * self.config.num_heads * self.config.head_dim
        for kind, count in (*((k, num_logits * n) for k, n in self.head_macs.items()),
                            (self.kv, attention)):  # fmt: skip
            macs[kind] = macs.get(kind, 0) + count
        return StepCost(self.step_bytes + hits * self.expert_bytes + kv_bytes, macs)

    def _kv_bytes(self, context: float) -> float:
        """Give the bytes of the keys and values that one row sees in all layers."""
        config = self.config
        return sum(
            config.kv_bytes_per_token(group, self.kv) * _visible(context, group.chunk_size)
            for group in config.kv_groups()
        )

    def _visible_pairs(self, context: float) -> float:
        """Give the keys that one row meets in all layers."""
        return sum(
            len(group.layers) * _visible(context, group.chunk_size)
            for group in self.config.kv_groups()
        )


def _visible(context: float, chunk_size: int) -> float:
    return (context - 1) % chunk_size + 1 if chunk_size and context > chunk_size else context


def _macs(tensor: TensorEntry) -> float:
    """Count the products of one row with a matrix [N, K], or with one of [E, N, K]."""
    return float(math.prod(tensor.shape[-2:]))


def _kind(fmt: Format) -> str:
    if fmt.is_quantised:
        return "int8"
    return "bf16" if fmt is Format.BF16 else "f32"


def _fastest(kind: str, gmac_per_s: GmacPerS) -> float:
    """Give the rate of a kind; bf16 falls back to f32 where the machine has no such products."""
    rate = gmac_per_s.get(kind, 0.0)
    return rate or (gmac_per_s.get("f32", 0.0) if kind == "bf16" else 0.0)
