"""What the image tower's benchmark draws and how it counts a tile's work."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest

from outrider.kernels.layout import bf16_to_f32


@pytest.fixture
def tower() -> ModuleType:
    return importlib.import_module("vision_tower")


def test_a_tile_costs_what_the_reference_counts(tower: ModuleType) -> None:
    cost = tower.tile_cost(tower.model_config())
    patches, hidden, wide, layers = 576, 1408, 5632, 34
    blocks = layers * (patches + 1) * (4 * hidden**2 + 2 * hidden * wide)
    attention = layers * 2 * (patches + 1) ** 2 * hidden
    ends = patches * 588 * hidden + 144 * 4096 * (5632 + 4096 + 5120)
    assert cost.macs == {"bf16": blocks + attention + ends}
    assert 1.7e9 < cost.num_bytes < 1.8e9


def test_both_sides_draw_the_same_weights_and_tiles(tower: ModuleType) -> None:
    shape = (64, 4096)
    drawn = tower.draw("vision.layers.0.fc1", shape)
    assert np.array_equal(drawn, tower.draw("vision.layers.0.fc1", shape))
    assert not np.array_equal(drawn, tower.draw("vision.layers.1.fc1", shape))
    assert abs(bf16_to_f32(drawn).std() * 64 - 1) < 0.02
    assert np.array_equal(tower.draw_tile(3), tower.draw_tile(3))
    assert tower.draw_tile(3).shape == (336, 336, 3)
