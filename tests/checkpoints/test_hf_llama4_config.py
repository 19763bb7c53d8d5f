"""config.json of Llama 4: the releases' values, the defaults behind absent fields, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama4_release_configs import GUARD, MAVERICK, SCOUT, rope_scaling
from outrider.checkpoints.huggingface import HuggingFaceOutline
from outrider.errors import CheckpointError
from outrider.model.config import NO_TOKEN, RopeScaling, VisionConfig

NOPE = tuple(range(3, 48, 4))
CHUNKED = tuple(layer for layer in range(48) if layer not in NOPE)


def outline(
    folder: Path, config: dict[str, Any], files: dict[str, Any] | None = None
) -> HuggingFaceOutline:
    folder.mkdir(exist_ok=True)
    for name, content in {"config.json": config, **(files or {})}.items():
        (folder / name).write_text(json.dumps(content))
    return HuggingFaceOutline(folder)


def text(**changes: Any) -> dict[str, Any]:
    """Give a small text-only config; None in `changes` stands for null."""
    return {"model_type": "llama4_text", "num_hidden_layers": 8, "hidden_size": 80} | changes


def multimodal(**vision: Any) -> dict[str, Any]:
    return SCOUT | {"vision_config": SCOUT["vision_config"] | vision}


def test_scouts_config_is_read(tmp_path: Path) -> None:
    found = outline(tmp_path / "scout", SCOUT)
    config = found.config
    assert (config.architecture, config.name, config.num_layers) == ("llama4", "scout", 48)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (40, 8, 128)
    assert (config.num_experts, config.num_experts_per_token) == (16, 1)
    assert (config.expert_intermediate_size, config.intermediate_size) == (8192, 16384)
    assert config.moe_layers == tuple(range(48))
    assert (config.nope_layers, config.chunked_layers) == (NOPE, CHUNKED)
    assert (config.attention_chunk_size, config.floor_scale, config.attn_scale) == (8192, 8192, 0.1)
    assert config.use_qk_norm
    assert config.attn_temperature_tuning
    assert config.rope_scaling == RopeScaling(16.0, 1.0, 1.0, 8192)
    assert (config.rope_theta, config.rms_norm_eps) == (5e5, 1e-5)
    assert config.max_position_embeddings == 10485760
    assert config.eos_token_ids == (200001, 200007, 200008)
    assert config.vision == VisionConfig(
        image_size=336, patch_size=14, hidden_size=1408, intermediate_size=5632, num_layers=34,
        num_heads=16, layer_norm_eps=1e-5, rope_theta=10000.0, shuffle=2, adapter_size=4096,
        output_size=4096, patch_token_id=200092,
    )  # fmt: skip
    assert found.warnings == ()
    assert (found.chat_format, found.tokenizer_json()) == ("none", "")


def test_mavericks_config_is_read(tmp_path: Path) -> None:
    config = outline(tmp_path, MAVERICK).config
    assert (config.num_experts, config.moe_layers) == (128, tuple(range(1, 48, 2)))
    assert (config.use_qk_norm, config.attn_temperature_tuning) == (False, True)
    assert (config.rope_scaling, config.rope_divisors) == (None, ())
    assert (config.nope_layers, config.chunked_layers) == (NOPE, CHUNKED)


def test_guards_config_is_read(tmp_path: Path) -> None:
    config = outline(tmp_path, GUARD).config
    assert (config.moe_layers, config.chunked_layers) == ((), ())
    assert (config.nope_layers, config.intermediate_size) == (NOPE, 8192)
    assert [group.chunk_size for group in config.kv_groups()] == [0]


def test_what_a_text_config_leaves_out_has_the_defaults_of_transformers(tmp_path: Path) -> None:
    config = outline(tmp_path, {"model_type": "llama4_text"}).config
    assert (config.num_layers, config.hidden_size, config.vocab_size) == (48, 5120, 202048)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (40, 8, 128)
    assert (config.expert_intermediate_size, config.intermediate_size) == (8192, 16384)
    assert (config.num_experts, config.num_experts_per_token) == (16, 1)
    assert (config.moe_layers, config.nope_layers) == (tuple(range(48)), NOPE)
    assert (config.chunked_layers, config.attention_chunk_size) == (CHUNKED, 8192)
    assert (config.use_qk_norm, config.attn_temperature_tuning) == (True, True)
    assert (config.floor_scale, config.attn_scale) == (8192.0, 0.1)
    assert (config.rms_norm_eps, config.rope_theta) == (1e-5, 5e5)
    assert config.max_position_embeddings == 131072
    assert not config.tie_word_embeddings
    assert config.vision is None


def test_null_sizes_of_heads_are_derived(tmp_path: Path) -> None:
    config = outline(
        tmp_path, text(head_dim=None, num_key_value_heads=None, num_attention_heads=4)
    ).config
    assert (config.num_kv_heads, config.head_dim) == (4, 20)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"no_rope_layers": None}, (3, 7)),
        ({"no_rope_layers": []}, (3, 7)),
        ({"no_rope_layer_interval": 2}, (1, 3, 5, 7)),
        ({"no_rope_layer_interval": 2, "no_rope_layers": [1, 0, 1, 1, 1, 1, 1, 0]}, (1, 7)),
        ({"no_rope_layers": [1] * 12, "no_rope_layer_interval": 1}, ()),
        ({"no_rope_layers": [True] * 7 + [False]}, (7,)),
    ],
)
def test_layers_without_rope_come_from_the_file(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[int, ...]
) -> None:
    config = outline(tmp_path, text(**changes)).config
    assert config.nope_layers == expected
    assert config.chunked_layers == tuple(i for i in range(8) if i not in expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, tuple(range(8))),
        ({"moe_layers": None, "interleave_moe_layer_step": 2}, (1, 3, 5, 7)),
        ({"interleave_moe_layer_step": 3}, (2, 5)),
        ({"interleave_moe_layer_step": 0}, ()),
        ({"moe_layers": []}, ()),
        ({"moe_layers": [6, 0], "interleave_moe_layer_step": 2}, (0, 6)),
    ],
)
def test_layers_with_experts_come_from_the_file(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert outline(tmp_path, text(**changes)).config.moe_layers == expected


@pytest.mark.parametrize(
    ("changes", "expected", "size"),
    [
        ({"attention_chunk_size": None}, (), 0),
        ({"attention_chunk_size": 0}, (), 0),
        ({"attention_chunk_size": 5}, (0, 1, 2, 4, 5, 6), 5),
        ({"layer_types": None}, (0, 1, 2, 4, 5, 6), 8192),
        ({"layer_types": []}, (0, 1, 2, 4, 5, 6), 8192),
        ({"layer_types": ["full_attention"] * 7 + ["chunked_attention"]}, (7,), 8192),
    ],
)
def test_chunked_layers_come_from_the_file(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[int, ...], size: int
) -> None:
    config = outline(tmp_path, text(**changes)).config
    assert (config.chunked_layers, config.attention_chunk_size) == (expected, size)


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (4, True), (0, False), (False, False), (None, True)]
)
def test_temperature_tuning_may_be_a_number(tmp_path: Path, value: Any, expected: bool) -> None:
    config = outline(tmp_path, text(attn_temperature_tuning=value)).config
    assert config.attn_temperature_tuning is expected


@pytest.mark.parametrize(
    ("fields", "theta"),
    [
        ({"rope_scaling": rope_scaling(8.0, 4.0), "rope_theta": 7e5}, 7e5),
        ({"rope_parameters": rope_scaling(8.0, 4.0) | {"rope_theta": 3e5}, "rope_theta": 9.0}, 3e5),
        ({"rope_scaling": rope_scaling(8.0, 4.0), "rope_parameters": {"rope_theta": 1.0}}, 5e5),
    ],
    ids=["old", "new", "both"],
)
def test_obsolete_rope_constants_are_used_and_warned_about(
    tmp_path: Path, fields: dict[str, Any], theta: float
) -> None:
    found = outline(tmp_path, text(**fields))
    assert found.config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)
    assert found.config.rope_theta == theta
    (warning,) = found.warnings
    assert "factor 8, high_freq_factor 4" in warning
    assert "factor 16, high_freq_factor 1" in warning
    assert "\n" not in warning


def test_scaling_without_an_original_length_takes_the_models(tmp_path: Path) -> None:
    scaling = rope_scaling(16.0, 1.0)
    del scaling["original_max_position_embeddings"]
    fields = text(rope_scaling=scaling, max_position_embeddings=4096)
    assert outline(tmp_path, fields).config.rope_scaling == RopeScaling(16.0, 1.0, 1.0, 4096)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "attention_bias is True; Outrider needs False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; Outrider runs at most"),
        ({"num_hidden_layers": 2**80}, "num_hidden_layers is .* must be an integer"),
        ({"hidden_size": "5120"}, "hidden_size is '5120'"),
        ({"num_local_experts": 0}, "a token can't meet 1 of 0 experts"),
        ({"num_local_experts": 2, "num_experts_per_tok": 3}, "can't meet 3 of 2 experts"),
        ({"moe_layers": [8]}, "moe_layers has 8, which isn't one of 8 layers"),
        ({"moe_layers": ["0"]}, "moe_layers has '0'"),
        ({"moe_layers": 3}, "moe_layers is 3; it must be a list"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers has 2 entries for 8 layers"),
        ({"no_rope_layers": [2] * 8}, "no_rope_layers has 2; it holds 0 and 1"),
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0"),
        ({"layer_types": ["sliding_attention"] * 8}, "layer_types has 'sliding_attention'"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 8 layers"),
        ({"attention_chunk_size": -1}, "attention_chunk_size is -1"),
        ({"attention_chunk_size": "8192"}, "attention_chunk_size is '8192'"),
        ({"floor_scale": 0}, "floor_scale is 0; it must be a positive number"),
        ({"use_qk_norm": "yes"}, "use_qk_norm is 'yes'; it must be true or false"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"head_dim": 2**20}, "head_dim is 1048576"),
        ({"num_key_value_heads": 3}, "isn't a multiple|not a multiple"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' isn't supported"),
        ({"rope_parameters": {"full_attention": {}}}, "differs by kind of layer"),
        ({"rope_scaling": rope_scaling(16.0, 0.5)}, "low_freq_factor is above high_freq_factor"),
        ({"rope_theta": "5e5"}, "rope_theta is '5e5'"),
        ({"eos_token_id": "2"}, "token id '2' is outside the vocabulary of 202048"),
        ({"attn_scale": 1e31}, "attn_scale is 1e\\+31; it must be a finite number"),
        ({"rms_norm_eps": -1e-5}, "rms_norm_eps is -1e-05; it must be a number from 0 up"),
        ({"rope_theta": 10**400}, r"rope_theta is 1000+\.\.\.0000+; it must be a positive number"),
        ({"rope_scaling": rope_scaling(10**400, 1.0)}, r"bad RoPE scaling: 10+\.\.\.0+ isn't a"),
        (
            {"rope_scaling": rope_scaling(8.0, 1.0) | {"original_max_position_embeddings": 10**20}},
            "10{20} isn't a whole number",
        ),
        ({"hidden_act": "x" * 5000}, r"hidden_act is 'xxxx+\.\.\.x+'; Outrider"),
    ],
)
def test_text_that_cannot_be_computed_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        outline(tmp_path, text(**changes))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300 + len(str(tmp_path))
    assert "config.json" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels": 1}, "num_channels is 1"),
        ({"num_hidden_layers": 10**9}, "at most 4096 layers"),
        ({"image_size": [336, 448]}, r"image_size is \[336, 448\]"),
        ({"image_size": 350}, "patch_size is 14; it doesn't fit"),
        ({"num_attention_heads": 17}, "num_attention_heads is 17; it doesn't fit"),
        ({"num_attention_heads": 2000}, "num_attention_heads is 2000; it doesn't fit"),
        ({"intermediate_size": 1408}, "intermediate_size is 1408; it doesn't fit"),
        ({"pixel_shuffle_ratio": 0.4}, "pixel_shuffle_ratio is 0.4; it must be one over"),
        ({"vision_output_dim": 7680}, "vision_output_dim is 7680; it doesn't fit"),
        ({"projector_input_dim": 2048}, "projector_input_dim is 2048; it doesn't fit"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_type is 'linear'"),
    ],
)
def test_image_towers_that_cannot_be_computed_are_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        outline(tmp_path, multimodal(**changes))
    assert "\n" not in caught.value.message


def test_sizes_of_another_image_tower_come_from_the_file(tmp_path: Path) -> None:
    changes = {
        "image_size": [84, 84], "patch_size": [14, 14], "hidden_size": 24, "intermediate_size": 216,
        "num_attention_heads": 3, "num_hidden_layers": 2, "pixel_shuffle_ratio": 1 / 3,
        "projector_input_dim": 20, "projector_output_dim": 20, "vision_output_dim": 20,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}, "norm_eps": 1e-3,
    }  # fmt: skip
    config = multimodal(**changes)
    del config["image_token_index"]
    vision = outline(tmp_path, config | {"image_token_id": 7}).config.vision
    assert vision is not None
    assert (vision.image_size, vision.patch_size, vision.shuffle) == (84, 14, 3)
    assert (vision.tokens_per_tile, vision.rope_theta, vision.patch_token_id) == (4, 100.0, 7)
    assert vision.layer_norm_eps == 1e-5  # what transformers computes with, whatever the file says


@pytest.mark.parametrize("token_id", [202048, -1, 10**30])
def test_without_its_image_token_a_model_reads_text_alone(tmp_path: Path, token_id: int) -> None:
    found = outline(tmp_path, SCOUT | {"image_token_index": token_id})
    assert found.config.vision is not None
    assert found.config.vision.patch_token_id == NO_TOKEN
    assert found.warnings == (
        f"{tmp_path / 'config.json'}: image token {token_id} is outside the vocabulary of 202048; "
        "images are refused",
    )


def test_image_tokens_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"image_token_index is '9'; it must be an integer"):
        outline(tmp_path, SCOUT | {"image_token_index": "9"})


def test_ids_outside_the_vocabulary_are_left_out_with_a_warning(tmp_path: Path) -> None:
    files = {"generation_config.json": {"eos_token_id": [8, 200007], "pad_token_id": 200018}}
    fields = text(vocab_size=50, eos_token_id=[-1, 9, 200001], bos_token_id=200000)
    found = outline(tmp_path, fields, files)
    assert (found.config.eos_token_ids, found.config.bos_token_id) == ((9, 8), None)
    assert found.warnings == (
        f"{tmp_path / 'config.json'}: eos_token_id -1, 200001 is outside the vocabulary of 50 and "
        "is ignored",
        f"{tmp_path / 'generation_config.json'}: eos_token_id 200007 is outside the vocabulary of "
        "50 and is ignored",
    )


def test_a_first_token_outside_the_vocabulary_is_left_out(tmp_path: Path) -> None:
    files = {"tokenizer_config.json": {"add_bos_token": True}}
    found = outline(tmp_path, text(vocab_size=50, eos_token_id=1, bos_token_id=200000), files)
    assert (found.config.eos_token_ids, found.config.bos_token_id) == ((1,), None)
    assert [warning.split(": ")[1] for warning in found.warnings] == [
        "bos_token_id 200000 is outside the vocabulary of 50 and is ignored"
    ]


def test_a_tokenizer_with_more_tokens_than_the_model_gives_a_warning(tmp_path: Path) -> None:
    names = ("<|header_start|>", "<|header_end|>", "<|eot|>")
    added = [{"id": 49 + index, "content": name} for index, name in enumerate(names)]
    files = {
        "tokenizer.json": {"added_tokens": added},
        "tokenizer_config.json": {"chat_template": "<|header_start|>"},
    }
    found = outline(tmp_path, text(vocab_size=50, eos_token_id=1), files)
    assert found.config.eos_token_ids == (1,)
    assert found.warnings == (
        f"{tmp_path / 'tokenizer.json'}: end of turn 51 is outside the vocabulary of 50 and is "
        "ignored",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_scale": 0.0},
        {"attn_scale": -0.1},
        {"rms_norm_eps": 0.0},
        {"num_experts_per_token": 0},
        {"rope_theta": 1e20},
    ],
)
def test_values_that_transformers_computes_are_taken(
    tmp_path: Path, changes: dict[str, float]
) -> None:
    names = {"num_experts_per_token": "num_experts_per_tok"}
    fields = {names.get(name, name): value for name, value in changes.items()}
    config = outline(tmp_path, text(hidden_act="swish", **fields)).config
    assert {name: getattr(config, name) for name in changes} == changes


def test_whole_numbers_in_ropes_constants_become_floats(tmp_path: Path) -> None:
    fields = text(rope_theta=10**25, rope_scaling=rope_scaling(10**25, 1))
    config = outline(tmp_path, fields).config
    assert config.rope_scaling is not None
    found = (config.rope_theta, config.rope_scaling.factor, config.rope_scaling.low_freq_factor)
    assert found == (1e25, 1e25, 1.0)
    assert {type(value) for value in found} == {float}
    linear = text(rope_scaling={"rope_type": "linear", "factor": 10**25})
    assert set(map(repr, outline(tmp_path, linear).config.rope_divisors)) == {"1e+25"}


@pytest.mark.parametrize("act", ["quick_gelu", "relu", None])
def test_the_towers_activation_is_gelu_whatever_the_file_says(
    tmp_path: Path, act: str | None
) -> None:
    assert outline(tmp_path, multimodal(hidden_act=act)).config.vision is not None


def test_heads_of_the_tower_may_be_narrower_than_its_hidden_size(tmp_path: Path) -> None:
    found = outline(tmp_path, multimodal(num_attention_heads=14))
    assert found.config.vision is not None
    assert found.config.vision.head_dim == 100
    assert found.spec("vision.layers.0.q_proj").shape == (14 * 100, 1408)
    assert found.spec("vision.layers.0.o_proj").shape == (1408, 14 * 100)


@pytest.mark.parametrize("nested", [False, True])
def test_the_image_processors_file_is_read(tmp_path: Path, nested: bool) -> None:
    fields = {
        "max_patches": 4, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 0.5, 0.25],
        "size": {"height": 336, "width": 336}, "do_resize": True, "resize_to_max_canvas": False,
        "rescale_factor": 0.00392156862745098, "resample": 2,
    }  # fmt: skip
    files = {"processor_config.json": {"image_processor": fields}}
    found = outline(tmp_path, SCOUT, files if nested else {"preprocessor_config.json": fields})
    vision = found.config.vision
    assert vision is not None
    assert (vision.max_tiles, vision.image_mean) == (4, (0.1, 0.2, 0.3))
    assert vision.image_std == (1.0, 0.5, 0.25)
    assert len(found.files()) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": {"height": 224, "width": 224}}, "height is 224; the tower takes tiles of 336"),
        ({"image_mean": [0.5]}, "image_mean is"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std is"),
        ({"resize_to_max_canvas": True}, "resize_to_max_canvas is True"),
        ({"do_normalize": False}, "do_normalize is False"),
        ({"max_patches": 0}, "max_patches is 0"),
        ({"max_patches": 257}, "max_patches is 257; it must be an integer from 1 to 256"),
        ({"rescale_factor": 1}, "rescale_factor is 1; Outrider needs 1/255"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078.*; Outrider needs 1/255"),
        ({"resample": 3}, r"resample is 3; Outrider needs 2 \(bilinear\)"),
    ],
)
def test_image_processing_that_is_not_done_here_is_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        outline(tmp_path, SCOUT, {"preprocessor_config.json": fields})


def test_text_only_architectures_have_no_image_tower(tmp_path: Path) -> None:
    assert outline(tmp_path, SCOUT | {"architectures": ["Llama4ForCausalLM"]}).config.vision is None
    assert outline(tmp_path, SCOUT | {"vision_config": None}).config.vision is None


def test_other_model_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model_type is 'llama5'; Outrider runs llama"):
        outline(tmp_path, {"model_type": "llama5"})


def test_end_tokens_of_all_files_count(tmp_path: Path) -> None:
    files = {"generation_config.json": {"eos_token_id": [9, 8], "temperature": 0.6}}
    found = outline(tmp_path, text(eos_token_id=8), files)
    assert found.config.eos_token_ids == (8, 9)
    assert found.generation == {"temperature": 0.6}
