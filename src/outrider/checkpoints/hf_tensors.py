"""Which stored tensors make up each canonical tensor of a Hugging Face checkpoint.

It finds every tensor that the config asks for, however it is stored (plain, fused, one per
expert, quantised), checks its shape, and refuses whatever is left over. No data of weights is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from outrider.checkpoints.compressed_tensors import (
    Float8Matrix,
    Float8Scale,
    open_integers,
)
from outrider.checkpoints.hf_names import HfNames
from outrider.checkpoints.hf_quantisation import Quantisation
from outrider.checkpoints.safetensors import StoredTensor
from outrider.checkpoints.source import check_tensors, expected_tensors
from outrider.checkpoints.stored_matrix import (
    ExpertCache,
    PermutedMatrix,
    PlainMatrix,
    Reader,
    StackedExperts,
    TransposedExperts,
)
from outrider.errors import CheckpointError
from outrider.model.config import ModelConfig

_FLOAT8 = "F8_E4M3"
_SCALES = (".weight_scale", ".weight_scale_inv")
_FUSED_SCALES = ("_scale", "_scale_inv", "_weight_scale", ".weight_scale", ".scale")
_PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape")
# Scales of activations and of a quantised KV cache, which nothing here is quantised with; the
# image tower's frequencies, which old versions stored.
_UNUSED = re.compile(
    r"([._](input|output|q|k|v|kv)_scale|\.(input|output)_(zero_point|activation_scale)"
    r"|_scale_ub|\.rotary_embedding\.freqs_ci)$"
)


def open_tensors(
    label: str,
    found: Mapping[str, StoredTensor],
    config: ModelConfig,
    quantisation: Quantisation,
) -> dict[str, Reader]:
    """Give a reader for every canonical tensor of a model."""
    names = HfNames.of(label, found, config.architecture == "llama4")
    tensors = _Tensors(label, found, names, quantisation)
    readers: dict[str, Reader] = {}
    for name, shape in expected_tensors(config):
        reader = tensors.open(name, shape)
        if config.architecture == "llama" and name.endswith(("q_proj", "k_proj")):
            reader = PermutedMatrix(reader, config.head_dim)
        readers[name] = reader
    # Some tied checkpoints store the output matrix as well; the config decides.
    tensors.check_rest({names.own_name("lm_head")})
    return readers


class _Tensors:
    """The stored tensors of one checkpoint, and which of them have been asked for."""

    def __init__(
        self,
        label: str,
        found: Mapping[str, StoredTensor],
        names: HfNames,
        quantisation: Quantisation,
    ) -> None:
        self._label = label
        self._found = found
        self._shapes = {name: tensor.shape for name, tensor in found.items()}
        self._names = names
        self._quantisation = quantisation
        self._used: set[str] = set()
        self._cache = ExpertCache()

    def open(self, name: str, shape: tuple[int, ...]) -> Reader:
        """Find one canonical tensor."""
        if len(shape) == 3:
            return self._experts(name, (shape[0], shape[1], shape[2]))
        return self._module(self._names.own_name(name), shape)

    def check_rest(self, optional: set[str]) -> None:
        """Refuse tensors that are no part of the model."""
        rest = {
            name: shape
            for name, shape in self._shapes.items()
            if name not in self._used and not _UNUSED.search(name)
        }
        check_tensors(self._label, {}, rest, frozenset(optional))

    def _module(self, own_name: str, shape: tuple[int, ...]) -> Reader:
        """Open a vector or a matrix that may be quantised."""
        label = f"{self._label}: tensor {own_name}"
        module = own_name.removesuffix(".weight")
        stored = self._found.get(own_name)
        is_matrix = len(shape) == 2 and own_name.endswith(".weight")
        if is_matrix and (f"{module}.weight_packed" in self._found or _is(stored, "I8")):
            return self._integers(label, module, (shape[0], shape[1]))
        self._check(own_name, shape)
        assert stored is not None
        if not is_matrix or stored.dtype != _FLOAT8:
            return PlainMatrix(label, stored)
        scale = self._first(module, _SCALES)
        block = self._quantisation.block
        is_blocked = block is not None and scale.shape[1:] not in ((), (1,))
        return Float8Matrix(label, stored, scale, block if is_blocked else None)

    def _integers(self, label: str, module: str, shape: tuple[int, int]) -> Reader:
        parts = {}
        for part in ("weight", *_PARTS):
            name = f"{module}.{part}"
            if name in self._found:
                parts[part] = self._found[name]
                self._used.add(name)
        if "weight_packed" in parts and "weight" in parts:
            raise CheckpointError(f"{label} is there twice, plain and packed; fetch it again")
        if "weight" in parts:
            self._check(f"{module}.weight", shape)
        _check_shape(label, parts.get("weight_shape"), shape)
        return open_integers(label, parts, shape, self._quantisation.group_sizes)

    def _experts(self, name: str, shape: tuple[int, int, int]) -> Reader:
        """Open the experts of a layer: one fused tensor, or one tensor each."""
        num_experts, num_rows, num_cols = shape
        part = name.rsplit(".", 1)[-1]
        prefix = self._names.experts(name)
        if any(f"{prefix}0.{part}.{kind}" in self._found for kind in ("weight", "weight_packed")):
            return StackedExperts(
                [
                    self._module(f"{prefix}{expert}.{part}.weight", (num_rows, num_cols))
                    for expert in range(num_experts)
                ]
            )
        fused, width, first = f"{prefix}{part}", num_rows, 0
        if part != "down_proj":
            fused, width = f"{prefix}gate_up_proj", 2 * num_rows
            first = num_rows if part == "up_proj" else 0
        if f"{fused}.weight" in self._found:
            fused += ".weight"
        self._check(fused, (num_experts, num_cols, width))
        label, stored = f"{self._label}: tensor {fused}", self._found[fused]
        columns = slice(first, first + num_rows)
        if stored.dtype != _FLOAT8:
            PlainMatrix(label, stored)  # refuses what isn't a float
            return TransposedExperts(label, stored, columns, None, self._cache)
        scale = self._first(fused.removesuffix(".weight"), _FUSED_SCALES)
        decode = Float8Scale(label, scale, (num_experts, width, num_cols), columns)
        return TransposedExperts(label, stored, columns, decode, self._cache)

    def _check(self, own_name: str, shape: tuple[int, ...]) -> None:
        shapes = {own_name: self._shapes[own_name]} if own_name in self._shapes else {}
        check_tensors(self._label, {own_name: shape}, shapes)
        self._used.add(own_name)

    def _first(self, name: str, endings: tuple[str, ...]) -> StoredTensor:
        """Find the scales of an FP8 tensor under one of their usual names."""
        for ending in endings:
            if name + ending in self._found:
                self._used.add(name + ending)
                return self._found[name + ending]
        raise CheckpointError(
            f"{self._label}: tensor {name} is {_FLOAT8} but {name}{endings[0]} is missing; fetch "
            "the model again"
        )


def _is(stored: StoredTensor | None, dtype: str) -> bool:
    return stored is not None and stored.dtype == dtype


def _check_shape(label: str, stored: StoredTensor | None, shape: tuple[int, int]) -> None:
    """Compare the shape that a packed matrix has before its packing."""
    if stored is None:
        return
    kind = {"I32": "<i4", "I64": "<i8"}.get(stored.dtype)
    found = np.array(stored.data.view(kind)).tolist() if kind else []
    if found != list(shape):
        raise CheckpointError(
            f"{label} has shape {found} but the model's config says {list(shape)}; fetch or "
            "convert the model again"
        )
