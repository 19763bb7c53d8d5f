"""llama.cpp's converter and llama.cpp itself, as oracles of GGUF files.

The converter isn't in any wheel: it comes out of the source distribution of llama-cpp-python,
which is downloaded once into build/parity. Two constants are forced on it: tiny tokenizers aren't
in its list of known ones.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

VERSION = "0.3.36"
CACHE = Path(__file__).parents[2] / "build" / "parity"
INSIDE = f"llama_cpp_python-{VERSION}/vendor/llama.cpp"
PARTS = ("convert_hf_to_gguf.py", "conversion/", "gguf-py/")
# Runs the converter as it is, but for the list of tokenizers that it recognises by a hash.
DRIVER = """
import runpy, sys
root = sys.argv[1]
sys.path[:0] = [root, root + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "llama4"
sys.argv = ["convert_hf_to_gguf.py", *sys.argv[2:]]
runpy.run_path(root + "/convert_hf_to_gguf.py", run_name="__main__")
"""


def converter() -> Path:
    """Give the folder with convert_hf_to_gguf.py; skips the test if it can't be downloaded."""
    root = CACHE / INSIDE
    if (root / PARTS[0]).exists():
        return root
    CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:",
         "--dest", str(CACHE), f"llama-cpp-python=={VERSION}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    archive = CACHE / f"llama_cpp_python-{VERSION}.tar.gz"
    if done.returncode or not archive.exists():
        pytest.skip(f"llama.cpp's converter can't be downloaded: {done.stderr.strip()[-200:]}")
    with tarfile.open(archive) as tar:
        wanted = [
            member
            for member in tar.getmembers()
            if member.name.startswith(tuple(f"{INSIDE}/{part}" for part in PARTS))
        ]
        # The script last: its presence says that the rest is there.
        wanted.sort(key=lambda member: member.name.endswith(PARTS[0]))
        tar.extractall(CACHE, wanted, filter="data")
    archive.unlink()
    return root


def convert(folder: Path, path: Path, *options: str) -> Path:
    """Convert a Hugging Face folder to a GGUF file in f32."""
    root = converter()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(root), str(folder), "--outtype", "f32",
         "--outfile", str(path), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return path


class LlamaCpp:
    """A GGUF file opened by llama.cpp, with its KV cache in f32."""

    def __init__(self, path: Path, num_tokens: int) -> None:
        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=num_tokens,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
            verbose=False,
        )

    def logits(self, token_ids: list[int]) -> NDArray[np.float32]:
        """Compute logits [T, V] of one sequence."""
        self._llama.reset()
        self._llama.eval(token_ids)
        return np.array(self._llama.scores[: len(token_ids)], np.float32)

    def greedy(self, token_ids: list[int], max_tokens: int) -> list[int]:
        """Continue with the best token each time."""
        self._llama.reset()
        self._llama.eval(token_ids)
        answer: list[int] = []
        for _ in range(max_tokens):
            answer.append(int(np.argmax(self._llama.scores[len(token_ids) + len(answer) - 1])))
            self._llama.eval(answer[-1:])
        return answer
