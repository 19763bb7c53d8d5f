"""The JSON files of a Hugging Face folder: sizes, token ids and sampling defaults.

Fields that would change what the decoder computes and that it doesn't know are refused; fields
without influence on the result are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from outrider.checkpoints.model_files import read_json
from outrider.checkpoints.source import model_config
from outrider.errors import CheckpointError, InvalidRequest
from outrider.model.config import ModelConfig, RopeScaling
from outrider.types import SamplingParams

Json = Mapping[str, Any]
# Fields that must have this value if they are there.
_FIXED_FIELDS = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
# A checkpoint may set how tokens are chosen, never what one request asks for.
_PER_REQUEST = {"logit_bias", "seed", "stop", "max_tokens", "ignore_eos", "logprobs", "n"}


def hf_model_config(folder: Path, config: Json, stop_token_ids: tuple[int, ...]) -> ModelConfig:
    """Make the `ModelConfig` of a folder; `stop_token_ids` are those of its chat format."""
    label = str(folder / "config.json")
    model_type = config.get("model_type")
    if model_type != "llama":
        raise CheckpointError(
            f"{label}: model_type is {model_type!r}; Outrider runs llama (LlamaForCausalLM)"
        )
    if config.get("quantization_config"):
        raise CheckpointError(f"{label}: the weights are quantised; use a GGUF file instead")
    for key, value in _FIXED_FIELDS.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"{label}: {key} is {config[key]!r}; Outrider needs {value!r}")
    fields = _sizes(label, config)
    rope = _rope_parameters(label, config)
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    eos = (*_token_ids(config), *_token_ids(_generation_config(folder)), *stop_token_ids)
    fields |= {
        "architecture": "llama",
        "name": folder.absolute().name,
        "max_position_embeddings": config.get("max_position_embeddings", 2048),
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "tie_word_embeddings": config.get("tie_word_embeddings", False) is True,
        "bos_token_id": config.get("bos_token_id") if _adds_bos(folder) else None,
        "eos_token_ids": tuple(dict.fromkeys(eos)),
    }
    checked = model_config(label, fields)
    return model_config(label, fields | _rope_scaling(label, rope, checked.head_dim))


def _sizes(label: str, config: Json) -> dict[str, object]:
    keys = {
        "num_layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "intermediate_size": "intermediate_size",
        "num_heads": "num_attention_heads",
        "vocab_size": "vocab_size",
    }
    for key in keys.values():
        if key not in config:
            raise CheckpointError(f"{label}: {key} is missing; fetch the model again")
    fields: dict[str, Any] = {name: config[key] for name, key in keys.items()}
    heads, hidden_size = fields["num_heads"], fields["hidden_size"]
    kv_heads = config.get("num_key_value_heads")
    head_dim = config.get("head_dim")
    if head_dim is None and type(heads) is int and type(hidden_size) is int and heads > 0:
        head_dim = hidden_size // heads
    return fields | {"num_kv_heads": heads if kv_heads is None else kv_heads, "head_dim": head_dim}


def _rope_parameters(label: str, config: Json) -> Json:
    """Give the RoPE fields; newer files have `rope_parameters` with the base in it."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{label}: rope_scaling isn't an object; fetch the model again")
    return rope


def _rope_scaling(label: str, rope: Json, head_dim: int) -> dict[str, object]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return {}
    try:
        if kind == "linear":
            return {"rope_divisors": (_positive(rope.get("factor")),) * (head_dim // 2)}
        if kind == "llama3":
            scaling = msgspec.convert(
                {name: rope.get(name) for name in RopeScaling.__struct_fields__}, RopeScaling
            )
            for value in msgspec.structs.astuple(scaling):
                _positive(value)
            if scaling.low_freq_factor >= scaling.high_freq_factor:
                raise ValueError("low_freq_factor isn't below high_freq_factor")
            return {"rope_scaling": scaling}
    except (msgspec.ValidationError, ValueError) as error:
        raise CheckpointError(f"{label}: bad RoPE scaling: {error}; fetch it again") from error
    raise CheckpointError(
        f"{label}: RoPE scaling {kind!r} isn't supported; default, linear and llama3 are"
    )


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise ValueError(f"{value!r} isn't a positive number")
    return value


def _token_ids(config: Json) -> list[Any]:
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [] if value is None else [value]
    # Anything but a number or a string is refused by its text: it might not even be hashable.
    return [item if isinstance(item, int | str) else repr(item) for item in values]


def _generation_config(folder: Path) -> Json:
    file = folder / "generation_config.json"
    return read_json(file) if file.is_file() else {}


def generation_defaults(folder: Path) -> dict[str, float]:
    """Give the sampling defaults of generation_config.json, as far as requests can set them."""
    known = set(SamplingParams.__struct_fields__) - _PER_REQUEST
    found = {
        key: value
        for key, value in _generation_config(folder).items()
        if key in known and value is not None
    }
    try:
        msgspec.convert(found, SamplingParams)
    except (msgspec.ValidationError, InvalidRequest) as error:
        raise CheckpointError(
            f"{folder / 'generation_config.json'}: {error}; correct or remove the field"
        ) from error
    return found


def special_token_ids(tokenizer: Json) -> dict[str, int]:
    """Give the added tokens of a tokenizer.json with their ids."""
    added = tokenizer.get("added_tokens")
    entries = added if isinstance(added, list) else []
    return {
        entry["content"]: entry["id"]
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("content"), str)
        and type(entry.get("id")) is int
    }


def _adds_bos(folder: Path) -> bool:
    """Say whether the model's own tokenizer puts the bos token before every text."""
    file = folder / "tokenizer_config.json"
    declared = read_json(file).get("add_bos_token") if file.is_file() else None
    if isinstance(declared, bool):
        return declared
    processor = read_json(folder / "tokenizer.json").get("post_processor")
    return any(_begins_with_special(step) for step in _steps(processor))


def _steps(processor: object) -> list[object]:
    if not isinstance(processor, dict):
        return []
    steps = processor.get("processors", [processor])
    return steps if isinstance(steps, list) else []


def _begins_with_special(step: object) -> bool:
    template = step.get("single") if isinstance(step, dict) else None
    first = template[0] if isinstance(template, list) and template else None
    return isinstance(first, dict) and "SpecialToken" in first
