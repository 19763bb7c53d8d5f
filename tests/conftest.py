"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from outrider import config, settings
from outrider.checkpoints.store import Store
from outrider.errors import StoreError

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where servers keep files and batches if nobody says where: never the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("data-home")
        patch.setenv("XDG_DATA_HOME", str(path))
        yield path


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The default model's file; pulled if it isn't there, skipped where it can't be."""
    return _pulled(settings.DEFAULT_MODEL)


@pytest.fixture(scope="session")
def embedding_model_path() -> Path:
    """The folder of the default embedding model; the same as `model_path`."""
    return _pulled(settings.DEFAULT_EMBEDDING_MODEL)


def _pulled(name: str) -> Path:
    store = Store(config.load().home)
    try:
        return store.resolve(name)
    except StoreError:
        pass
    try:
        return store.pull(name)
    except StoreError as error:
        pytest.skip(f"{name} can't be pulled: {error.message}")
