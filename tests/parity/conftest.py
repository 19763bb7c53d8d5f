"""Leaves this folder's files alone unless they are asked for: they import torch."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if "not parity" in config.getoption("markexpr"):
        return True
    from parity.torchvision_operators import define

    define()  # before a file imports transformers, which imports torchvision where it is
    return None
