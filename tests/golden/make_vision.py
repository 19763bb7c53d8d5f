"""Makes vision.npz: features of random tiny towers as transformers computes them.

Run it in tests/ with the `parity` extra: `python -m golden.make_vision`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from golden.vision_oracle import VisionOracle
from tiny_vision import TOWERS, draw_tensors, draw_tiles, model_config

VISION_NPZ = Path(__file__).parent / "vision.npz"
NUM_TILES = 2


def make() -> dict[str, NDArray[np.float32]]:
    """Compute the features of `NUM_TILES` tiles by every tower."""
    golden = {}
    for seed, (name, vision) in enumerate(TOWERS.items()):
        config = model_config(vision)
        oracle = VisionOracle(config, draw_tensors(config, seed))
        golden[name] = oracle.encode(draw_tiles(vision, NUM_TILES, seed))
    return golden


if __name__ == "__main__":
    torch.set_num_threads(1)
    versions = {module.__name__: module.__version__ for module in (np, torch, transformers)}
    np.savez_compressed(VISION_NPZ, versions=np.array(str(versions)), **make())
