"""A random model of the BERT family in a folder as sentence-transformers writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.wordpiece import wordpiece_json
from tiny_models import write_safetensors

F32Array = NDArray[np.float32]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS))
WORDS += (*"0123456789.,!?[]", "the", "tide", "moon", "##ing", "é", "中")
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")


@dataclass(frozen=True)
class TinyBert:
    """Sizes and f32 tensors of one random model."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_positions: int
    tensors: dict[str, F32Array]


def random_bert(
    seed: int = 0, num_layers: int = 2, hidden_size: int = 24, num_heads: int = 4, width: int = 40
) -> TinyBert:
    """Make a model with states of ordinary size: matrices that keep variance, gains about 1."""
    rng = np.random.default_rng(seed)
    num_positions = 64

    def normal(*shape: int, scale: float = 1.0) -> F32Array:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": normal(len(WORDS), hidden_size),
        "embeddings.position_embeddings.weight": normal(num_positions, hidden_size),
        "embeddings.token_type_embeddings.weight": normal(2, hidden_size),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(num_layers):
        p = f"encoder.layer.{layer}."
        parts = dict.fromkeys(("self.query", "self.key", "self.value"), (hidden_size, hidden_size))
        parts = {f"attention.{k}": v for k, v in parts.items()}
        parts["attention.output.dense"] = (hidden_size, hidden_size)
        parts["intermediate.dense"] = (width, hidden_size)
        parts["output.dense"] = (hidden_size, width)
        for name, (rows, cols) in parts.items():
            tensors[f"{p}{name}.weight"] = normal(rows, cols, scale=1.5 * cols**-0.5)
            tensors[f"{p}{name}.bias"] = normal(rows, scale=0.3)
        norms += [f"{p}attention.output.LayerNorm", f"{p}output.LayerNorm"]
    for norm in norms:
        tensors[f"{norm}.weight"] = 1 + normal(hidden_size, scale=0.2)
        tensors[f"{norm}.bias"] = normal(hidden_size, scale=0.2)
    return TinyBert(num_layers, hidden_size, width, num_heads, num_positions, tensors)


def bert_config(model: TinyBert) -> dict[str, Any]:
    """Give the config.json of a model."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_attention_heads": model.num_heads,
        "num_hidden_layers": model.num_layers,
        "max_position_embeddings": model.num_positions,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": len(WORDS),
        "layer_norm_eps": 1e-12,
    }


def write_bert(
    model: TinyBert,
    folder: Path,
    pooling: str = "mean_tokens",
    max_seq_length: int = 32,
    dtype: str = "F32",
) -> Path:
    """Write the folder with all of sentence-transformers' files."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    kinds = {
        "0": ("", "Transformer"),
        "1": ("1_Pooling", "Pooling"),
        "2": ("2_Normalize", "Normalize"),
    }
    modules = [
        {"idx": int(i), "name": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in kinds.items()
    ]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", "utf-8")
    for name, value in {
        "config.json": bert_config(model),
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_seq_length, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": model.hidden_size,
            **{f"pooling_mode_{mode}": mode == pooling for mode in modes},
        },
        "tokenizer.json": wordpiece_json(folder / "vocab.txt", {}),
    }.items():
        (folder / name).write_text(json.dumps(value), "utf-8")
    write_safetensors(folder / "model.safetensors", model.tensors, dtype)
    return folder
