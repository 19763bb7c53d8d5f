"""The image tower of transformers in bf16 as the other side of vision.py.

The same messages as side_vision_outrider.py. Pixels are normalised within the measured time, as on
our side; attention is PyTorch's fused one, its default.
"""

from __future__ import annotations

import time

import numpy as np
import torch
import transformers
from sides import Message, answer_all
from transformers.models.llama4.configuration_llama4 import (
    Llama4Config,
    Llama4TextConfig,
    Llama4VisionConfig,
)
from transformers.models.llama4.modeling_llama4 import (
    Llama4MultiModalProjector,
    Llama4VisionModel,
)
from vision_tower import TOWER, draw, draw_tile, model_config, tower_shapes

from outrider.checkpoints.hf_names import HfNames

NAMES = HfNames.of("random tower", (), is_llama4=True)


def tower_and_projector() -> tuple[Llama4VisionModel, Llama4MultiModalProjector]:
    """Make both modules with the drawn weights, in bf16."""
    vision = Llama4VisionConfig(
        hidden_size=TOWER.hidden_size, num_hidden_layers=TOWER.num_layers,
        num_attention_heads=TOWER.num_heads, intermediate_size=TOWER.intermediate_size,
        vision_output_dim=TOWER.output_size, image_size=TOWER.image_size,
        patch_size=TOWER.patch_size, pixel_shuffle_ratio=1 / TOWER.shuffle,
        projector_input_dim=TOWER.adapter_size, projector_output_dim=TOWER.output_size,
        rope_parameters={"rope_type": "default", "rope_theta": TOWER.rope_theta},
    )  # fmt: skip
    config = model_config()
    text = Llama4TextConfig(hidden_size=config.hidden_size)
    whole = Llama4Config(vision_config=vision.to_dict(), text_config=text.to_dict())
    torch.set_default_dtype(torch.bfloat16)
    tower = Llama4VisionModel(whole.vision_config).eval()
    projector = Llama4MultiModalProjector(whole).eval()
    state = {
        NAMES.own_name(name): torch.from_numpy(draw(name, shape)).view(torch.bfloat16)
        for name, shape in tower_shapes(config).items()
    }
    linear = state.pop("multi_modal_projector.linear_1.weight")
    projector.load_state_dict({"linear_1.weight": linear}, assign=True)
    tower.load_state_dict(
        {name.removeprefix("vision_model."): values for name, values in state.items()}, assign=True
    )
    return tower, projector


class Peer:
    """A tower that is made by the first message."""

    def answer(self, message: Message) -> Message:
        """Make the tower or encode a tile."""
        if "threads" in message:
            torch.set_num_threads(message["threads"])
            self._tower, self._projector = tower_and_projector()
            attention = self._tower.config._attn_implementation
            return {
                "name": f"transformers {transformers.__version__}, torch {torch.__version__}",
                "settings": f"bf16, attention {attention}, {torch.get_num_threads()} threads",
            }
        tile = draw_tile(message["seed"])
        begin = time.perf_counter()
        features = self._encode(tile)
        seconds = time.perf_counter() - begin
        if "features" in message:
            np.save(message["features"], features.float().numpy())
        return {"seconds": seconds}

    @torch.inference_mode()
    def _encode(self, tile: np.ndarray) -> torch.Tensor:
        mean, std = (np.array(v, np.float32) for v in (TOWER.image_mean, TOWER.image_std))
        pixels = ((tile / np.float32(255) - mean) / std).transpose(2, 0, 1)[None]
        hidden = self._tower(torch.from_numpy(pixels).bfloat16()).last_hidden_state
        return self._projector(hidden.reshape(-1, hidden.shape[-1]))


if __name__ == "__main__":
    answer_all(Peer().answer)
