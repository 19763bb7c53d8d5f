"""The config.json of Llama 4: Scout, Maverick, Guard 4 and text-only fine-tunes.

Defaults are those of transformers (configuration_llama4.py, 5.23), because releases leave fields
out, null or empty. What the decoder or the image tower can't compute is refused by name; fields
without influence on an answer (dropout, router jitter and loss, initialisers) are ignored.
"""

from __future__ import annotations

from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.hf_fields import Fields, Json
from outrider.checkpoints.hf_rope import rope_fields
from outrider.checkpoints.source import MAX_LAYERS
from outrider.errors import CheckpointError
from outrider.model.config import RopeScaling, VisionConfig

MODEL_TYPES = ("llama4", "llama4_text")
_LAYER_TYPES = ("chunked_attention", "full_attention")
_PATCH_TOKEN_ID = 200092  # <|patch|>
_MAX_TILES = 256  # of an image; the released models take 16
_BILINEAR = 2  # Pillow's number for the only way of resizing
# What Meta uploaded at first and corrected (llama-models, pull request 322).
_OBSOLETE_FACTOR, _OBSOLETE_HIGH_FREQ = 8.0, 4.0
_OBSOLETE_ROPE = (
    "config.json holds the RoPE scaling of Scout's first upload (factor 8, high_freq_factor 4); "
    "Meta corrected it to factor 16, high_freq_factor 1: it is used as it is, but a later revision "
    "of the model answers long prompts better"
)


def llama4_fields(label: str, config: Json) -> dict[str, object]:
    """Give the fields of `ModelConfig` that a Llama 4 config.json decides, but for token ids."""
    top = Fields(label, config)
    text = top if config.get("model_type") == "llama4_text" else top.inner("text_config")
    text = text or Fields(f"{label}: text_config", {})
    _refuse_unsupported(text)
    fields = _sizes(text)
    num_layers = fields["num_layers"]
    assert isinstance(num_layers, int)
    rope = rope_fields(text, 500000.0, text.integer("max_position_embeddings", 131072))
    return {
        **fields,
        **_layers(text, num_layers),
        **rope,
        "architecture": "llama4",
        "use_qk_norm": text.flag("use_qk_norm", True),
        "attn_temperature_tuning": text.flag("attn_temperature_tuning", True),
        "floor_scale": text.number("floor_scale", 8192.0),
        "attn_scale": text.finite("attn_scale", 0.1),
        "tie_word_embeddings": text.flag("tie_word_embeddings", False),
    }


def text_config(config: Json) -> Json:
    """Give the object that holds the decoder's fields."""
    text = config.get("text_config") if config.get("model_type") == "llama4" else config
    return text if isinstance(text, dict) else {}


def rope_warnings(scaling: RopeScaling | None) -> tuple[str, ...]:
    """Name RoPE constants that were corrected after the first release."""
    if (
        scaling is not None
        and scaling.factor == _OBSOLETE_FACTOR
        and scaling.high_freq_factor == _OBSOLETE_HIGH_FREQ
    ):
        return (_OBSOLETE_ROPE,)
    return ()


def _refuse_unsupported(text: Fields) -> None:
    if text.get("hidden_act") not in (None, "silu", "swish"):  # two names of one function
        raise text.refuse("hidden_act", "Outrider needs 'silu'")
    if text.flag("attention_bias", False):
        raise text.refuse("attention_bias", "Outrider needs False")


def _sizes(text: Fields) -> dict[str, object]:
    num_heads = text.integer("num_attention_heads", 40)
    hidden_size = text.integer("hidden_size", 5120)
    # Null has a meaning of its own in these two, unlike a field that is absent.
    kv_heads = num_heads if "num_key_value_heads" in text.values else 8
    head_dim = hidden_size // num_heads if "head_dim" in text.values else 128
    num_layers = text.integer("num_hidden_layers", 48)
    if num_layers > MAX_LAYERS:
        raise text.refuse("num_hidden_layers", f"Outrider runs at most {MAX_LAYERS} layers")
    return {
        "num_layers": num_layers,
        "hidden_size": hidden_size,
        "intermediate_size": text.integer("intermediate_size_mlp", 16384),
        "expert_intermediate_size": text.integer("intermediate_size", 8192),
        "num_heads": num_heads,
        "num_kv_heads": text.integer("num_key_value_heads", kv_heads),
        "head_dim": text.integer("head_dim", head_dim),
        "vocab_size": text.integer("vocab_size", 202048),
        "max_position_embeddings": text.integer("max_position_embeddings", 131072),
        "rms_norm_eps": text.finite("rms_norm_eps", 1e-5),
        "num_experts": text.integer("num_local_experts", 16, 0),
        "num_experts_per_token": text.integer("num_experts_per_tok", 1, 0),
    }


