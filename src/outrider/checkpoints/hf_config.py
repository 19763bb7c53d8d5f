"""The JSON files of a Hugging Face folder: sizes, token ids and sampling defaults.

Fields that would change what the decoder computes and that it doesn't know are refused; fields
without influence on the result are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from outrider.checkpoints.excerpt import excerpt, shown
from outrider.checkpoints.generation import sampling_defaults
from outrider.checkpoints.hf_fields import Fields, Json
from outrider.checkpoints.hf_llama4_config import (
    MODEL_TYPES,
    llama4_fields,
    rope_warnings,
    vision_config,
)
from outrider.checkpoints.hf_rope import rope_fields
from outrider.checkpoints.hf_token_ids import NamedIds, bos_ids, end_ids, known_ids
from outrider.checkpoints.model_files import TOKENIZER_FILES, read_json
from outrider.checkpoints.source import model_config
from outrider.errors import CheckpointError
from outrider.model.config import NO_TOKEN, ModelConfig, VisionConfig

# Fields that must have this value if they are there.
_FIXED_FIELDS = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


def hf_model_config(
    folder: Path, config: Json, tokenizer: Json, stop_token_ids: tuple[int, ...]
) -> tuple[ModelConfig, tuple[str, ...]]:
    """Make the `ModelConfig` of a folder, and say what is questionable, one line each.

    `stop_token_ids` are those of its chat format.
    """
    label = str(folder / "config.json")
    model_type = config.get("model_type")
    is_llama4 = model_type in MODEL_TYPES
    if model_type != "llama" and not is_llama4:
        raise CheckpointError(
            f"{label}: model_type is {shown(model_type)}; Outrider runs llama (LlamaForCausalLM), "
            "llama4 and llama4_text"
        )
    fields = llama4_fields(label, config) if is_llama4 else _llama_fields(label, config)
    fields["name"] = folder.absolute().name
    linear_factor = fields.pop("linear_factor", None)
    checked = model_config(label, fields)
    if linear_factor is not None:
        fields["rope_divisors"] = (linear_factor,) * (checked.head_dim // 2)
    stops = NamedIds(_tokenizer_file(folder), "end of turn", list(stop_token_ids))
    eos, warnings = known_ids([*end_ids(folder, config), stops], checked.vocab_size)
    begins = [bos_ids(folder, config)] if _adds_bos(folder, tokenizer) else []
    bos, more_warnings = known_ids(begins, checked.vocab_size)
    fields |= {"bos_token_id": bos[0] if bos else None, "eos_token_ids": tuple(eos)}
    warnings += more_warnings
    if is_llama4:
        fields["vision"] = _vision(folder, config, checked.vocab_size, warnings)
        warnings += rope_warnings(checked.rope_scaling)
    return model_config(label, fields), tuple(warnings)


def _vision(
    folder: Path, config: Json, vocab_size: int, warnings: list[str]
) -> VisionConfig | None:
    """Read the image tower; without its token in the vocabulary only text can be read."""
    label = str(folder / "config.json")
    vision = vision_config(label, config, _preprocessor(folder))
    if vision is None or 0 <= vision.patch_token_id < vocab_size:
        return vision
    warnings.append(
        f"{label}: image token {excerpt(str(vision.patch_token_id))} is outside the vocabulary of "
        f"{vocab_size}; images are refused"
    )
    return msgspec.structs.replace(vision, patch_token_id=NO_TOKEN)


def _llama_fields(label: str, config: Json) -> dict[str, object]:
    for key, value in _FIXED_FIELDS.items():
        if config.get(key, value) != value:
            raise Fields(label, config).refuse(key, f"Outrider needs {value!r}")
    max_positions = config.get("max_position_embeddings", 2048)
    rope = rope_fields(
        Fields(label, config), 10000.0, max_positions if type(max_positions) is int else 0
    )
    return {
        **_sizes(label, config),
        **rope,
        "architecture": "llama",
        "max_position_embeddings": max_positions,
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": config.get("tie_word_embeddings", False) is True,
    }


def ends_turns_with(folder: Path, config: Json, token_id: int | None) -> bool:
    """Say whether a model was made to end its answers with a token."""
    return token_id is not None and any(token_id in ids for _, _, ids in end_ids(folder, config))


def _preprocessor(folder: Path) -> Fields:
    """Give the image processor's fields; newer folders nest them in processor_config.json."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = folder / name
        if file.is_file():
            fields = Fields(str(file), read_json(file))
            return fields.inner("image_processor") or fields
    return Fields(str(folder), {})


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


def _generation_config(folder: Path) -> Json:
    file = folder / "generation_config.json"
    return read_json(file) if file.is_file() else {}


def generation_defaults(folder: Path) -> dict[str, float]:
    """Give the sampling defaults of generation_config.json, as far as requests can set them."""
    return sampling_defaults(str(folder / "generation_config.json"), _generation_config(folder))


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


def _tokenizer_file(folder: Path) -> Path:
    files = [folder / name for name in TOKENIZER_FILES]
    return next((file for file in files if file.is_file()), files[0])


def _adds_bos(folder: Path, tokenizer: Json) -> bool:
    """Say whether the model's own tokenizer puts the bos token before every text."""
    file = folder / "tokenizer_config.json"
    declared = read_json(file).get("add_bos_token") if file.is_file() else None
    if isinstance(declared, bool):
        return declared
    steps = _steps(tokenizer.get("post_processor"))
    return any(_begins_with_special(step) for step in steps)


def _steps(processor: object) -> list[object]:
    if not isinstance(processor, dict):
        return []
    steps = processor.get("processors", [processor])
    return steps if isinstance(steps, list) else []


def _begins_with_special(step: object) -> bool:
    template = step.get("single") if isinstance(step, dict) else None
    first = template[0] if isinstance(template, list) and template else None
    return isinstance(first, dict) and "SpecialToken" in first
