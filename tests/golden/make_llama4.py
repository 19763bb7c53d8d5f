"""Makes llama4.json and llama4.npz: what transformers computes for the tiny Llama 4 models.

Run it in tests/ with the `parity` extra: `python -m golden.make_llama4`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from golden.llama4_models import (
    LLAMA4_JSON,
    LLAMA4_NPZ,
    MODELS,
    logits_ids,
    prompt_token_ids,
    tiny_model,
    weights_sha256,
)
from golden.llama4_oracle import load_llama4
from golden.make_greedy import greedy_golden, to_json
from tiny_llama4 import write_hf


def make() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compute everything that the two files hold."""
    prompts, logits = {}, {}
    for name in MODELS:
        model = tiny_model(name)
        with tempfile.TemporaryDirectory() as folder:
            oracle = load_llama4(write_hf(model, Path(folder)))
        token_ids = prompt_token_ids(model)
        prompts[name] = {
            "weights_sha256": weights_sha256(model),
            "prompt_token_ids": token_ids,
            **greedy_golden(oracle, token_ids),
        }
        logits[name] = oracle.logits(token_ids)[:, logits_ids(model)]
    versions = {module.__name__: module.__version__ for module in (np, torch, transformers)}
    return {"versions": versions, "models": prompts}, logits


if __name__ == "__main__":
    torch.set_num_threads(1)
    greedy, arrays = make()
    LLAMA4_JSON.write_text(to_json(greedy), "utf-8")
    np.savez_compressed(LLAMA4_NPZ, **arrays)
    sys.stderr.write(f"{[min(golden['gaps']) for golden in greedy['models'].values()]}\n")
