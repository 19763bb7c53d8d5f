"""A dense Llama out of a Hugging Face folder (config.json, safetensors), as a `Source`.

It maps config.json to `ModelConfig` and permutes the rows of q_proj and k_proj from two halves
per head to interleaved RoPE pairs. Code in the folder is never run, pickled weights are never
opened, and an index that points outside the folder is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from outrider.checkpoints import chat_template
from outrider.checkpoints.gguf_quants import check_finite
from outrider.checkpoints.hf_config import (
    generation_defaults,
    hf_model_config,
    special_token_ids,
)
from outrider.checkpoints.model_files import checkpoint_files, read_json, weight_files
from outrider.checkpoints.safetensors import StoredTensor, open_safetensors
from outrider.checkpoints.source import (
    ALL_ROWS,
    Bf16Bits,
    Matrix,
    TensorSpec,
    check_tensors,
    expected_tensors,
)
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, U8Array, bf16_to_f32

_FORMATS = {"F32": Format.F32, "F16": Format.F32, "BF16": Format.BF16}
_IN_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_IN_MLP = ("gate_proj", "up_proj", "down_proj")


def hf_name(name: str) -> str:
    """Translate a canonical tensor name to that of a Hugging Face checkpoint."""
    if name == "lm_head":
        return "lm_head.weight"
    *_, part = name.split(".")
    block = "self_attn." if part in _IN_ATTENTION else "mlp." if part in _IN_MLP else ""
    return f"model.{name.removesuffix(part)}{block}{part}.weight"


class HuggingFaceModel:
    """An opened Hugging Face folder; implements `Source`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer_file = folder / "tokenizer.json"
        config = read_json(folder / "config.json")
        token_ids = special_token_ids(read_json(self._tokenizer_file))
        template = _template(folder)
        self.chat_format = chat_template.chat_format(template, token_ids)
        is_chatml = self.chat_format == "chatml"
        self.default_system = chat_template.default_system(template) if is_chatml else ""
        self.generation = generation_defaults(folder)
        stop_ids = chat_template.stop_token_ids(self.chat_format, token_ids)
        self.config = hf_model_config(folder, config, stop_ids)
        self._tensors = self._checked_tensors()

    def _checked_tensors(self) -> dict[str, StoredTensor]:
        found: dict[str, StoredTensor] = {}
        for file in weight_files(self._folder):
            tensors = open_safetensors(file)
            for name in tensors:
                if name in found:
                    raise CheckpointError(f"{file}: tensor {name} is in another file as well")
            found |= tensors
        label, shapes = str(self._folder), {name: found[name].shape for name in found}
        expected: dict[str, tuple[int, ...]] = {}
        result = {}
        for name, shape in expected_tensors(self.config):
            own_name = hf_name(name)
            if own_name not in found:  # said at once: the number of layers is only a claim
                check_tensors(label, {own_name: shape}, shapes)
            expected[own_name] = shape
            result[name] = found[own_name]
            if found[own_name].dtype not in _FORMATS:
                raise CheckpointError(
                    f"{label}: tensor {own_name} is {found[own_name].dtype}; Outrider reads "
                    f"{', '.join(_FORMATS)}"
                )
        # Some tied checkpoints store the output matrix as well; the config decides.
        check_tensors(label, expected, shapes, frozenset({"lm_head.weight"}))
        return result

    def files(self) -> list[Path]:
        """Give every file that the model depends on."""
        return checkpoint_files(self._folder)

    def tensor_names(self) -> list[str]:
        """Give the canonical names of all tensors."""
        return list(self._tensors)

    def spec(self, name: str) -> TensorSpec:
        """Give the shape and format of a tensor without reading it."""
        tensor = self._tensors[name]
        return TensorSpec(tensor.shape, _FORMATS[tensor.dtype] if len(tensor.shape) == 2 else None)

    def tensor(self, name: str, rows: slice = ALL_ROWS) -> Matrix:
        """Read some rows of a matrix in the format of its spec, or a vector as f32."""
        tensor = self._tensors[name]
        if tensor.dtype != "BF16" or len(tensor.shape) == 1:
            return self.values(name, rows)
        bits = self._rows(name, rows).view("<u2")
        check_finite(bf16_to_f32(bits), self._label(name))
        return Bf16Bits(bits)

    def values(self, name: str, rows: slice = ALL_ROWS) -> F32Array:
        """Read some rows of a matrix, or a vector, as exact values."""
        tensor, data = self._tensors[name], self._rows(name, rows)
        if tensor.dtype == "BF16":
            values = bf16_to_f32(data.view("<u2"))
        else:
            values = data.view({"F32": "<f4", "F16": "<f2"}[tensor.dtype]).astype(np.float32)
        check_finite(values, self._label(name))
        return values if len(tensor.shape) == 2 else values[0]

    def tokenizer_json(self) -> str:
        """Read tokenizer.json."""
        return self._tokenizer_file.read_text("utf-8")

    def _rows(self, name: str, rows: slice) -> U8Array:
        """Give the bytes of some rows, u8 [N, bytes per row]; a vector is one row."""
        tensor = self._tensors[name]
        if len(tensor.shape) == 1:
            return tensor.data.reshape(1, -1)
        data = tensor.data.reshape(tensor.shape[0], -1)
        if not name.endswith(("q_proj", "k_proj")):
            return data[rows]
        head_dim = self.config.head_dim
        wanted = np.arange(tensor.shape[0])[rows]
        head, at = np.divmod(wanted, head_dim)
        # Row 2j of a head is row j of its first half, row 2j + 1 of its second.
        permuted: U8Array = data[head * head_dim + at % 2 * (head_dim // 2) + at // 2]
        return permuted

    def _label(self, name: str) -> str:
        return f"{self._folder}: tensor {hf_name(name)}"


def _template(folder: Path) -> str:
    """Give the chat template's text; "" if the model has none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_bytes()[: chat_template.MAX_TEMPLATE_CHARS].decode(errors="replace")
    config_file = folder / "tokenizer_config.json"
    config: Mapping[str, Any] = read_json(config_file) if config_file.is_file() else {}
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones
        named = {entry.get("name"): entry for entry in template if isinstance(entry, dict)}
        template = named.get("default", {}).get("template")
    return template if isinstance(template, str) else ""