def _layers(text: Fields, num_layers: int) -> dict[str, object]:
    """Give which layers have experts, no RoPE and chunked attention."""
    nope = _nope_layers(text, num_layers)
    chunk_size = text.integer("attention_chunk_size", 0, 0)
    if "attention_chunk_size" not in text.values:
        chunk_size = 8192
    chunked: tuple[int, ...] = tuple(i for i in range(num_layers) if i not in nope)
    kinds = text.items("layer_types")
    if kinds:
        for kind in kinds:
            if kind not in _LAYER_TYPES:
                raise CheckpointError(
                    f"{text.label}: layer_types has {shown(kind)}; Outrider runs "
                    f"{' and '.join(_LAYER_TYPES)}"
                )
        _check_length(text, "layer_types", num_layers)
        chunked = tuple(i for i in range(num_layers) if kinds[i] == "chunked_attention")
    return {
        "moe_layers": _moe_layers(text, num_layers),
        "nope_layers": nope,
        "chunked_layers": chunked if chunk_size else (),
        "attention_chunk_size": chunk_size,
    }


def _nope_layers(text: Fields, num_layers: int) -> tuple[int, ...]:
    interval = text.integer("no_rope_layer_interval", 4)
    has_rope = text.items("no_rope_layers")  # despite its name: 1 with RoPE, 0 without
    if not has_rope:
        return tuple(range(interval - 1, num_layers, interval))
    for item in has_rope:
        if item not in (0, 1):
            raise CheckpointError(
                f"{text.label}: no_rope_layers has {shown(item)}; it holds 0 and 1"
            )
    _check_length(text, "no_rope_layers", num_layers)
    return tuple(i for i in range(num_layers) if not has_rope[i])


def _moe_layers(text: Fields, num_layers: int) -> tuple[int, ...]:
    """An empty list means no experts; only null and absence mean the default."""
    listed = text.items("moe_layers")
    if listed is None:
        step = text.integer("interleave_moe_layer_step", 1, 0)
        return tuple(range(step - 1, num_layers, step)) if step else ()
    for layer in listed:
        if type(layer) is not int or not 0 <= layer < num_layers:
            raise CheckpointError(
                f"{text.label}: moe_layers has {shown(layer)}, which isn't one of {num_layers} "
                "layers"
            )
    return tuple(sorted(set(listed)))


def _check_length(text: Fields, name: str, num_layers: int) -> None:
    length = len(text.items(name) or ())
    if length < num_layers:
        raise CheckpointError(f"{text.label}: {name} has {length} entries for {num_layers} layers")


def vision_config(label: str, config: Json, preprocessor: Fields) -> VisionConfig | None:
    """Make the `VisionConfig` of a multimodal model; None if it has no image tower.

    Whether its image token is in the vocabulary isn't known here.
    """
    top = Fields(label, config)
    vision = top.inner("vision_config") if config.get("model_type") == "llama4" else None
    if vision is None or config.get("architectures") == ["Llama4ForCausalLM"]:
        return None
    _refuse_unsupported_vision(vision)
    result = VisionConfig(
        image_size=_side(vision, "image_size", 448),
        patch_size=_side(vision, "patch_size", 14),
        hidden_size=vision.integer("hidden_size", 768),
        intermediate_size=vision.integer("intermediate_size", 5632),
        num_layers=vision.integer("num_hidden_layers", 34),
        num_heads=vision.integer("num_attention_heads", 16),
        layer_norm_eps=1e-5,  # fixed in transformers, which ignores the field norm_eps
        rope_theta=_vision_theta(vision),
        shuffle=_shuffle(vision),
        adapter_size=vision.integer("projector_input_dim", 4096),
        output_size=vision.integer("projector_output_dim", 4096),
        patch_token_id=_patch_token_id(top),
        max_tiles=preprocessor.integer("max_patches", 16, maximum=_MAX_TILES),
        image_mean=_channels(preprocessor, "image_mean"),
        image_std=_channels(preprocessor, "image_std"),
    )
    _check_vision(vision, preprocessor, result)
    return result


