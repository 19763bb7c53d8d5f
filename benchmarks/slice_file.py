"""The slice of Llama 4 Scout that `make bench` measures: four layers, Q4_0, full vocabulary.

It is made once and kept, since it takes a minute and 6.1 GB; the packed copy beside it takes as
much again. llama.cpp 0.3.36 aborts on fewer than four layers.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import make_slice
from slice_model import Slice

SLICE = Slice(num_layers=4)
FILE_NAME = "scout-slice-4-layers.Q4_0.gguf"
NEEDED_BYTES = 13 * 10**9  # the file, its packed copy and some room


def find_or_make(folder: Path) -> Path:
    """Give the slice in a folder; makes it if it isn't there."""
    path = folder / FILE_NAME
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise SystemExit(
            f"{folder} has {free / 1e9:.0f} GB left and the slice of Scout needs "
            f"{NEEDED_BYTES / 1e9:.0f}; free some, name another folder with --cache, or leave the "
            "slice out with --no-slice"
        )
    partial = path.with_suffix(".partial")
    make_slice.write_gguf(SLICE, partial, "q4_0")
    partial.replace(path)
    return path
