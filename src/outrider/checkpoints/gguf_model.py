"""A dense Llama or a Llama 4 out of a GGUF file, as a `Source`.

The image tower of a Llama 4 comes from the `mmproj` file beside it, if there is one. Other
architectures are refused, and tensors that are missing, unknown or of another shape than the
metadata says. Rows of q_proj and k_proj are interleaved in such files already.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from outrider.checkpoints import chat_template
from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.gguf import GgufFile, GgufTensor, open_gguf
from outrider.checkpoints.gguf_config import GgufParts, generation_defaults, llama_config
from outrider.checkpoints.gguf_llama4 import llama4_config, rope_warnings
from outrider.checkpoints.gguf_metadata import Metadata
from outrider.checkpoints.gguf_names import ROPE_DIVISORS, Place, places
from outrider.checkpoints.gguf_quants import to_matrix, to_values
from outrider.checkpoints.gguf_tokenizer import GgufTokenizer, has_tokenizer
from outrider.checkpoints.gguf_vision import (
    DEFAULT_PATCH_TOKEN_ID,
    PATCH_TOKEN,
    vision_config,
    vision_places,
)
from outrider.checkpoints.model_files import mmproj_file
from outrider.checkpoints.source import ALL_ROWS, Matrix, TensorSpec, check_tensors
from outrider.errors import CheckpointError
from outrider.kernels.layout import F32Array, U8Array

_CONFIGS = {"llama": llama_config, "llama4": llama4_config}


@dataclass(frozen=True)
class _StoredTensor:
    """A canonical tensor: all or some rows of one in a file, which `label` names."""

    tensor: GgufTensor
    place: Place
    label: str

    def rows(self, rows: slice) -> U8Array:
        """Copy the blocks of some rows, u8 [N, bytes per row]; a vector is one row."""
        begin, end, _ = rows.indices(math.prod(self.place.shape[:-1]))
        first = self.place.first_row
        return self.tensor.rows(slice(first + begin, first + max(begin, end)))


class GgufModel:
    """An opened GGUF file; implements `Source`."""

    def __init__(self, path: Path) -> None:
        self._file = open_gguf(path)
        label = str(self._file.path)
        metadata = Metadata(label, self._file.metadata)
        architecture = metadata.string("general.architecture", "missing")
        _check_architecture(label, architecture)
        self._tokenizer = (
            GgufTokenizer(self._file.metadata, label)
            if has_tokenizer(self._file.metadata)
            else None
        )
        self._tokenizer_json: str | None = None
        template = metadata.string("tokenizer.chat_template", "")
        token_ids = {} if self._tokenizer is None else self._tokenizer.token_ids
        self.chat_format = chat_template.chat_format(template, token_ids)
        is_chatml = self.chat_format == "chatml"
        self.default_system = chat_template.default_system(template) if is_chatml else ""
        self.generation = generation_defaults(metadata)
        parts = GgufParts(self._file, metadata, self._tokenizer, self.chat_format)
        self.config = _CONFIGS[architecture](parts)
        self.warnings: Sequence[str] = (
            rope_warnings(self.config) if architecture == "llama4" else ()
        )
        self._check_vocabulary(label)
        self._tensors = _stored_tensors(
            self._file, places(self.config, self._file.tensors), frozenset({ROPE_DIVISORS})
        )
        # Of a dense Llama it is only a neighbour that `source_files` can't tell from its own.
        self._mmproj = mmproj_file(self._file.path)
        if self._mmproj is not None and architecture == "llama4":
            self._add_vision(open_gguf(self._mmproj))

    def _check_vocabulary(self, label: str) -> None:
        num_tokens = 0 if self._tokenizer is None else len(self._tokenizer.tokens)
        if num_tokens > self.config.vocab_size:
            raise CheckpointError(
                f"{label}: the tokenizer has {num_tokens} tokens but token_embd.weight has "
                f"{self.config.vocab_size} rows; fetch the model again"
            )

    def _add_vision(self, mmproj: GgufFile) -> None:
        patch_token_id = self._patch_token_id(mmproj)
        vision = vision_config(mmproj, self.config, patch_token_id)
        self.config = msgspec.structs.replace(self.config, vision=vision)
        self._tensors |= _stored_tensors(
            mmproj, vision_places(self.config, mmproj.tensors), frozenset()
        )

    def _patch_token_id(self, mmproj: GgufFile) -> int:
        token_ids = {} if self._tokenizer is None else self._tokenizer.token_ids
        default = None if self._tokenizer is not None else DEFAULT_PATCH_TOKEN_ID
        token_id = token_ids.get(PATCH_TOKEN, default)
        if token_id is None or token_id >= self.config.vocab_size:
            raise CheckpointError(
                f"{self._file.path}: the vocabulary has no token {PATCH_TOKEN}, which images need; "
                f"convert the model again, or move {mmproj.path.name} elsewhere to use text alone"
            )
        return token_id

    def files(self) -> list[Path]:
        """Give the file, or all parts of a split one, and the mmproj file."""
        return [*self._file.files, *([] if self._mmproj is None else [self._mmproj])]

    def tensor_names(self) -> list[str]:
        """Give the canonical names of all tensors."""
        return list(self._tensors)

    def spec(self, name: str) -> TensorSpec:
        """Give the shape and format of a tensor without reading it."""
        stored = self._tensors[name]
        shape = stored.place.shape
        return TensorSpec(shape, stored.tensor.type.format if len(shape) > 1 else None)

    def tensor(self, name: str, rows: slice = ALL_ROWS) -> Matrix:
        """Read some rows of a matrix in the format of its spec, or a vector as f32."""
        stored = self._tensors[name]
        if len(stored.place.shape) == 1:
            return self.values(name)
        return to_matrix(stored.tensor.type, stored.rows(rows), stored.label)

    def values(self, name: str, rows: slice = ALL_ROWS) -> F32Array:
        """Read some rows of a matrix, or a vector, as exact values."""
        stored = self._tensors[name]
        is_vector = len(stored.place.shape) == 1
        data = stored.rows(ALL_ROWS if is_vector else rows)
        values = to_values(stored.tensor.type, data, stored.label)
        return values[0] if is_vector else values

    def tokenizer_json(self) -> str:
        """Build the tokenizer from the metadata; "" if the file has none."""
        if self._tokenizer_json is None:  # takes seconds with 200,000 tokens
            self._tokenizer_json = "" if self._tokenizer is None else self._tokenizer.to_json()
        return self._tokenizer_json


def _check_architecture(label: str, architecture: str) -> None:
    if architecture == "clip":
        raise CheckpointError(
            f"{label} is the image tower (mmproj) of a model; name the model's own .gguf file, "
            "which finds this one in its folder"
        )
    if architecture not in _CONFIGS:
        raise CheckpointError(
            f"{label}: the architecture is {shown(architecture)}; Outrider runs "
            f"{' and '.join(_CONFIGS)}"
        )


def _stored_tensors(
    file: GgufFile, wanted: Iterator[tuple[str, Place]], optional: frozenset[str]
) -> dict[str, _StoredTensor]:
    label = str(file.path)
    found = {name: _shape(tensor) for name, tensor in file.tensors.items()}
    expected: dict[str, tuple[int, ...]] = {}
    result = {}
    for name, place in wanted:
        own_name = place.own_name
        if own_name not in found:  # said at once: the number of layers is only a claim
            check_tensors(label, {own_name: place.own_shape}, found)
        expected[own_name] = place.own_shape
        tensor = replace(file.tensors[own_name], shape=found[own_name])
        result[name] = _StoredTensor(tensor, place, f"{label}: tensor {own_name}")
    check_tensors(label, expected, found, optional)
    return result


def _shape(tensor: GgufTensor) -> tuple[int, ...]:
    """Give a tensor's shape; a convolution's kernel [N, 3, P, P] is a matrix of the same bytes."""
    shape = tensor.shape
    return shape if len(shape) < 4 else (shape[0], math.prod(shape[1:]))
