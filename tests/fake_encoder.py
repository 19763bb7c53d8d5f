"""An encoder whose vectors are sums over a text's token ids, in so many steps."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from outrider.model.config import EncoderConfig, Pooling

CONFIG = EncoderConfig(
    name="fake",
    num_layers=3,
    hidden_size=4,
    intermediate_size=4,
    num_heads=2,
    vocab_size=100,
    max_position_embeddings=600,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    max_model_len=600,
)


class FakeEncoder:
    """Notes the sizes of its batches; a text's vector is (length, sum, first id, pooling)."""

    def __init__(self, config: EncoderConfig = CONFIG) -> None:
        self.config = config
        self.batches: list[list[int]] = []
        self.num_steps = 0

    def steps(
        self, texts: Sequence[Sequence[int]], pooling: Pooling | None = None
    ) -> Generator[None, None, NDArray[np.float32]]:
        self.batches.append([len(text) for text in texts])
        for _ in range(self.config.num_layers):
            self.num_steps += 1
            yield
        is_cls = (pooling or self.config.pooling) == "cls"
        return np.array([vector(text, is_cls) for text in texts], np.float32)


def vector(text: Sequence[int], is_cls: bool = False) -> list[int]:
    return [len(text), sum(text), text[0], int(is_cls)]
