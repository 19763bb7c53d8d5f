"""From the name of an embedding model to an encoder that is ready to use.

Finds the pulled model or the folder, reads and packs its weights; raises `ConfigError` for what
the operator has to change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.checkpoints.bert_folder import find_encoder
from outrider.checkpoints.bert_weights import BertWeights
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


def load_encoder(
    name_or_path: str, home: Path, context: kernels.Context, weights: str = "auto"
) -> Encoder:
    """Load an embedding model that has been pulled or is a folder."""
    folder = find_encoder(name_or_path, home)
    tensors = EncoderWeights(BertWeights(folder), FORMATS[weights])
    encoder = Encoder(folder.config, tensors, context)
    trim_heap()
    return encoder
