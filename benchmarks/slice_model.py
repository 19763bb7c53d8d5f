"""What a slice of Llama 4 Scout is made of: sizes, config.json, tensors and a byte tokenizer.

A slice has Scout's real layer shapes and constants, but only as many layers as asked for and
random weights. Nothing is drawn or written here; `make_slice` does that. The numbers are those of
Scout's config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

# A special token's offset from the first one; in the real vocabulary that is 200000.
SPECIAL_OFFSETS = {
    "<|begin_of_text|>": 0,
    "<|end_of_text|>": 1,
    "<|header_start|>": 5,
    "<|header_end|>": 6,
    "<|eom|>": 7,
    "<|eot|>": 8,
    "<|python_start|>": 16,
    "<|python_end|>": 17,
    "<|finetune_right_pad|>": 18,
    "<|image_start|>": 80,
    "<|image_end|>": 81,
    "<|tile_x_separator|>": 84,
    "<|tile_y_separator|>": 85,
    "<|image|>": 90,
    "<|patch|>": 92,
}
REAL_FIRST_SPECIAL = 200000
MIN_VOCAB_SIZE = 512
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|header_start|>{{ message['role'] }}"
    "<|header_end|>\n\n{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
ATTENTION_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj")
MERGES = [("Ġ", "Ġ")]  # llama.cpp wants at least one
STD = 0.02  # of every matrix but one, as such models are initialised
# Larger than what the layers add at first, so that tokens differ and spread over the experts.
EMBEDDING_STD = 1.0
ORIGINAL_CONTEXT, FACTOR = 8192, 16.0  # of Scout's RoPE scaling


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Sizes of a slice; the defaults are Scout's."""

    num_layers: int
    vocab_size: int = 202048
    num_vision_layers: int = 0  # 0: no image tower
    hidden_size: int = 5120
    num_heads: int = 40
    num_kv_heads: int = 8
    head_dim: int = 128
    intermediate_size: int = 8192
    num_experts: int = 16

    @property
    def first_special(self) -> int:
        """Id of <|begin_of_text|>."""
        return min(REAL_FIRST_SPECIAL, self.vocab_size - 128)

    def token_id(self, token: str) -> int:
        """Give the id of a special token."""
        return self.first_special + SPECIAL_OFFSETS[token]


Shape = tuple[int, ...]


def text_tensors(model: Slice) -> Iterator[tuple[str, Shape]]:
    """Give Outrider's name and the shape of every tensor of the text model; experts [E, N, K]."""
    c, f, e = model.hidden_size, model.intermediate_size, model.num_experts
    q, kv = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    yield "embed_tokens", (model.vocab_size, c)
    yield "norm", (c,)
    yield "lm_head", (model.vocab_size, c)
    for layer in range(model.num_layers):
        p = f"layers.{layer}."
        yield p + "input_layernorm", (c,)
        yield p + "post_attention_layernorm", (c,)
        yield from (
            (f"{p}{name}_proj", (rows, c)) for name, rows in (("q", q), ("k", kv), ("v", kv))
        )
        yield p + "o_proj", (c, q)
        yield p + "router", (e, c)
        for owner, lead in (("shared_expert.", ()), ("experts.", (e,))):
            yield f"{p}{owner}gate_proj", (*lead, f, c)
            yield f"{p}{owner}up_proj", (*lead, f, c)
            yield f"{p}{owner}down_proj", (*lead, c, f)


def hf_tensors(model: Slice) -> Iterator[tuple[str, Shape]]:
    """Give name and shape of every tensor as Scout's safetensors have them: experts fused."""
    lead = "language_model." if model.num_vision_layers else ""
    for name, shape in text_tensors(model):
        if "." not in name:
            yield f"{lead}{'' if name == 'lm_head' else 'model.'}{name}.weight", shape
            continue
        _, layer, part = name.split(".", 2)
        p = f"{lead}model.layers.{layer}."
        if part == "experts.gate_proj":
            e, f, c = shape
            yield f"{p}feed_forward.experts.gate_up_proj", (e, c, 2 * f)
        elif part == "experts.down_proj":
            e, c, f = shape
            yield f"{p}feed_forward.experts.down_proj", (e, f, c)
        elif part != "experts.up_proj":
            yield f"{p}{_hf_folder(part)}{part}.weight", shape
    if model.num_vision_layers:
        yield from _vision_tensors(model)


def _hf_folder(part: str) -> str:
    if part.endswith("layernorm"):
        return ""
    return "self_attn." if part in ATTENTION_PARTS else "feed_forward."


def _vision_tensors(model: Slice) -> Iterator[tuple[str, Shape]]:
    h, f, a = 1408, 5632, 4096
    yield "vision_model.patch_embedding.linear.weight", (h, 588)
    yield "vision_model.class_embedding", (h,)
    yield "vision_model.positional_embedding_vlm", (577, h)
    norms = [f"vision_model.layernorm_{name}" for name in ("pre", "post")]
    for layer in range(model.num_vision_layers):
        p = f"vision_model.model.layers.{layer}."
        norms += [p + "input_layernorm", p + "post_attention_layernorm"]
        for part in ATTENTION_PARTS:
            yield f"{p}self_attn.{part}.weight", (h, h)
            yield f"{p}self_attn.{part}.bias", (h,)
        for part, shape in (("fc1", (f, h)), ("fc2", (h, f))):
            yield f"{p}mlp.{part}.weight", shape
            yield f"{p}mlp.{part}.bias", shape[:1]
    for norm in norms:
        yield norm + ".weight", (h,)
        yield norm + ".bias", (h,)
    yield "vision_model.vision_adapter.mlp.fc1.weight", (a, 4 * h)
    yield "vision_model.vision_adapter.mlp.fc2.weight", (a, a)
    yield "multi_modal_projector.linear_1.weight", (model.hidden_size, a)


