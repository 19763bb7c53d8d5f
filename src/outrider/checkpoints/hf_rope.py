"""RoPE as config.json describes it, in old files (rope_scaling) and new ones (rope_parameters).

Kinds that the decoder can't compute are refused. Where both spellings are there, rope_scaling
counts, as in transformers (modeling_rope_utils.py).
"""

from __future__ import annotations

from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.hf_fields import MAX_INTEGER, MAX_NUMBER, Fields
from outrider.errors import CheckpointError
from outrider.model.config import RopeScaling


def rope_fields(config: Fields, default_theta: float, max_positions: int) -> dict[str, object]:
    """Give rope_theta and, if there is any, the scaling, as fields of `ModelConfig`.

    A linear scaling is given as `linear_factor`, which isn't such a field: the number of divisors
    depends on the checked head size.
    """
    rope = _parameters(config)
    theta = rope.get("rope_theta")
    fields: dict[str, object] = {
        "rope_theta": config.number("rope_theta", default_theta) if theta is None else theta
    }
    kind = rope.get("rope_type") or rope.get("type") or "default"
    try:
        if kind == "linear":
            fields["linear_factor"] = _positive(rope.get("factor"))
        elif kind == "llama3":
            fields["rope_scaling"] = _llama3(rope, max_positions)
        elif kind != "default":
            raise CheckpointError(
                f"{config.label}: RoPE scaling {shown(kind)} isn't supported; default, linear and "
                "llama3 are"
            )
    except ValueError as error:
        raise CheckpointError(
            f"{config.label}: bad RoPE scaling: {error}; fetch it again"
        ) from error
    return fields


def _parameters(config: Fields) -> Fields:
    for name in ("rope_scaling", "rope_parameters"):
        value = config.get(name)
        if value and not isinstance(value, dict):
            raise CheckpointError(f"{config.label}: {name} isn't an object; fetch the model again")
        if value:
            if any(isinstance(item, dict) for item in value.values()):
                raise CheckpointError(
                    f"{config.label}: {name} differs by kind of layer; Outrider needs one RoPE"
                )
            return Fields(config.label, value)
    return Fields(config.label, {})


def _llama3(rope: Fields, max_positions: int) -> RopeScaling:
    original = rope.get("original_max_position_embeddings")
    original = max_positions if original is None else original
    if type(original) is not int or original > MAX_INTEGER:
        raise ValueError(f"{shown(original)} isn't a whole number")
    scaling = RopeScaling(
        _positive(rope.get("factor")),
        _positive(rope.get("low_freq_factor")),
        _positive(rope.get("high_freq_factor")),
        int(_positive(original)),
    )
    # Equal ones make a step: Scout's corrected constants are 1 and 1.
    if scaling.low_freq_factor > scaling.high_freq_factor:
        raise ValueError("low_freq_factor is above high_freq_factor")
    return scaling


def _positive(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < MAX_NUMBER:  # type: ignore[operator]
        raise ValueError(f"{shown(value)} isn't a positive number")
    return float(value)  # type: ignore[arg-type]
