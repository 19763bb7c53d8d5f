"""Small steps as programs: recorded once per shape, then replayed without Python.

A step's kernel calls depend on its shape alone; what differs from step to step are values in
arrays. So the decoder runs once over arrays that stay where they are while its calls are recorded,
and the next step of that shape only fills the arrays. A replayed step gives the bits of a direct
one. Steps of many tokens or with images are computed directly: there Python costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.model.batch import Batch, KvSlots
from outrider.model.decoder import Decoder
from outrider.model.kv_cache import KvCache
from outrider.model.scratch import Buffers, Scratch
from outrider.model.step import Step

F32Array = NDArray[np.float32]

MAX_TOKENS = 64  # of a recorded step
MAX_PROGRAMS = 32  # kept; of a model of 48 layers one takes about 300 KiB
MIN_TABLE_WIDTH = 16  # blocks; wider tables come in powers of two
# Tokens, sequences, blocks per row of each block table, rows of logits.
Shape = tuple[int, int, tuple[int, ...], int]


@dataclass(frozen=True)
class _Recorded:
    step: Step
    program: kernels.Program


class StepRecorder:
    """Computes the steps of one decoder over one cache, small ones by programs."""

    def __init__(self, decoder: Decoder, cache: KvCache) -> None:
        self._decoder = decoder
        self._cache = cache
        self._buffers: Buffers | None = None
        self._logits: F32Array | None = None  # of the programs, as large as they need it
        self._programs: OrderedDict[Shape, _Recorded] = OrderedDict()  # least recently used first

    def forward(self, batch: Batch) -> F32Array:
        """Compute logits [R, V]; the next step may write over them."""
        if batch.num_tokens > MAX_TOKENS or batch.images is not None:
            return self._decoder.forward(batch, self._cache)
        shape = _shape_of(batch)
        recorded = self._programs.get(shape)
        if recorded is None:
            recorded = self._record(shape, batch)
        else:
            self._programs.move_to_end(shape)
            self._fill(recorded.step, batch)
            recorded.program.run(self._decoder.context)
        return recorded.step.logits

    def _record(self, shape: Shape, batch: Batch) -> _Recorded:
        step = self._make_step(shape)
        self._fill(step, batch)
        decoder = self._decoder
        recorded = _Recorded(step, kernels.record(decoder.context, lambda: decoder.compute(step)))
        if len(self._programs) == MAX_PROGRAMS:
            self._programs.popitem(last=False)
        self._programs[shape] = recorded
        return recorded

    def _make_step(self, shape: Shape) -> Step:
        num_tokens, num_seqs, widths, num_rows = shape
        config = self._decoder.config
        if self._buffers is None or self._logits is None:
            # Untouched memory costs nothing, so there is room for the largest step at once.
            self._buffers = Buffers(config, MAX_TOKENS)
            self._logits = np.empty((MAX_TOKENS, config.vocab_size), np.float32)
        angles = (num_tokens, config.head_dim // 2)
        has_temperatures = self._decoder.temperatures(np.zeros(0, np.int32)) is not None
        return Step(
            token_ids=np.zeros(num_tokens, np.int32),
            cosines=np.zeros(angles, np.float32),
            sines=np.zeros(angles, np.float32),
            temperatures=np.ones(num_tokens, np.float32) if has_temperatures else None,
            cu_query_lens=np.zeros(num_seqs + 1, np.int32),
            seq_lens=np.zeros(num_seqs, np.int32),
            kv=tuple(
                KvSlots(np.zeros(num_tokens, np.int32), np.full((num_seqs, width), -1, np.int32))
                for width in widths
            ),
            logits_rows=np.zeros(num_rows, np.int32),
            images=None,
            cache=self._cache,
            scratch=Scratch(config, self._buffers, num_tokens),
            logits=self._logits[:num_rows],
        )

    def _fill(self, step: Step, batch: Batch) -> None:
        step.token_ids[:] = batch.token_ids
        step.cosines[:], step.sines[:] = self._decoder.rotary(batch.positions)
        if step.temperatures is not None:
            step.temperatures[:] = self._decoder.temperatures(batch.positions)
        step.cu_query_lens[:] = batch.cu_query_lens
        step.seq_lens[:] = batch.seq_lens
        for slots, values in zip(step.kv, batch.kv, strict=True):
            slots.slot_mapping[:] = values.slot_mapping
            # What a wider table of an earlier step has left behind lies beyond every sequence.
            slots.block_tables[:, : values.block_tables.shape[1]] = values.block_tables
        step.logits_rows[:] = batch.logits_rows


def _shape_of(batch: Batch) -> Shape:
    widths = tuple(_padded_width(slots.block_tables.shape[1]) for slots in batch.kv)
    return batch.num_tokens, batch.num_seqs, widths, len(batch.logits_rows)


def _padded_width(width: int) -> int:
    return max(MIN_TABLE_WIDTH, 1 << (width - 1).bit_length())
