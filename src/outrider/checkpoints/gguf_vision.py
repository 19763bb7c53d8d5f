"""The image tower of a Llama 4 model out of its `mmproj` GGUF file.

It maps the `clip.*` metadata to `VisionConfig` and llama.cpp's names (tools/mtmd/clip-impl.h) to
canonical ones. Refused are towers of other models and one whose width isn't the decoder's. The
base of the tower's RoPE and the tile limit aren't in such files; they are the same in all models.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.gguf import GgufFile
from outrider.checkpoints.gguf_metadata import Metadata
from outrider.checkpoints.gguf_names import Place
from outrider.checkpoints.source import expected_tensors
from outrider.errors import CheckpointError
from outrider.model.config import ModelConfig, VisionConfig

PATCH_TOKEN = "<|patch|>"
DEFAULT_PATCH_TOKEN_ID = 200092  # of every released vocabulary
ROPE_THETA = 10000.0  # tools/mtmd/clip.cpp
_P = "clip.vision"
_TOP_NAMES = {
    "patch_embedding": "v.patch_embd.weight",
    "class_embedding": "v.class_embd",
    "positional_embedding": "v.position_embd.weight",
    "adapter.fc1": "mm.model.mlp.1.weight",
    "adapter.fc2": "mm.model.mlp.2.weight",
    "projector": "mm.model.fc.weight",
    "layernorm_pre": "v.pre_ln.weight",
    "layernorm_pre.bias": "v.pre_ln.bias",
    "layernorm_post": "v.post_ln.weight",
    "layernorm_post.bias": "v.post_ln.bias",
}
_LAYER_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_out",
    "fc1": "ffn_up",
    "fc2": "ffn_down",
    "input_layernorm": "ln1",
    "post_attention_layernorm": "ln2",
}
# Since llama.cpp reads Gemma 4 its converter gives Llama 4's second norm the name of a norm that
# only Gemma 4 has (both are called post_attention_layernorm). llama.cpp itself then skips it.
_OTHER_LN2 = ".attn_post_norm."


def mmproj_name(name: str) -> str:
    """Translate a canonical name, which begins with "vision.", to that of an mmproj file."""
    name = name.removeprefix("vision.")
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, part = name.removesuffix(".bias").split(".")
    suffix = "bias" if name.endswith(".bias") else "weight"
    return f"v.blk.{layer}.{_LAYER_NAMES[part]}.{suffix}"


def vision_places(config: ModelConfig, found: Container[str]) -> Iterator[tuple[str, Place]]:
    """Give the place of every tensor of the tower, by canonical name."""
    for name, shape in expected_tensors(config):
        if name.startswith("vision."):
            own_name = mmproj_name(name)
            other_name = own_name.replace(".ln2.", _OTHER_LN2)
            if own_name not in found and other_name in found:
                own_name = other_name
            yield name, Place(own_name, shape, shape)


def vision_config(mmproj: GgufFile, config: ModelConfig, patch_token_id: int) -> VisionConfig:
    """Make the tower's config and check that it belongs to the decoder of `config`."""
    label = str(mmproj.path)
    metadata = Metadata(label, mmproj.metadata)
    _check_kind(metadata)
    width = metadata.integer(f"{_P}.projection_dim", config.hidden_size)
    if width != config.hidden_size:
        raise CheckpointError(
            f"{label} makes image features of {width} values but the decoder takes "
            f"{config.hidden_size}; put the mmproj file of this model beside it, or none"
        )
    integer = metadata.integer
    vision = VisionConfig(
        image_size=integer(f"{_P}.image_size"),
        patch_size=integer(f"{_P}.patch_size"),
        hidden_size=integer(f"{_P}.embedding_length"),
        intermediate_size=integer(f"{_P}.feed_forward_length"),
        num_layers=integer(f"{_P}.block_count"),
        num_heads=integer(f"{_P}.attention.head_count"),
        layer_norm_eps=metadata.positive(f"{_P}.attention.layer_norm_epsilon"),
        rope_theta=ROPE_THETA,
        shuffle=integer(f"{_P}.projector.scale_factor"),
        adapter_size=_num_rows(mmproj, "mm.model.mlp.1.weight"),
        output_size=_num_rows(mmproj, "mm.model.mlp.2.weight"),
        patch_token_id=patch_token_id,
        image_mean=_rgb(metadata, f"{_P}.image_mean"),
        image_std=_rgb(metadata, f"{_P}.image_std"),
    )
    _check_sizes(label, vision)
    return vision


def _check_kind(metadata: Metadata) -> None:
    label = metadata.label
    kind = metadata.string("clip.projector_type", "") or metadata.string(f"{_P}.projector_type", "")
    if metadata.string("general.architecture", "") != "clip" or kind != "llama4":
        raise CheckpointError(
            f"{label} isn't the image tower of a Llama 4 model (its projector type is "
            f"{shown(kind)}); put the mmproj file of this model in its place, or none"
        )
    if not metadata.boolean("clip.use_gelu", True):
        raise CheckpointError(f"{label}: clip.use_gelu is false; Outrider needs GELU")


def _num_rows(mmproj: GgufFile, name: str) -> int:
    tensor = mmproj.tensors.get(name)
    if tensor is None:
        raise CheckpointError(f"{mmproj.path}: tensor {name} is missing; fetch the file again")
    return tensor.shape[0]


def _rgb(metadata: Metadata, key: str) -> tuple[float, float, float]:
    red, green, blue = metadata.floats(key, 3, (0.5, 0.5, 0.5))
    return red, green, blue


def _check_sizes(label: str, vision: VisionConfig) -> None:
    if (
        vision.hidden_size % vision.num_heads or vision.head_dim % 4
    ):  # rows and columns have half of the pairs each
        raise CheckpointError(
            f"{label}: {vision.hidden_size} values don't make {vision.num_heads} heads of a "
            "multiple of 4; fetch the file again"
        )
    side = vision.patch_size * vision.shuffle
    if vision.image_size % side:
        raise CheckpointError(
            f"{label}: tiles of {vision.image_size} pixels can't be cut into squares of "
            f"{vision.shuffle} x {vision.shuffle} patches of {vision.patch_size} pixels; fetch "
            "the file again"
        )
    if min(vision.image_std) <= 0:
        raise CheckpointError(
            f"{label}: {_P}.image_std has a value that isn't positive; fetch the file again"
        )
