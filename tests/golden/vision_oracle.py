"""What transformers computes from a tower's tensors, in float32.

Used by the script that makes vision.npz and by the parity tests, which need the `parity` extra.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.models.llama4.configuration_llama4 import (
    Llama4Config,
    Llama4TextConfig,
    Llama4VisionConfig,
)
from transformers.models.llama4.modeling_llama4 import (
    Llama4MultiModalProjector,
    Llama4VisionModel,
)

from outrider.model.config import ModelConfig, VisionConfig
from tiny_llama4 import hf_name

F32Array = NDArray[np.float32]


def vision_config(vision: VisionConfig) -> Llama4VisionConfig:
    """Translate a tower's config; its norm_eps is a decoy, for transformers doesn't read it."""
    return Llama4VisionConfig(
        hidden_size=vision.hidden_size,
        num_hidden_layers=vision.num_layers,
        num_attention_heads=vision.num_heads,
        intermediate_size=vision.intermediate_size,
        vision_output_dim=vision.output_size,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        norm_eps=0.5,
        pixel_shuffle_ratio=1 / vision.shuffle,
        projector_input_dim=vision.adapter_size,
        projector_output_dim=vision.output_size,
        rope_parameters={"rope_type": "default", "rope_theta": vision.rope_theta},
    )


def pixel_values(pixels: NDArray[np.uint8], vision: VisionConfig) -> torch.Tensor:
    """Normalise tiles [n, S, S, 3] in float64 → float32 [n, 3, S, S]."""
    values = (pixels / 255 - np.array(vision.image_mean)) / np.array(vision.image_std)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))


class VisionOracle:
    """Tower and projector as transformers has them."""

    def __init__(self, config: ModelConfig, tensors: dict[str, F32Array]) -> None:
        if config.vision is None:
            raise ValueError("the config has no tower")
        self.vision = config.vision
        whole = Llama4Config(
            vision_config=vision_config(self.vision).to_dict(),
            text_config=Llama4TextConfig(hidden_size=config.hidden_size).to_dict(),
        )
        self.tower = Llama4VisionModel(whole.vision_config).eval()
        self.projector = Llama4MultiModalProjector(whole).eval()
        state = {hf_name(name): torch.from_numpy(values) for name, values in tensors.items()}
        projector = state.pop("multi_modal_projector.linear_1.weight")
        self.projector.load_state_dict({"linear_1.weight": projector})
        prefix = "vision_model."
        self.tower.load_state_dict({n.removeprefix(prefix): v for n, v in state.items()})

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> F32Array:
        """Encode tiles [n, S, S, 3] → [n * M, C]."""
        hidden = self.tower(pixel_values(pixels, self.vision)).last_hidden_state
        features = self.projector(hidden.reshape(-1, hidden.shape[-1]))
        return np.asarray(features.numpy(), np.float32)