def std_of(name: str) -> float:
    """Give the standard deviation of a matrix by any of its names."""
    return EMBEDDING_STD if "embd" in name or "embed_tokens" in name else STD


def config_json(model: Slice) -> dict[str, Any]:
    """Give config.json with the fields of the release."""
    eos = [model.token_id(token) for token in ("<|end_of_text|>", "<|eom|>", "<|eot|>")]
    text: dict[str, Any] = {
        "attention_bias": False,
        "attention_chunk_size": 8192,
        "attn_scale": 0.1,
        "attn_temperature_tuning": True,
        "bos_token_id": model.token_id("<|begin_of_text|>"),
        "eos_token_id": eos,
        "floor_scale": 8192,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "interleave_moe_layer_step": 1,
        "intermediate_size": model.intermediate_size,
        "intermediate_size_mlp": 2 * model.intermediate_size,
        "max_position_embeddings": 10485760,
        "model_type": "llama4_text",
        "no_rope_layers": [],
        "num_attention_heads": model.num_heads,
        "num_experts_per_tok": 1,
        "num_hidden_layers": model.num_layers,
        "num_key_value_heads": model.num_kv_heads,
        "num_local_experts": model.num_experts,
        "pad_token_id": model.token_id("<|finetune_right_pad|>"),
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "factor": FACTOR,
            "high_freq_factor": 1.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": ORIGINAL_CONTEXT,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_qk_norm": True,
        "vocab_size": model.vocab_size,
    }
    if not model.num_vision_layers:
        return text | {"architectures": ["Llama4ForCausalLM"]}
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "boi_token_index": model.token_id("<|image_start|>"),
        "eoi_token_index": model.token_id("<|image_end|>"),
        "image_token_index": model.token_id("<|patch|>"),
        "model_type": "llama4",
        "text_config": text,
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_act": "gelu",
            "hidden_size": 1408,
            "image_size": 336,
            "intermediate_size": 5632,
            "model_type": "llama4_vision_model",
            "norm_eps": 1e-5,
            "num_attention_heads": 16,
            "num_channels": 3,
            "num_hidden_layers": model.num_vision_layers,
            "patch_size": 14,
            "pixel_shuffle_ratio": 0.5,
            "projector_input_dim": 4096,
            "projector_output_dim": 4096,
            "rope_theta": 10000,
            "vision_output_dim": 4096,
        },
    }


def gguf_metadata(model: Slice) -> dict[str, Any]:
    """Give the metadata of a GGUF file without its tokenizer."""
    return {
        "general.name": "scout slice",
        "llama4.block_count": model.num_layers,
        "llama4.context_length": 10485760,
        "llama4.embedding_length": model.hidden_size,
        "llama4.feed_forward_length": 2 * model.intermediate_size,
        "llama4.expert_feed_forward_length": model.intermediate_size,
        "llama4.expert_count": model.num_experts,
        "llama4.expert_used_count": 1,
        "llama4.interleave_moe_layer_step": 1,
        "llama4.attention.head_count": model.num_heads,
        "llama4.attention.head_count_kv": model.num_kv_heads,
        "llama4.attention.key_length": model.head_dim,
        "llama4.attention.value_length": model.head_dim,
        "llama4.attention.layer_norm_rms_epsilon": 1e-5,
        "llama4.rope.dimension_count": model.head_dim,
        "llama4.rope.freq_base": 500000.0,
        "llama4.vocab_size": model.vocab_size,
    }


GGUF_TOP = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
GGUF_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "router": "ffn_gate_inp",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """Translate a name of `text_tensors` to that of a GGUF file."""
    if name in GGUF_TOP:
        return f"{GGUF_TOP[name]}.weight"
    _, layer, *owner, part = name.split(".")
    suffix = {"experts": "_exps", "shared_expert": "_shexp"}[owner[0]] if owner else ""
    return f"blk.{layer}.{GGUF_PARTS[part]}{suffix}.weight"


def vocabulary(model: Slice) -> list[str]:
    """Give a token per id: bytes, two spaces, fillers that no text becomes, special tokens.

    With the fillers the vocabulary has the size of the real one, not its words.
    """
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    special = {model.token_id(token): token for token in SPECIAL_OFFSETS}
    for token_id in range(len(tokens), model.vocab_size):
        tokens.append(special.get(token_id, f"<|filler_{token_id}|>"))
    return tokens


def tokenizer_json(model: Slice) -> str:
    """Give tokenizer.json of the byte-level vocabulary."""
    vocab = {token: token_id for token_id, token in enumerate(vocabulary(model))}
    result = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_OFFSETS])
    return str(result.to_str())


def tokenizer_config_json() -> str:
    """Give the tokenizer_config.json that goes with any tokenizer of Llama 4."""
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>"}
    return json.dumps({"chat_template": CHAT_TEMPLATE, **names})
