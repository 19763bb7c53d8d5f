"""llama.cpp as the other side: its low-level API, so that no Python stands in its way.

First message: {"path", "threads"}; then the same pieces of work as ours, see side_outrider.py.
Prompts run in one call; decoding takes the greedy token of each sequence with NumPy's argmax. The
keys and values of a decode's prompts are computed once and cut back to their length afterwards, so
that later rounds only decode. LLAMA_CPP_LIB_PATH chooses another build.
"""

from __future__ import annotations

import ctypes
import time

import llama_cpp
import numpy as np
from llama_cpp_tap import ExpertTap
from sides import Message, answer_all, random_prompts

BATCH_TOKENS = 512
# Its own choices, which are its fastest here: without flash attention decoding 16 sequences takes
# a quarter longer, a unified cache changes nothing (docs/LOG.md, 2026-11-21).
SETTINGS = f"n_batch and n_ubatch {BATCH_TOKENS}, flash attention auto (on), keys and values f16"


class Peer:
    """A model that is opened by the first message, and a context for each shape of work."""

    def __init__(self) -> None:
        self._log = llama_cpp.llama_log_callback(self._note)
        self._noted: list[str] = []
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._contexts: dict[tuple[int, int], PeerContext] = {}

    def answer(self, message: Message) -> Message:
        """Open the model or run a piece of work."""
        if "path" in message:
            return self._open(message)
        prompts = random_prompts(message, self._vocab_size)
        if message["kind"] == "spread":
            return {"experts": self._spread(message, prompts)}
        context = self._context(message)
        if message["kind"] == "prompt":
            num_tokens, seconds = len(prompts[0]), context.prompt(prompts[0])
        else:
            num_tokens = len(prompts) * message["output_tokens"]
            seconds = context.generate(prompts, message["output_tokens"])
        return {"tokens_per_s": num_tokens / seconds}

    def _note(self, level: int, text: bytes, data: ctypes.c_void_p) -> None:
        self._noted.append(text.decode(errors="replace"))

    def _open(self, opening: Message) -> Message:
        self._opening = opening
        self._model = llama_cpp.llama_model_load_from_file(
            opening["path"].encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise SystemExit(f"llama.cpp can't open {opening['path']}: {''.join(self._noted[-5:])}")
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        # It lays Q4_0 out anew for its kernels while it loads, and says so.
        repacked = [
            line.rpartition("=")[2].strip()
            for line in self._noted
            if "REPACK" in line and "buffer size" in line
        ]
        return {
            "name": f"llama.cpp (llama-cpp-python {llama_cpp.__version__})",
            "settings": SETTINGS + (f"; repacked: {repacked[0]}" if repacked else ""),
            "features": llama_cpp.llama_print_system_info().decode().strip(" |"),
        }

    def _spread(self, work: Message, prompts: list[list[int]]) -> dict[str, float]:
        """Watch the experts of one decoded token per prompt, or of a single prompt."""
        with ExpertTap() as tap:
            params = self._params(work)
            params.cb_eval = tap.callback
            context = PeerContext(self._model, params, self._vocab_size)
            context.generate(prompts, work["output_tokens"])
            context.close()
        return tap.describe(len(prompts) if work["output_tokens"] else len(prompts[0]))

    def _context(self, work: Message) -> PeerContext:
        params = self._params(work)
        key = params.n_seq_max, params.n_ctx
        if key not in self._contexts:
            self._contexts[key] = PeerContext(self._model, params, self._vocab_size)
        return self._contexts[key]

    def _params(self, work: Message) -> llama_cpp.llama_context_params:
        num_tokens = work["prompt_tokens"] + work["output_tokens"]
        params = llama_cpp.llama_context_default_params()
        params.n_seq_max = work["num_seqs"]
        params.n_ctx = work["num_seqs"] * (-(-num_tokens // 256) * 256)
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_threads = params.n_threads_batch = self._opening["threads"]
        return params


class PeerContext:
    """Sequences of one shape: their keys and values and what has been computed of them."""

    def __init__(
        self, model: object, params: llama_cpp.llama_context_params, vocab_size: int
    ) -> None:
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise SystemExit("llama.cpp can't make a context; its memory may not suffice")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocab_size = vocab_size
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._prompts: list[list[int]] = []  # computed already
        self._firsts: list[int] = []  # the token after each of them

    def prompt(self, token_ids: list[int]) -> float:
        """Give the seconds for a prompt up to the logits of its last token."""
        self._forget()
        begin = time.perf_counter()
        self._read_prompt(0, token_ids)
        return time.perf_counter() - begin

    def generate(self, prompts: list[list[int]], num_tokens: int) -> float:
        """Give the seconds for decoding `num_tokens` more tokens of every prompt together."""
        if prompts != self._prompts:
            self._forget()
            self._firsts = [self._read_prompt(seq, ids) for seq, ids in enumerate(prompts)]
            self._prompts = prompts
        tokens = self._firsts
        begin = time.perf_counter()
        for step in range(num_tokens):
            rows = [
                (token, len(prompts[seq]) + step, seq, True) for seq, token in enumerate(tokens)
            ]
            self._decode(rows)
            tokens = [int(self._logits(row).argmax()) for row in range(len(rows))]
        seconds = time.perf_counter() - begin
        for seq, prompt in enumerate(prompts):
            llama_cpp.llama_memory_seq_rm(self._memory, seq, len(prompt), -1)
        return seconds

    def close(self) -> None:
        """Free everything."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def _forget(self) -> None:
        self._prompts = []
        llama_cpp.llama_memory_clear(self._memory, False)

    def _read_prompt(self, seq: int, token_ids: list[int]) -> int:
        """Compute a prompt in batches and give the greedy token after it."""
        last = len(token_ids) - 1
        rows = [(token, i, seq, i == last) for i, token in enumerate(token_ids)]
        for begin in range(0, len(rows), BATCH_TOKENS):
            self._decode(rows[begin : begin + BATCH_TOKENS])
        return int(self._logits(-1).argmax())

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, seq, wants_logits) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, seq
            batch.logits[i] = wants_logits
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise SystemExit("llama.cpp could not decode the batch")

    def _logits(self, row: int) -> np.ndarray:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))


if __name__ == "__main__":
    answer_all(Peer().answer)
