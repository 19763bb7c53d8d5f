"""How Hugging Face checkpoints of Llama and Llama 4 name the tensors that Outrider knows.

Prefixes differ between releases ("model.", "language_model.model.", "model.language_model.", …),
so they are read off the names that are there: each part of a model has one tensor whose name ends
in the same way everywhere. Two candidates for a part are refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from outrider.errors import CheckpointError

_IN_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_IN_MLP = ("gate_proj", "up_proj", "down_proj")
_IN_VISION_MLP = ("fc1", "fc2")
_VISION_TOP = {
    "patch_embedding": "patch_embedding.linear.weight",
    "class_embedding": "class_embedding",
    "positional_embedding": "positional_embedding_vlm",
    "adapter.fc1": "vision_adapter.mlp.fc1.weight",
    "adapter.fc2": "vision_adapter.mlp.fc2.weight",
}


@dataclass(frozen=True)
class HfNames:
    """The prefixes of one checkpoint's parts."""

    decoder: str
    lm_head: str
    vision: str
    projector: str
    is_llama4: bool

    @classmethod
    def of(cls, label: str, found: Collection[str], is_llama4: bool) -> HfNames:
        """Find the prefixes among the names of a checkpoint's tensors."""
        return cls(
            decoder=_prefix(label, found, "embed_tokens.weight", "model."),
            lm_head=_prefix(label, found, "lm_head.weight", ""),
            vision=_prefix(label, found, "patch_embedding.linear.weight", "vision_model."),
            projector=_prefix(label, found, "multi_modal_projector.linear_1.weight", ""),
            is_llama4=is_llama4,
        )

    def own_name(self, name: str) -> str:
        """Translate a canonical name; of experts the name of the layer's `experts.{part}`."""
        if name == "lm_head":
            return f"{self.lm_head}lm_head.weight"
        if name == "vision.projector":
            return f"{self.projector}multi_modal_projector.linear_1.weight"
        if name.startswith("vision."):
            return self.vision + _vision_name(name.removeprefix("vision."))
        if not name.startswith("layers."):
            return f"{self.decoder}{name}.weight"
        _, layer, part = name.split(".", 2)
        return f"{self.decoder}layers.{layer}.{self._block(part)}{part}.weight"

    def experts(self, name: str) -> str:
        """Give what the names of a layer's experts begin with, up to and with "experts."."""
        _, layer, _ = name.split(".", 2)
        return f"{self.decoder}layers.{layer}.feed_forward.experts."

    def _block(self, part: str) -> str:
        if part in _IN_ATTENTION:
            return "self_attn."
        if part.endswith("layernorm"):
            return ""
        return "feed_forward." if self.is_llama4 else "mlp." if part in _IN_MLP else ""


def _vision_name(name: str) -> str:
    if name in _VISION_TOP:
        return _VISION_TOP[name]
    kind = "bias" if name.endswith(".bias") else "weight"
    name = name.removesuffix(".bias")
    if not name.startswith("layers."):
        return f"{name}.{kind}"
    *_, part = name.split(".")
    block = "mlp." if part in _IN_VISION_MLP else "self_attn." if part in _IN_ATTENTION else ""
    return f"model.{name.removesuffix(part)}{block}{part}.{kind}"


def _prefix(label: str, found: Collection[str], ending: str, default: str) -> str:
    candidates = [
        name.removesuffix(ending)
        for name in found
        if name.endswith(ending) and (name == ending or name[-len(ending) - 1] == ".")
    ]
    if len(candidates) > 1:
        raise CheckpointError(
            f"{label}: tensors {candidates[0]}{ending} and {candidates[1]}{ending} are both there; "
            "a checkpoint has one of them, fetch the model again"
        )
    return candidates[0] if candidates else default
