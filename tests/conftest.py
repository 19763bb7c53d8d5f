"""Fixtures that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider import config
from outrider.checkpoints.store import Store
from outrider.errors import StoreError


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The default model's file; pulled if it isn't there, skipped where it can't be."""
    store = Store(config.load().home)
    try:
        return store.resolve(config.DEFAULT_MODEL)
    except StoreError:
        pass
    try:
        return store.pull(config.DEFAULT_MODEL)
    except StoreError as error:
        pytest.skip(f"the default model can't be pulled: {error.message}")
