"""Rotary frequencies of a model and their cosines and sines at given positions.

Frequencies and angles are f32, as in the reference implementations: at position 8,000 an f64 angle
would differ from theirs by more than the logits' tolerance allows, and so would a frequency that is
rounded differently. Pairs are interleaved.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from outrider.model.config import ModelConfig, RopeScaling

F32Array = NDArray[np.float32]


def inverse_frequencies(config: ModelConfig) -> F32Array:
    """Give theta^(-2i/D) for the D/2 pairs of a head, scaled as the checkpoint asks."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    # The power is rounded from f64: NumPy's own f32 power is off by one in every fifth last bit,
    # torch's in one of 80.
    powers = (config.rope_theta ** exponents.astype(np.float64)).astype(np.float32)
    frequencies = (1 / powers).astype(np.float32)
    if config.rope_divisors:
        return (frequencies / np.asarray(config.rope_divisors, np.float32)).astype(np.float32)
    if config.rope_scaling is not None:
        return _scaled_as_llama3(frequencies, config.rope_scaling)
    return frequencies


def _scaled_as_llama3(frequencies: F32Array, scaling: RopeScaling) -> F32Array:
    # Llama 3.1: wavelengths beyond original / low are divided by `factor`, those below
    # original / high stay, and those between are blended (llama-models, apply_scaling).
    original = scaling.original_max_position_embeddings
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    factor = np.float32(scaling.factor)
    divided = frequencies / factor
    if high == low:  # Scout's constants: a step without anything between
        blended = frequencies
    else:
        smooth = ((original / wavelengths - low) / (high - low)).astype(np.float32)
        blended = (1 - smooth) * frequencies / factor + smooth * frequencies
    result = np.where(wavelengths > original / low, divided, blended)
    return np.where(wavelengths < original / high, frequencies, result).astype(np.float32)


class RotaryTable:
    """Cosines and sines for the positions of a step."""

    def __init__(self, config: ModelConfig) -> None:
        self._frequencies = inverse_frequencies(config)  # [D/2]

    def at(self, positions: NDArray[np.int32]) -> tuple[F32Array, F32Array]:
        """Give cosines and sines [T, D/2] at positions [T]."""
        angles = positions.astype(np.float32)[:, None] * self._frequencies[None, :]
        return np.cos(angles), np.sin(angles)