def _refuse_unsupported_vision(vision: Fields) -> None:
    # hidden_act isn't asked: transformers computes GELU, whatever it says (modeling_llama4.py).
    if vision.integer("num_channels", 3) != 3:
        raise vision.refuse("num_channels", "Outrider needs 3")
    if vision.integer("num_hidden_layers", 34) > MAX_LAYERS:
        raise vision.refuse("num_hidden_layers", f"Outrider runs at most {MAX_LAYERS} layers")


def _patch_token_id(top: Fields) -> int:
    name = "image_token_index" if "image_token_index" in top.values else "image_token_id"
    token_id = top.get(name)
    if token_id is not None and type(token_id) is not int:
        raise top.refuse(name, "it must be an integer")
    return _PATCH_TOKEN_ID if token_id is None else token_id


def _side(vision: Fields, name: str, default: int) -> int:
    """Give the side of a square, which may be written as [side, side]."""
    value = vision.get(name)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return Fields(vision.label, {name: value[0]}).integer(name, default)
    return vision.integer(name, default)


def _shuffle(vision: Fields) -> int:
    """Give how many patches along each side become one token."""
    ratio = vision.number("pixel_shuffle_ratio", 0.5)
    shuffle = round(1 / ratio)
    if abs(ratio * shuffle - 1) > 1e-6:
        raise vision.refuse("pixel_shuffle_ratio", "it must be one over a whole number")
    return shuffle


def _vision_theta(vision: Fields) -> float:
    rope = vision.inner("rope_parameters") or vision.inner("rope_scaling") or vision
    if rope.get("rope_type") not in (None, "default"):
        raise rope.refuse("rope_type", "Outrider needs 'default' in the image tower")
    return rope.number("rope_theta", vision.number("rope_theta", 10000.0))


def _channels(preprocessor: Fields, name: str) -> tuple[float, float, float]:
    values = preprocessor.items(name)
    if values is None:
        return (0.5, 0.5, 0.5)
    is_good = len(values) == 3 and all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e30
        for value in values
    )
    if not is_good or (name == "image_std" and 0 in values):
        raise preprocessor.refuse(name, "it must be a list of three positive numbers")
    return (float(values[0]), float(values[1]), float(values[2]))


def _check_vision(vision: Fields, preprocessor: Fields, result: VisionConfig) -> None:
    shuffled = result.hidden_size * result.shuffle**2
    checks = {
        "patch_size": result.patches_per_side % result.shuffle == 0 and result.tokens_per_tile,
        "num_attention_heads": result.head_dim >= 4 and result.head_dim % 4 == 0,
        "intermediate_size": result.intermediate_size == shuffled,
        "vision_output_dim": vision.integer("vision_output_dim", 7680) == result.output_size,
        "projector_input_dim": result.adapter_size == result.output_size,
    }
    for name, is_good in checks.items():
        if not is_good:
            raise vision.refuse(name, "it doesn't fit the tower's other sizes")
    for name in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        if not preprocessor.flag(name, True):
            raise preprocessor.refuse(name, "Outrider always does this step")
    if abs(preprocessor.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise preprocessor.refuse("rescale_factor", "Outrider needs 1/255")
    if preprocessor.integer("resample", _BILINEAR, 0) != _BILINEAR:
        raise preprocessor.refuse("resample", f"Outrider needs {_BILINEAR} (bilinear)")
    if preprocessor.flag("resize_to_max_canvas", False):
        raise preprocessor.refuse("resize_to_max_canvas", "Outrider needs False")
    size = preprocessor.inner("size")
    for side in ("height", "width"):
        if size is not None and size.integer(side, result.image_size) != result.image_size:
            raise size.refuse(side, f"the tower takes tiles of {result.image_size} pixels")
