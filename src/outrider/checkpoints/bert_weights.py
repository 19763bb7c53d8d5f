"""The weights of an embedding model, from safetensors to what the encoder's kernels take.

Every shape is checked against the config before anything is read. Matrices are packed while they
are loaded: models of this kind are small, so a packed file would save a tenth of a second. Tables
of embeddings stay in the mapped file; only the rows that texts need are ever read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from outrider.checkpoints.bert_folder import BertFolder
from outrider.checkpoints.model_files import weight_files
from outrider.checkpoints.safetensors import StoredTensor, open_safetensors
from outrider.checkpoints.source import check_tensors
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, U8Array, bf16_to_f32, f32_to_bf16, pack_bf16, pack_f32
from outrider.model.config import EncoderConfig

_PREFIX = "bert."  # of models that were saved with a head
# Heads for other tasks than embedding, and a buffer that old versions stored.
_UNUSED = ("pooler.", "cls.", "classifier.", "embeddings.position_ids")


class BertWeights:
    """The tensors of one folder, by their names in Hugging Face's checkpoints."""

    def __init__(self, folder: BertFolder) -> None:
        self._label = str(folder.path)
        self._tensors: dict[str, StoredTensor] = {}
        for file in weight_files(folder.path):
            for name, tensor in open_safetensors(file).items():
                known = name.removeprefix(_PREFIX)
                if not known.startswith(_UNUSED):
                    self._tensors[known] = tensor
        found = {name: tensor.shape for name, tensor in self._tensors.items()}
        check_tensors(self._label, dict(expected_tensors(folder.config)), found)
        for name, tensor in self._tensors.items():
            if tensor.dtype not in ("F32", "F16", "BF16"):
                raise CheckpointError(
                    f"{self._label}: tensor {name} is {tensor.dtype}; Outrider reads embedding "
                    "models in F32, F16 and BF16"
                )

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor."""
        return self._tensors[name].shape

    def values(self, name: str) -> F32Array:
        """Read a tensor as f32."""
        tensor = self._tensors[name]
        data = tensor.rows(0, 1 if len(tensor.shape) == 1 else tensor.shape[0])
        values: F32Array
        match tensor.dtype:
            case "F32":
                values = data.view(np.float32)
            case "F16":
                values = data.view(np.float16).astype(np.float32)
            case _:
                values = bf16_to_f32(data.view(np.uint16))
        return values.reshape(tensor.shape)

    def table(self, name: str) -> F32Array:
        """Give a matrix as f32: where it is f32 already, as a view of the mapped file."""
        tensor = self._tensors[name]
        # The format aligns nothing but its data as a whole, and that to 8 bytes.
        if tensor.dtype == "F32" and tensor.data.ctypes.data % 4 == 0:
            return tensor.data.view(np.float32).reshape(tensor.shape)
        return self.values(name)

    def packed(self, name: str, weights: Format) -> U8Array:
        """Give a matrix as tiles of f32 or bf16."""
        values = self.values(name)
        return pack_f32(values) if weights is Format.F32 else pack_bf16(f32_to_bf16(values))


def expected_tensors(config: EncoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give name and shape of every tensor that an encoder of this config has."""
    c, f = config.hidden_size, config.intermediate_size
    yield "embeddings.word_embeddings.weight", (config.vocab_size, c)
    yield "embeddings.position_embeddings.weight", (config.max_position_embeddings, c)
    yield "embeddings.token_type_embeddings.weight", (config.type_vocab_size, c)
    norms = ["embeddings.LayerNorm"]
    for layer in range(config.num_layers):
        p = f"encoder.layer.{layer}."
        attention = ("self.query", "self.key", "self.value", "output.dense")
        parts = {f"attention.{part}": (c, c) for part in attention}
        for part, shape in (parts | {"intermediate.dense": (f, c), "output.dense": (c, f)}).items():
            yield f"{p}{part}.weight", shape
            yield f"{p}{part}.bias", shape[:1]
        norms += [f"{p}attention.output.LayerNorm", f"{p}output.LayerNorm"]
    for norm in norms:
        yield f"{norm}.weight", (c,)
        yield f"{norm}.bias", (c,)
