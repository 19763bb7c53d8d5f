"""Typed access to the metadata of a GGUF file.

A value that is missing, of another type or out of range is refused with its key; nothing is
converted silently. The keys' meaning is left to the readers of each architecture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from outrider.checkpoints.gguf import Value
from outrider.errors import CheckpointError

MAX_INTEGER = 1 << 31
MAX_NUMBER = 1e30


class Metadata:
    """Metadata values; `label` names the file in errors."""

    def __init__(self, label: str, values: Mapping[str, Value]) -> None:
        self.label = label
        self.values = values

    def string(self, key: str, default: str) -> str:
        """Give a string."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise CheckpointError(f"{self.label}: metadata {key} isn't a string")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Give an integer or a floating-point number; without a default it has to be there."""
        value = self.values.get(key, default)
        if value is None:
            raise CheckpointError(
                f"{self.label}: metadata {key} is missing; convert the model again"
            )
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise CheckpointError(f"{self.label}: metadata {key} isn't a number")
        return value

    def integer(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        """Give an integer from `minimum` up; without a default it has to be there."""
        value = self.number(key, default)
        if not isinstance(value, int) or not minimum <= value < MAX_INTEGER:
            raise CheckpointError(
                f"{self.label}: metadata {key} is {value!r}; it must be an integer from {minimum} "
                "up: convert the model again"
            )
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """Give a number above 0; without a default it has to be there."""
        value = self.number(key, default)
        if not 0 < value < MAX_NUMBER:
            raise CheckpointError(
                f"{self.label}: metadata {key} is {value!r}; it must be a positive number"
            )
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """Give true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.label}: metadata {key} is neither true nor false")
        return value

    def floats(self, key: str, count: int, default: tuple[float, ...]) -> tuple[float, ...]:
        """Give an array of `count` finite numbers."""
        value = self.values.get(key)
        if value is None:
            return default
        if (
            not isinstance(value, np.ndarray)
            or value.shape != (count,)
            or value.dtype.kind not in "iuf"
            or not np.isfinite(value).all()
        ):
            raise CheckpointError(f"{self.label}: metadata {key} isn't an array of {count} numbers")
        return tuple(float(item) for item in value.tolist())
