"""llama.cpp as the peer of a benchmark: its low-level API, so that no Python stands in its way.

Prompts run in one call with the library's own batch sizes; decoding takes the greedy token of each
sequence with NumPy's argmax. One object holds one context and forgets everything between runs.
"""

from __future__ import annotations

import ctypes
import time

import llama_cpp
import numpy as np


class LlamaCppPeer:
    """A model file opened by llama.cpp with a number of threads."""

    name = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"

    def __init__(self, path: str, num_threads: int, max_tokens: int, max_seqs: int) -> None:
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max_tokens * max_seqs
        params.n_seq_max = max_seqs
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = num_threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        self._batch = llama_cpp.llama_batch_init(512, 0, 1)

    def prompt(self, token_ids: list[int]) -> float:
        """Give the seconds for a prompt up to the logits of its last token."""
        self._forget()
        begin = time.perf_counter()
        last = len(token_ids) - 1
        self._decode([(token, i, 0, i == last) for i, token in enumerate(token_ids)])
        self._logits(last)
        return time.perf_counter() - begin

    def generate(self, prompts: list[list[int]], num_tokens: int) -> float:
        """Give the seconds for decoding `num_tokens` more tokens of every prompt together."""
        self._forget()
        tokens = []
        for seq, prompt in enumerate(prompts):
            last = len(prompt) - 1
            self._decode([(token, i, seq, i == last) for i, token in enumerate(prompt)])
            tokens.append(int(self._logits(last).argmax()))
        begin = time.perf_counter()
        for step in range(num_tokens):
            rows = [
                (token, len(prompts[seq]) + step, seq, True) for seq, token in enumerate(tokens)
            ]
            self._decode(rows)
            tokens = [int(self._logits(row).argmax()) for row in range(len(rows))]
        return time.perf_counter() - begin

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, seq, wants_logits) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, seq
            batch.logits[i] = wants_logits
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama.cpp could not decode the batch")

    def _logits(self, row: int) -> np.ndarray:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))
