"""The tiny Llama 4 models whose answers llama4.json and llama4.npz hold, and their prompts.

The weights come from a generator whose streams never change, so the files hold answers only. Needs
neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from golden.comparison import Golden
from tiny_llama4 import OBSOLETE_ROPE, SCOUT_ROPE, TinyLlama4

LLAMA4_JSON = Path(__file__).parent / "llama4.json"
LLAMA4_NPZ = Path(__file__).parent / "llama4.npz"
MODELS: dict[str, dict[str, Any]] = {
    "scout": {"rope_scaling": SCOUT_ROPE, "seed": 1},
    "scout obsolete": {"rope_scaling": OBSOLETE_ROPE, "seed": 2, "attention_chunk_size": 24},
    "maverick": {"moe_step": 2, "use_qk_norm": False, "num_experts": 7, "seed": 6},
    "guard": {"attention_chunk_size": None, "tied": True, "seed": 4},
    "odd": {"top_k": 2, "heads": (3, 1, 24), "attention_chunk_size": 13, "seed": 5},
}
PROMPT_LENGTH, NUM_TOKENS, NUM_LOGITS = 75, 64, 40
# Of the largest logit: transformers and Outrider add f32 numbers in different orders.
LOGITS_TOLERANCE = 1e-4


def tiny_model(name: str) -> TinyLlama4:
    """Make one of the models."""
    return TinyLlama4(**MODELS[name])


def weights_sha256(model: TinyLlama4) -> str:
    """Give a digest of all weights, which tells whether the generator is still the same."""
    digest = hashlib.sha256()
    for name, values in model.tensors.items():
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def prompt_token_ids(model: TinyLlama4) -> list[int]:
    """Draw a prompt that crosses several chunk edges."""
    rng = np.random.RandomState(model.seed + 100)
    return [int(token_id) for token_id in rng.randint(0, model.vocab_size, PROMPT_LENGTH)]


def logits_ids(model: TinyLlama4) -> np.ndarray:
    """Choose the tokens whose logits are held, at every position of the prompt."""
    rng = np.random.RandomState(model.seed + 200)
    return np.sort(rng.choice(model.vocab_size, NUM_LOGITS, replace=False))


def read_llama4_goldens() -> tuple[Golden, dict[str, np.ndarray]]:
    """Give the greedy goldens by model and the logits [T, NUM_LOGITS] by model."""
    golden: Golden = json.loads(LLAMA4_JSON.read_text("utf-8"))
    with np.load(LLAMA4_NPZ) as arrays:
        return golden, {name: arrays[name] for name in arrays.files}
