"""What transformers computes from a GGUF file, without a line of Outrider.

The file is read and dequantised by the `gguf` package, the tokenizer is put together from its
metadata as the model's own tokenizer.json has it, and the chat template is the one in the file.
Used by the scripts that make goldens and by the parity tests, which need the `parity` extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import jinja2.sandbox
import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers

F32Array = NDArray[np.float32]

CONTROL_TOKEN = 3  # of tokenizer.ggml.token_type
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Oracle:
    """One model as transformers runs it in float32; token ids in, logits out."""

    def __init__(self, model: transformers.LlamaForCausalLM) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def logits(self, token_ids: list[int]) -> F32Array:
        """Compute logits [T, V] of one sequence."""
        output = self.model(input_ids=torch.tensor([token_ids]), use_cache=False)
        return np.asarray(output.logits[0].float().numpy(), np.float32)

    @torch.inference_mode()
    def greedy(self, token_ids: list[int], max_tokens: int) -> list[F32Array]:
        """Continue with the best token each time; give the logits [V] of every step."""
        step_ids, cache, rows = torch.tensor([token_ids]), None, []
        for _ in range(max_tokens):
            output = self.model(input_ids=step_ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            rows.append(output.logits[0, -1].float().numpy())
            step_ids = output.logits[:, -1].argmax(dim=-1, keepdim=True)
        return rows


def read_gguf(path: Path) -> gguf.GGUFReader:
    """Open a GGUF file with the `gguf` package."""
    return gguf.GGUFReader(path)


def load_oracle(reader: gguf.GGUFReader) -> Oracle:
    """Build the model of a GGUF file of architecture llama from its dequantised weights."""
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = llama_config(reader, is_tied="output.weight" not in tensors)
    state = {}
    for name, tensor in tensors.items():
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape(tuple(reversed(tensor.shape.tolist())))
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            values = half_split(values, config.head_dim)
        state[hf_name(name)] = torch.from_numpy(np.array(values))
    model = transformers.LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"tensors don't fit: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return Oracle(model)


def llama_config(reader: gguf.GGUFReader, *, is_tied: bool) -> transformers.LlamaConfig:
    """Translate the metadata of architecture llama to the config of transformers."""

    def field(name: str) -> Any:
        return reader.fields[f"llama.{name}"].contents()

    return transformers.LlamaConfig(
        vocab_size=field("vocab_size"),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")},
        tie_word_embeddings=is_tied,
        attn_implementation="eager",
        dtype="float32",
    )


def hf_name(name: str) -> str:
    """Translate a tensor's name in a GGUF file to that of transformers."""
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    stem, suffix = name.rsplit(".", 1)
    if stem in top:
        return f"{top[stem]}.{suffix}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{suffix}"


def half_split(rows: F32Array, head_dim: int) -> F32Array:
    """Reorder rows [H * D, C] from interleaved RoPE pairs to two halves per head."""
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])  # [H, D/2, 2, C]
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def load_tokenizer(reader: gguf.GGUFReader) -> tokenizers.Tokenizer:
    """Build SmolLM2's tokenizer: digits alone, then GPT-2's split and its byte alphabet."""

    def field(name: str) -> Any:
        return reader.fields[f"tokenizer.ggml.{name}"].contents()

    if field("pre") != "smollm":
        raise ValueError(f"the text split is {field('pre')!r}; this oracle knows smollm")
    tokens = field("tokens")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    result = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    result.decoder = decoders.ByteLevel()
    kinds = zip(tokens, field("token_type"), strict=True)
    control = [AddedToken(token, special=True) for token, kind in kinds if kind == CONTROL_TOKEN]
    result.add_special_tokens(control)
    return result


def render_chat(reader: gguf.GGUFReader, messages: list[dict[str, str]]) -> str:
    """Write a conversation with the template in the file, as transformers does."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(reader.fields["tokenizer.chat_template"].contents())
    return template.render(messages=messages, add_generation_prompt=True)
