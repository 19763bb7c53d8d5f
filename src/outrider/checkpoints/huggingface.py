"""A Llama or Llama 4 out of a Hugging Face folder (config.json, safetensors), as a `Source`.

It joins what the folder's JSON files say with its tensors. Code in the folder is never run,
pickled weights are never opened, and an index that points outside the folder is refused. A folder
without weights can be opened as an outline, to see what the model would need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from outrider.checkpoints import chat_template
from outrider.checkpoints.excerpt import excerpt
from outrider.checkpoints.hf_config import (
    ends_turns_with,
    generation_defaults,
    hf_model_config,
    special_token_ids,
)
from outrider.checkpoints.hf_llama4_config import text_config
from outrider.checkpoints.hf_quantisation import quantisation
from outrider.checkpoints.hf_tensors import open_tensors
from outrider.checkpoints.meta_tokenizer import TOKENIZER_FILE, meta_tokenizer_json
from outrider.checkpoints.model_files import (
    checkpoint_files,
    description_files,
    parse_json_object,
    read_json,
    weight_files,
)
from outrider.checkpoints.safetensors import StoredTensor, open_safetensors
from outrider.checkpoints.source import ALL_ROWS, Matrix, TensorSpec, expected_tensors
from outrider.checkpoints.tokenizer_json import compact
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array


class HuggingFaceOutline:
    """What a folder says of its model apart from the weights; those need not be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = read_json(folder / "config.json")
        self._tokenizer, tokenizer = _tokenizer(folder, config)
        token_ids = special_token_ids(tokenizer)
        template = _template(folder)
        self.chat_format = chat_template.chat_format(template, token_ids)
        # Meta's own files have no template; of its models only the tuned ones end turns.
        if not template and ends_turns_with(folder, config, token_ids.get("<|eot|>")):
            self.chat_format = "llama4"
        is_chatml = self.chat_format == "chatml"
        self.default_system = chat_template.default_system(template) if is_chatml else ""
        self.generation = generation_defaults(folder)
        stop_ids = chat_template.stop_token_ids(self.chat_format, token_ids)
        self.config, self.warnings = hf_model_config(folder, config, tokenizer, stop_ids)
        self._quantisation = quantisation(str(folder / "config.json"), config)
        self._shapes = dict(expected_tensors(self.config))

    def files(self) -> list[Path]:
        """Give the folder's small files that say something of the model."""
        return description_files(self._folder)

    def tensor_names(self) -> list[str]:
        """Give the canonical names of all tensors that the config asks for."""
        return list(self._shapes)

    def spec(self, name: str) -> TensorSpec:
        """Give a tensor's shape and the format of the release that the config describes."""
        shape = self._shapes[name]
        return TensorSpec(shape, None if len(shape) == 1 else Format.BF16)

    def tokenizer_json(self) -> str:
        """Give tokenizer.json, or what tokenizer.model amounts to; "" if neither is there."""
        return self._compact_tokenizer

    @cached_property
    def _compact_tokenizer(self) -> str:
        return compact(self._tokenizer, str(self._folder)) if self._tokenizer else ""


class HuggingFaceModel(HuggingFaceOutline):
    """An opened Hugging Face folder; implements `Source`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        found: dict[str, StoredTensor] = {}
        for file in weight_files(folder):
            tensors = open_safetensors(file)
            for name in tensors:
                if name in found:
                    raise CheckpointError(
                        f"{file}: tensor {excerpt(name)} is in another file as well"
                    )
            found |= tensors
        self._readers = open_tensors(str(folder), found, self.config, self._quantisation)

    def files(self) -> list[Path]:
        """Give every file that the model depends on."""
        return checkpoint_files(self._folder)

    def tensor_names(self) -> list[str]:
        """Give the canonical names of all tensors."""
        return list(self._readers)

    def spec(self, name: str) -> TensorSpec:
        """Give the shape and format of a tensor without reading it."""
        reader = self._readers[name]
        return TensorSpec(reader.shape, None if len(reader.shape) == 1 else reader.format)

    def tensor(self, name: str, rows: slice = ALL_ROWS) -> Matrix:
        """Read some rows of a matrix in the format of its spec, or a vector as f32."""
        reader = self._readers[name]
        if len(reader.shape) == 1:
            return self.values(name)
        return reader.tensor(*_span(reader.shape, rows))

    def values(self, name: str, rows: slice = ALL_ROWS) -> F32Array:
        """Read some rows of a matrix, or a vector, as exact values."""
        reader = self._readers[name]
        if len(reader.shape) == 1:
            vector: F32Array = reader.values(0, 1)[0]
            return vector
        return reader.values(*_span(reader.shape, rows))


def _span(shape: tuple[int, ...], rows: slice) -> tuple[int, int]:
    """Give the first row and the one after the last."""
    begin, stop, _ = rows.indices(math.prod(shape[:-1]))
    return begin, max(begin, stop)


def _tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Give the tokenizer as text and as what the text says."""
    file, meta_file = folder / "tokenizer.json", folder / TOKENIZER_FILE
    if file.is_file():
        parsed = read_json(file)
        return file.read_text("utf-8"), parsed
    if not meta_file.is_file():
        return "", {}
    vocab_size = text_config(config).get("vocab_size")
    text = meta_tokenizer_json(meta_file, vocab_size if type(vocab_size) is int else None)
    return text, parse_json_object(meta_file, text.encode())


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
