"""Our image tower as a side of vision.py.

First message: {"threads", "isa"}; then {"seed"} of a tile, answered with seconds; {"seed",
"features": FILE} writes what the tile was encoded to instead. See sides.py.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from sides import Message, answer_all
from vision_tower import draw, draw_tile, model_config, tower_shapes

import outrider
from outrider import kernels
from outrider.kernels.formats import Format
from outrider.kernels.layout import bf16_to_f32, pack_bf16
from outrider.model.vision import VisionTower

F32Array = NDArray[np.float32]


class DrawnTensors:
    """The tower's tensors as a packed bf16 file would give them."""

    def __init__(self) -> None:
        self._shapes = tower_shapes(model_config())

    def weight(self, name: str) -> kernels.Weight:
        """Pack a matrix; it begins at a cache line, as in a packed file."""
        packed = pack_bf16(draw(name, self._shapes[name]))
        memory = np.empty(len(packed) + 64, np.uint8)
        data = memory[-memory.ctypes.data % 64 :][: len(packed)]
        data[:] = packed
        return kernels.Weight(int(Format.BF16), *self._shapes[name], data)

    def experts(self, name: str) -> kernels.Experts:
        """Refuse: a tower has none."""
        raise KeyError(name)

    def vector(self, name: str) -> F32Array:
        """Give a vector."""
        return bf16_to_f32(draw(name, self._shapes[name]))

    matrix = vector


class OurTower:
    """A tower that is made by the first message."""

    def answer(self, message: Message) -> Message:
        """Make the tower or encode a tile."""
        if "threads" in message:
            context = kernels.Context(message["threads"], message["isa"])
            self._tower = VisionTower(model_config(), DrawnTensors(), context)
            return {"name": f"Outrider {outrider.__version__}", "isa": context.isa}
        tiles = draw_tile(message["seed"])[None]
        begin = time.perf_counter()
        features = self._tower.encode(tiles)
        seconds = time.perf_counter() - begin
        if "features" in message:
            np.save(message["features"], features)
        return {"seconds": seconds}


if __name__ == "__main__":
    answer_all(OurTower().answer)
