"""Watches which experts llama.cpp chooses, through the callback that shows computed tensors.

The callback costs time, so nothing that is measured runs with it. Only for one expert per token,
as in Llama 4.
"""

from __future__ import annotations

import ctypes
from types import TracebackType

import llama_cpp
import numpy as np
from expert_spread import describe

CHOICE = "ffn_moe_topk-"  # tensors [T, 1] of int32, one per layer; rows may lie apart
NUM_EXPERTS = 16


class ExpertTap:
    """Collects the choices of every layer and batch while it is entered."""

    def __init__(self) -> None:
        folder = llama_cpp.llama_cpp._base_path
        self._ggml = ctypes.CDLL(str(folder / "libggml-base.so"))
        self._ggml.ggml_get_name.argtypes = (ctypes.c_void_p,)
        self._ggml.ggml_get_name.restype = ctypes.c_char_p
        for name in ("ggml_nbytes", "ggml_nelements"):
            getattr(self._ggml, name).argtypes = (ctypes.c_void_p,)
            getattr(self._ggml, name).restype = ctypes.c_size_t
        get = self._ggml.ggml_backend_tensor_get
        get.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
        get.restype = None
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._look)
        self._choices: list[np.ndarray] = []

    def __enter__(self) -> ExpertTap:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self.callback

    def describe(self, num_rows: int) -> dict[str, float]:
        """Describe the spread in those batches that had so many rows."""
        chosen = [choices for choices in self._choices if len(choices) == num_rows]
        return describe([np.bincount(c, minlength=NUM_EXPERTS).tolist() for c in chosen])

    def _look(self, tensor: int, is_question: bool, data: ctypes.c_void_p) -> bool:
        if not self._ggml.ggml_get_name(tensor).decode().startswith(CHOICE):
            return not is_question
        if not is_question:
            self._note(tensor)
        return True

    def _note(self, tensor: int) -> None:
        num_bytes, num_rows = self._ggml.ggml_nbytes(tensor), self._ggml.ggml_nelements(tensor)
        data = np.empty(num_bytes // 4, np.int32)
        self._ggml.ggml_backend_tensor_get(tensor, data.ctypes.data, 0, num_bytes)
        # A view into rows of sorted experts: the first of each row is the chosen one.
        stride = (len(data) - 1) // (num_rows - 1) if num_rows > 1 else 1
        self._choices.append(data[::stride])
