"""Llama 4's forward pass in plain NumPy, in f64, written from the paper facts and not for speed.

Takes a `TinyLlama4` and token ids; uses nothing of Outrider. `make parity` holds it against
transformers, so that tests without torch can trust it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tiny_llama4 import TinyLlama4

F64Array = NDArray[np.float64]
F32Array = NDArray[np.float32]


def logits(
    model: TinyLlama4, token_ids: NDArray[np.int32], images: dict[int, F32Array] | None = None
) -> F32Array:
    """Compute logits [T, V] of one sequence; `images` replaces embeddings by row."""
    *_, hidden = hidden_states(model, token_ids, images)
    head = model.tensors["embed_tokens" if model.tied else "lm_head"]
    return np.asarray(rmsnorm(hidden, model.tensors["norm"], model) @ head.T, np.float32)


def hidden_states(
    model: TinyLlama4, token_ids: NDArray[np.int32], images: dict[int, F32Array] | None = None
) -> Iterator[F64Array]:
    """Give the residual stream [T, C] before the first layer and after each one."""
    x = model.tensors["embed_tokens"][token_ids].astype(np.float64)
    for row, features in (images or {}).items():
        x[row] = features
    yield x
    for layer in range(model.num_layers):
        w = {
            name.removeprefix(f"layers.{layer}."): values.astype(np.float64)
            for name, values in model.tensors.items()
            if name.startswith(f"layers.{layer}.")
        }
        x = x + attention(model, layer, w, rmsnorm(x, w["input_layernorm"], model))
        h = rmsnorm(x, w["post_attention_layernorm"], model)
        x = x + (experts(model, w, h) if layer in model.moe_layers else mlp(w, "", h))
        yield x


def attention(model: TinyLlama4, layer: int, w: dict[str, F64Array], x: F64Array) -> F64Array:
    """Attend within the layer's chunks, or to everything before."""
    num_heads, num_kv_heads, head_dim = model.heads
    q, k, v = ((x @ w[f"{n}_proj"].T).reshape(len(x), -1, head_dim) for n in "qkv")
    position = np.arange(len(x))
    if model.rope_flags[layer]:
        q, k = rotate(model, q), rotate(model, k)
        if model.use_qk_norm:
            q, k = (
                z / np.sqrt((z**2).mean(-1, keepdims=True) + model.rms_norm_eps) for z in (q, k)
            )
    elif model.attn_temperature_tuning:
        passed = np.floor((position + 1) / model.floor_scale)
        q = q * (1 + model.attn_scale * np.log(1 + passed))[:, None, None]
    k, v = (np.repeat(z, num_heads // num_kv_heads, axis=1) for z in (k, v))
    visible = position[None, :] <= position[:, None]
    if is_chunked(model, layer):
        chunk = position // model.attention_chunk_size
        visible &= chunk[None, :] == chunk[:, None]
    scores = np.einsum("thd,phd->htp", q, k) / np.sqrt(head_dim)
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("htp,phd->thd", weights, v).reshape(len(x), -1) @ w["o_proj"].T


def is_chunked(model: TinyLlama4, layer: int) -> bool:
    """Say whether a layer sees only its chunk."""
    if model.attention_chunk_size is None:
        return False
    if model.layer_types is not None:
        return model.layer_types[layer] == "chunked_attention"
    return bool(model.rope_flags[layer])


def rotate(model: TinyLlama4, x: F64Array) -> F64Array:
    """Rotate interleaved pairs of x [T, H, D] as complex numbers."""
    pairs = x[..., 0::2] + 1j * x[..., 1::2]
    # Angles are f32, as every implementation has them: their rounding is part of the model.
    angles = np.arange(len(x), dtype=np.float32)[:, None] * frequencies(model)
    pairs = pairs * np.exp(1j * angles.astype(np.float64))[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = pairs.real, pairs.imag
    return out


def frequencies(model: TinyLlama4) -> F32Array:
    """Give the D/2 frequencies, scaled if the model asks for it."""
    head_dim = model.heads[2]
    plain = model.rope_theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if model.rope_scaling is None:
        return plain.astype(np.float32)
    s = model.rope_scaling
    low, high, original = (
        s[key]
        for key in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    result = []
    for frequency in plain:
        wavelength = 2 * np.pi / frequency
        kept = 1.0 if wavelength < original / high else 0.0
        if original / high <= wavelength <= original / low and low != high:
            kept = (original / wavelength - low) / (high - low)
        result.append(kept * frequency + (1 - kept) * frequency / s["factor"])
    return np.array(result, np.float32)


def experts(model: TinyLlama4, w: dict[str, F64Array], x: F64Array) -> F64Array:
    """Add up the shared expert and the chosen ones, token by token."""
    router_logits = x @ w["router"].T
    out = mlp(w, "shared_expert.", x)
    for t, row in enumerate(router_logits):
        for e in np.argsort(-row, kind="stable")[: model.top_k]:
            scaled = x[t] / (1 + np.exp(-row[e]))
            gate, up = w["experts.gate_proj"][e] @ scaled, w["experts.up_proj"][e] @ scaled
            out[t] += w["experts.down_proj"][e] @ (silu(gate) * up)
    return out


def mlp(w: dict[str, F64Array], prefix: str, x: F64Array) -> F64Array:
    """Compute a SwiGLU network."""
    gate, up = x @ w[prefix + "gate_proj"].T, x @ w[prefix + "up_proj"].T
    return (silu(gate) * up) @ w[prefix + "down_proj"].T


def silu(x: F64Array) -> F64Array:
    """Give x * sigmoid(x)."""
    return x / (1 + np.exp(-x))


def rmsnorm(x: F64Array, gain: NDArray[np.floating], model: TinyLlama4) -> F64Array:
    """Normalise rows by their root mean square."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + model.rms_norm_eps) * gain
