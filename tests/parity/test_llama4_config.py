"""Any Llama 4 config means the same sizes, layers and tensors here as in transformers."""

from __future__ import annotations

import json
import mmap
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama4_release_configs import GUARD, MAVERICK, SCOUT
from outrider.checkpoints.hf_quantisation import Quantisation
from outrider.checkpoints.hf_tensors import open_tensors
from outrider.checkpoints.huggingface import HuggingFaceOutline
from outrider.checkpoints.safetensors import StoredTensor
from outrider.checkpoints.source import expected_tensors

pytestmark = pytest.mark.parity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch
    from transformers import Llama4Config, Llama4ForCausalLM, Llama4ForConditionalGeneration
    from transformers import Llama4TextConfig as TextConfig

LAYERS = 6
OPTIONAL = {
    "no_rope_layers": st.sampled_from([None, [], [1, 1, 0, 1, 0, 1], [1] * 6, [0] * 6]),
    "no_rope_layer_interval": st.integers(1, 5),
    "moe_layers": st.sampled_from([None, [], [0, 5], [2]]),
    "interleave_moe_layer_step": st.integers(1, 4),
    "layer_types": st.sampled_from([None, ["full_attention", "chunked_attention"] * 3]),
    "attention_chunk_size": st.integers(1, 99),
    "use_qk_norm": st.booleans(),
    "attn_temperature_tuning": st.booleans(),
    "floor_scale": st.integers(1, 99),
    "attn_scale": st.floats(0.01, 1),
    "num_key_value_heads": st.sampled_from([1, 2, 4]),
    "head_dim": st.sampled_from([8, 24, 80]),
    "num_local_experts": st.integers(2, 5),
    "num_experts_per_tok": st.integers(1, 2),
    "intermediate_size": st.integers(1, 40),
    "intermediate_size_mlp": st.integers(1, 40),
    "rms_norm_eps": st.sampled_from([1e-5, 1e-6]),
    "rope_theta": st.floats(10, 1e6),
    "rope_parameters": st.sampled_from([None, {"rope_type": "default", "rope_theta": 77.0}]),
    "tie_word_embeddings": st.booleans(),
    "max_position_embeddings": st.integers(1, 10**6),
}  # fmt: skip


def fake(shape: tuple[int, ...]) -> StoredTensor:
    """Make a tensor without data: nothing but its shape may be asked for."""
    return StoredTensor("BF16", shape, np.empty(0, np.uint8), cast("mmap.mmap", None), 0)


def outline(folder: Path, config: dict[str, Any]) -> HuggingFaceOutline:
    (folder / "config.json").write_text(json.dumps(config))
    return HuggingFaceOutline(folder)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_text_configs_mean_the_same(tmp_path: Path, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(OPTIONAL))))
    fields = {name: data.draw(OPTIONAL[name], name) for name in sorted(chosen)}
    fields |= {"num_hidden_layers": LAYERS, "hidden_size": 32, "num_attention_heads": 4}
    fields |= {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if "num_key_value_heads" not in fields:
        fields["num_key_value_heads"] = 2
    theirs = TextConfig(**fields)
    ours = outline(tmp_path, fields | {"model_type": "llama4_text"}).config
    chunked = [i for i in range(LAYERS) if theirs.layer_types[i] == "chunked_attention"]
    assert ours.nope_layers == tuple(i for i in range(LAYERS) if not theirs.no_rope_layers[i])
    assert ours.chunked_layers == tuple(chunked)
    assert ours.moe_layers == tuple(theirs.moe_layers)
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    pairs = {
        "num_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "use_qk_norm": "use_qk_norm",
        "attention_chunk_size": "attention_chunk_size", "attn_scale": "attn_scale",
        "attn_temperature_tuning": "attn_temperature_tuning", "floor_scale": "floor_scale",
        "num_experts": "num_local_experts", "num_experts_per_token": "num_experts_per_tok",
        "expert_intermediate_size": "intermediate_size", "rms_norm_eps": "rms_norm_eps",
        "intermediate_size": "intermediate_size_mlp", "vocab_size": "vocab_size",
        "tie_word_embeddings": "tie_word_embeddings",
        "max_position_embeddings": "max_position_embeddings",
    }  # fmt: skip
    for our_name, their_name in pairs.items():
        assert getattr(ours, our_name) == getattr(theirs, their_name), our_name
    with torch.device("meta"):
        model = Llama4ForCausalLM(theirs)
    found = {name: fake(tuple(t.shape)) for name, t in model.state_dict().items()}
    readers = open_tensors("m", found, ours, Quantisation())
    assert {name: reader.shape for name, reader in readers.items()} == dict(expected_tensors(ours))


@pytest.mark.parametrize("config", [SCOUT, MAVERICK, GUARD], ids=["scout", "maverick", "guard"])
def test_releases_have_the_tensors_of_transformers(tmp_path: Path, config: dict[str, Any]) -> None:
    ours = outline(tmp_path, config).config
    # Today's transformers refuses the old files' 4.
    theirs = config | {"text_config": config["text_config"] | {"attn_temperature_tuning": True}}
    with torch.device("meta"):
        model = Llama4ForConditionalGeneration(Llama4Config(**theirs))
    found = {name: fake(tuple(t.shape)) for name, t in model.state_dict().items()}
    readers = open_tensors("m", found, ours, Quantisation())
    assert sum(int(np.prod(reader.shape)) for reader in readers.values()) == sum(
        parameter.numel() for parameter in model.parameters()
    )
