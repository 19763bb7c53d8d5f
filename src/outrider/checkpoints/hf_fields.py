"""Typed access to the fields of a Hugging Face JSON object.

A field that is absent or null has its default; any other value of the wrong type or out of range
is refused with the file and the field. What fields mean is left to the readers of each config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.checkpoints.excerpt import shown
from outrider.errors import CheckpointError

Json = Mapping[str, Any]
MAX_INTEGER = (1 << 31) - 1
MAX_NUMBER = 1e30


class Fields:
    """The fields of one object; `label` names the file, and the object in it, in errors."""

    def __init__(self, label: str, values: Json) -> None:
        self.label = label
        self.values = values

    def get(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """Give a field as it is; None if it is absent."""
        return self.values.get(name)

    def refuse(self, name: str, needed: str) -> CheckpointError:
        """Make the error for a field whose value can't be used."""
        return CheckpointError(f"{self.label}: {name} is {shown(self.get(name))}; {needed}")

    def integer(self, name: str, default: int, minimum: int = 1, maximum: int = MAX_INTEGER) -> int:
        """Give an integer from `minimum` up to `maximum`."""
        value = self.get(name)
        if value is None:
            return default
        if type(value) is not int or not minimum <= value <= maximum:
            end = "up" if maximum == MAX_INTEGER else f"to {maximum}"
            raise self.refuse(name, f"it must be an integer from {minimum} {end}")
        return value

    def number(self, name: str, default: float) -> float:
        """Give a positive number."""
        value = self.get(name)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < MAX_NUMBER:
            raise self.refuse(name, "it must be a positive number")
        return float(value)

    def finite(self, name: str, default: float) -> float:
        """Give a finite number of either sign."""
        value = self.get(name)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) < MAX_NUMBER:
            raise self.refuse(name, "it must be a finite number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Give true or false; old files write numbers, of which 0 is false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool | int):
            raise self.refuse(name, "it must be true or false")
        return bool(value)

    def items(self, name: str) -> list[Any] | None:
        """Give a list; None if there is none."""
        value = self.get(name)
        if value is not None and not isinstance(value, list):
            raise self.refuse(name, "it must be a list")
        return value

    def inner(self, name: str) -> Fields | None:
        """Give an object within this one; None if there is none."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(name, "it must be an object; fetch the model again")
        return Fields(f"{self.label}: {name}", value)
