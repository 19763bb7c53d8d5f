"""What a folder says of its embedding model: sizes, tokenizer and what becomes of the states.

Reads BERT's config.json, tokenizer.json or vocab.txt, and sentence-transformers' modules.json with
the files that it names. Anything that would change a vector and isn't done here is refused by
name. Free of NumPy, so that the HTTP process can ask it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from outrider.checkpoints.excerpt import excerpt, shown
from outrider.checkpoints.model_files import MAX_JSON_BYTES, read_json, weight_files
from outrider.checkpoints.store import Store
from outrider.checkpoints.wordpiece import wordpiece_json
from outrider.errors import CheckpointError
from outrider.model.config import EncoderConfig, Pooling

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
LENGTH_FILE = "sentence_bert_config.json"
MODEL_TYPES = ("bert",)
_MAX_SIZE = 1 << 20
_SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
}
# What BertModel's own configuration assumes where config.json is silent (transformers).
_DEFAULTS: dict[str, object] = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
}
_ONLY = {"hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True)
class BertFolder:
    """A folder whose small files have been read; the weights have not."""

    path: Path
    config: EncoderConfig
    tokenizer_json: str
    warnings: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> BertFolder:
        """Read the small files of a folder; raises `CheckpointError`."""
        config = read_json(folder / "config.json")
        _check_type(folder, config)
        weight_files(folder)  # there have to be some
        stages = _Stages(folder)
        fields = _sizes(folder / "config.json", config)
        limit = int(fields["max_position_embeddings"])
        try:
            encoder = EncoderConfig(
                name=folder.resolve().name,
                max_model_len=min(stages.max_seq_length or limit, limit),
                pooling=stages.pooling,
                is_normalised=stages.is_normalised,
                **fields,
            )
        except ValueError as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
        return cls(folder, encoder, _tokenizer(folder, stages.lowercases), stages.warnings)


def find_encoder(name_or_path: str, home: Path) -> BertFolder:
    """Find a pulled embedding model or a folder of one, and read its small files."""
    path = Store(home).resolve(name_or_path)
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is a single file; an embedding model is a folder with config.json and "
            "safetensors, as all-minilm-l6-v2"
        )
    return BertFolder.open(path)


class _Stages:
    """The stages that sentence-transformers' modules.json names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pooling: Pooling = "mean"
        self.is_normalised = False
        self.max_seq_length: int | None = None
        self.lowercases = False
        self.warnings: tuple[str, ...] = ()
        file = folder / MODULES_FILE
        if not file.is_file():
            # As sentence-transformers treats a plain BertModel.
            self.warnings = (
                f"{folder} has no {MODULES_FILE}: states are averaged and not normalised; "
                "check that the model was trained so",
            )
            return
        for index, module in enumerate(_read_list(file)):
            self._read_stage(file, index, module)
        self._refuse_prompt(folder / SETTINGS_FILE)

    def _read_stage(self, file: Path, index: int, module: object) -> None:
        entry = module if isinstance(module, dict) else {}
        kind, path = str(entry.get("type")).rpartition(".")[2], str(entry.get("path"))
        if kind == "Transformer" and index == 0 and path in ("", "0_Transformer"):
            if path:
                _fail(file, f"its weights are in {path}; older layouts aren't read")
            self._read_length(self._folder / LENGTH_FILE)
        elif kind == "Pooling" and index == 1:
            if not path or "/" in path or path.startswith("."):
                _fail(file, f"the path {shown(path)} isn't the name of a folder")
            self._read_pooling(self._folder / path / "config.json")
        elif kind == "Normalize" and index == 2:
            self.is_normalised = True
        else:
            _fail(file, f"stage {index} is {excerpt(kind)}; Outrider has none of that kind there")

    def _read_length(self, file: Path) -> None:
        if not file.is_file():
            return
        settings = read_json(file)
        length = settings.get("max_seq_length")
        if length is not None and (type(length) is not int or length < 3):
            _fail(file, f"max_seq_length is {shown(length)}; it must be 3 or more")
        self.max_seq_length = length
        self.lowercases = settings.get("do_lower_case") is True

    def _read_pooling(self, file: Path) -> None:
        settings = read_json(file)
        prefix = "pooling_mode_"
        modes = {k.removeprefix(prefix) for k, v in settings.items() if k.startswith(prefix) and v}
        mode = settings.get("pooling_mode")  # of newer writers
        if isinstance(mode, str):
            modes.add({"mean": "mean_tokens", "cls": "cls_token"}.get(mode, mode))
        if modes == {"mean_tokens"}:
            self.pooling = "mean"
        elif modes == {"cls_token"}:
            self.pooling = "cls"
        else:
            names = ", ".join(sorted(modes)) or "none"
            _fail(file, f"the pooling is {excerpt(names)}; Outrider has mean_tokens and cls_token")

    def _refuse_prompt(self, file: Path) -> None:
        name = read_json(file).get("default_prompt_name") if file.is_file() else None
        if name is not None:
            _fail(file, f"it puts the prompt {shown(name)} before every text; that isn't done here")


def _check_type(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        _fail(
            folder / "config.json",
            f"model_type is {shown(kind)}; embeddings come from models of the type {known}",
        )
    for key, value in _ONLY.items():
        found = config.get(key, _DEFAULTS[key])
        if found != value:
            _fail(folder / "config.json", f"{key} is {shown(found)}; Outrider has {value} only")
    if config.get("is_decoder"):
        _fail(folder / "config.json", "is_decoder is set; an encoder sees in both directions")


def _sizes(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field, key in _SIZES.items():
        value = config.get(key, _DEFAULTS.get(key))
        if type(value) is not int or not 1 <= value <= _MAX_SIZE:
            _fail(file, f"{key} is {shown(value)}; it must be a whole number from 1 to {_MAX_SIZE}")
        fields[field] = value
    eps = config.get("layer_norm_eps", _DEFAULTS["layer_norm_eps"])
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < 1:
        _fail(file, f"layer_norm_eps is {shown(eps)}; it must be a small number from 0 up")
    fields["layer_norm_eps"] = float(eps)
    return fields


def _tokenizer(folder: Path, lowercases: bool) -> str:
    file = folder / "tokenizer.json"
    if file.is_file():
        content = read_json(file)
    else:
        settings_file = folder / "tokenizer_config.json"
        settings = read_json(settings_file) if settings_file.is_file() else {}
        content = wordpiece_json(folder / "vocab.txt", settings)
    if lowercases:
        inner = content.get("normalizer")
        stages = [{"type": "Lowercase"}, *([inner] if inner else [])]
        content["normalizer"] = {"type": "Sequence", "normalizers": stages}
    return msgspec.json.encode(content).decode()


def _read_list(file: Path) -> list[Any]:
    if file.stat().st_size > MAX_JSON_BYTES:
        _fail(file, "it is too long")
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Any])
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{file}: bad JSON: {error}; fetch the model again") from error


def _fail(file: Path, problem: str) -> NoReturn:
    raise CheckpointError(f"{file}: {problem}")
