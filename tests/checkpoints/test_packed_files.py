"""Finding packed files without the weight of NumPy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from outrider.checkpoints.packed import ensure_packed
from outrider.checkpoints.packed_files import find_packed
from outrider.checkpoints.packed_format import map_packed
from outrider.checkpoints.progress import no_progress
from tiny_models import random_llama, write_gguf


def test_header_is_found_and_read_without_the_weights(tmp_path: Path) -> None:
    path = write_gguf(random_llama(), tmp_path / "m.gguf")
    assert find_packed(path, "auto", tmp_path, no_progress) is None
    packed = ensure_packed(path, "auto", tmp_path, no_progress)
    assert find_packed(path, "auto", tmp_path, no_progress) == packed
    assert map_packed(packed).header.config.num_layers == 2


def test_store_and_headers_need_no_numpy() -> None:
    code = (
        "import sys, outrider.checkpoints.store, outrider.checkpoints.packed_files; "
        "sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
