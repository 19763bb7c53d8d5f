"""From the folder of an embedding model to an encoder that is ready to use.

Reads and packs its weights; raises `ConfigError` for what the operator has to change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.checkpoints.bert_folder import BertFolder
from outrider.checkpoints.bert_weights import BertWeights
from outrider.config import EngineConfig
from outrider.engine.embedder import Embedder
from outrider.engine.engine import Engine
from outrider.engine.loader import load_engine
from outrider.kernels.formats import Format
from outrider.machine import trim_heap
from outrider.model.encoder import Encoder

# bf16 keeps a cosine of 0.9999 to f32 and takes two thirds of its time (docs/LOG.md, 2026-11-21).
FORMATS = {"auto": Format.BF16, "bf16": Format.BF16, "f32": Format.F32}


class EncoderWeights:
    """The weights of a folder as the encoder's kernels take them."""

    def __init__(self, weights: BertWeights, fmt: Format) -> None:
        self._weights, self._format = weights, fmt

    def weight(self, name: str) -> kernels.Weight:
        """Give a matrix as kernels take it."""
        rows, cols = self._weights.shape(name)
        data = self._weights.packed(name, self._format)
        return kernels.Weight(int(self._format), rows, cols, data)

    def vector(self, name: str) -> NDArray[np.float32]:
        """Give a vector."""
        return self._weights.values(name)

    def matrix(self, name: str) -> NDArray[np.float32]:
        """Give a table of embeddings as it is stored."""
        return self._weights.table(name)


def load_encoder(folder: BertFolder, context: kernels.Context, weights: str = "auto") -> Encoder:
    """Read and pack the weights of an embedding model."""
    tensors = EncoderWeights(BertWeights(folder), FORMATS[weights])
    encoder = Encoder(folder.config, tensors, context)
    trim_heap()
    return encoder


def load_with_embedder(
    config: EngineConfig, embedding_model: str
) -> tuple[Engine, Embedder | None]:
    """Load a chat model and, unless it is empty, the folder of an embedding model beside it.

    Both compute with the same threads.
    """
    loaded = load_engine(config)
    if not embedding_model:
        return loaded.engine, None
    encoder = load_encoder(BertFolder.open(Path(embedding_model)), loaded.context)
    return loaded.engine, Embedder(encoder)
