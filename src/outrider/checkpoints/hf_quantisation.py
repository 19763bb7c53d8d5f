"""What config.json says of a quantised release: which methods are refused, by name and remedy.

How each matrix is stored is told by its tensors, so that ignore lists, targets and several groups
need no interpretation; only group and block sizes are taken from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.hf_fields import Fields, Json
from outrider.errors import CheckpointError

# What a quantisation is called in config.json, and what a user can do who has it.
_READABLE_FORMATS = {
    "pack-quantized", "naive-quantized", "float-quantized", "int-quantized", "mixed-precision",
    "dense",
}  # fmt: skip
_REMEDY = "use a bf16, FP8 or int4 (compressed-tensors) release of the model, or a GGUF file"


@dataclass(frozen=True)
class Quantisation:
    """What readers of quantised matrices need from the config; neutral if there is none."""

    group_sizes: tuple[int, ...] = ()
    block: tuple[int, int] | None = None  # rows and columns that share an FP8 scale


def quantisation(label: str, config: Json) -> Quantisation:
    """Read the quantisation of a config.json; what can't be read is refused."""
    text = Fields(label, config).inner("text_config") or Fields(label, {})
    for fields in (Fields(label, config), text):
        for name in ("quantization_config", "compression_config"):
            found = fields.inner(name)
            if found is not None and found.values:
                return _readable(found)
    return Quantisation()


def _readable(fields: Fields) -> Quantisation:
    method = fields.get("quant_method")
    block = fields.items("weight_block_size")
    if method in ("fp8", "fbgemm_fp8") or (
        method == "modelopt" and fields.get("quant_algo") == "FP8"
    ):
        return Quantisation((), _block(fields, block))
    if method != "compressed-tensors":
        name = fields.get("quant_algo") if method == "modelopt" else method
        raise CheckpointError(
            f"{fields.label}: the weights are quantised by {shown(name)}, which Outrider can't "
            f"read; {_REMEDY}"
        )
    groups = fields.inner("config_groups") or Fields(fields.label, {})
    formats = [fields.get("format")]
    sizes: list[int] = []
    for name in groups.values:
        group = groups.inner(name) or Fields(groups.label, {})
        formats.append(group.get("format"))
        weights = group.inner("weights") or Fields(group.label, {})
        sizes += [weights.integer("group_size", -1, -1)]
        block = block or weights.items("block_structure")
    for used in formats:
        if used is not None and used not in _READABLE_FORMATS:
            raise CheckpointError(
                f"{fields.label}: the weights are stored as {shown(used)}, which Outrider can't "
                f"read; {_REMEDY}"
            )
    return Quantisation(tuple(sizes), _block(fields, block))


def _block(fields: Fields, block: list[object] | None) -> tuple[int, int] | None:
    if not block:
        return None
    if len(block) != 2 or not all(type(side) is int and side > 0 for side in block):
        raise CheckpointError(
            f"{fields.label}: FP8 blocks of {shown(block)} can't be; fetch it again"
        )
    return (block[0], block[1])  # type: ignore[return-value]
