"""The fields of config.json as the releases of Llama 4 have them, defaults included.

Text and vision values are those of Meta's published files; dropout, initialisers and other fields
without influence on an answer are left out.
"""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {
    "model_type": "llama4_text",
    "attention_bias": False,
    "attention_chunk_size": 8192,
    "attn_scale": 0.1,
    "attn_temperature_tuning": True,
    "bos_token_id": 200000,
    "eos_token_id": [200001, 200007, 200008],
    "floor_scale": 8192,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "no_rope_layers": [],
    "num_attention_heads": 40,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "output_router_logits": False,
    "pad_token_id": 200018,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 202048,
}
_VISION: dict[str, Any] = {
    "model_type": "llama4_vision_model",
    "hidden_act": "gelu",
    "hidden_size": 1408,
    "image_size": 336,
    "intermediate_size": 5632,
    "multi_modal_projector_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 34,
    "patch_size": 14,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "rope_theta": 10000,
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default",
    "vision_output_dim": 4096,
}


def rope_scaling(factor: float, high: float) -> dict[str, Any]:
    """Give Scout's scaling; (16, 1) is the corrected one, (8, 4) that of the first upload."""
    return {
        "factor": factor,
        "high_freq_factor": high,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }


def _multimodal(text: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "boi_token_index": 200080,
        "eoi_token_index": 200081,
        "image_token_index": 200092,
        "model_type": "llama4",
        "text_config": _TEXT | text,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vision_config": dict(_VISION),
    }


SCOUT = _multimodal(
    {
        "interleave_moe_layer_step": 1,
        "max_position_embeddings": 10485760,
        "num_local_experts": 16,
        "rope_scaling": rope_scaling(16.0, 1.0),
        "use_qk_norm": True,
    }
)
MAVERICK = _multimodal(
    {
        "attn_temperature_tuning": 4,  # as old files write it
        "interleave_moe_layer_step": 2,
        "max_position_embeddings": 1048576,
        "moe_layers": list(range(1, 48, 2)),
        "no_rope_layers": [1, 1, 1, 0] * 12,
        "num_local_experts": 128,
        "rope_scaling": None,
        "use_qk_norm": False,
    }
)
# All layers of Guard 4 are dense: it was cut out of Scout's shared experts.
GUARD = _multimodal(
    {
        "attention_chunk_size": None,
        "interleave_moe_layer_step": 0,
        "intermediate_size_mlp": 8192,
        "max_position_embeddings": 131072,
        "moe_layers": [],
        "num_experts_per_tok": 0,
        "num_local_experts": 0,
        "rope_scaling": rope_scaling(16.0, 1.0),
        "use_qk_norm": True,
    }
)
