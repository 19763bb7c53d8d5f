"""Embedding requests inside an engine: queued, cut into batches and advanced layer by layer.

Used by the thread that owns the engine. Generation comes first: while anything is generated the
caller advances this by a bounded amount of work per step, and a batch waits between two layers. A
text's vector doesn't depend on the batch it is in. Refuses what the encoder can't take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from outrider.engine.protocol import Embed, Embedded
from outrider.errors import InputTooLong, InvalidRequest
from outrider.model.config import Pooling
from outrider.model.encoder import Encoder

F32Array = NDArray[np.float32]
# Enough rows for the full speed of the kernels, few enough that their states stay in the caches.
BATCH_TOKENS = 512


@dataclass
class _Job:
    """One request and what is known of its answer."""

    request: Embed
    waiting: deque[int]  # texts that are in no batch yet, short ones first
    rows: dict[int, F32Array] = field(default_factory=dict)


class Embedder:
    """Turns requests into vectors, the oldest request first."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._jobs: dict[str, _Job] = {}
        self._batch: list[tuple[_Job, int]] = []
        self._batch_tokens = 0
        self._steps: Generator[None, None, F32Array] | None = None

    @property
    def has_work(self) -> bool:
        """Say whether `advance` would do anything."""
        return bool(self._jobs) or self._steps is not None

    def submit(self, request: Embed) -> None:
        """Take a request, or raise a `RequestError` and keep nothing of it."""
        config = self.encoder.config
        if request.request_id in self._jobs:
            raise InvalidRequest(f"request id {request.request_id!r} is already running")
        if not request.texts:
            raise InvalidRequest("there is no text to embed; send at least one", "input")
        for text in request.texts:
            if not text or not 0 <= min(text) <= max(text) < config.vocab_size:
                raise InvalidRequest("a text is empty or has an unknown token id", "input")
            if len(text) > config.max_model_len:
                raise InputTooLong(len(text), config.max_model_len, "input")
        dimensions = request.dimensions
        if dimensions is not None and not 1 <= dimensions <= config.hidden_size:
            raise InvalidRequest(
                f"dimensions is {dimensions}; {config.name} has 1 to {config.hidden_size}",
                "dimensions",
            )
        order = sorted(range(len(request.texts)), key=lambda index: len(request.texts[index]))
        self._jobs[request.request_id] = _Job(request, deque(order))

    def abort(self, request_id: str) -> None:
        """Drop a request; unknown ids are ignored. A batch that has begun is finished."""
        self._jobs.pop(request_id, None)

    def advance(self, max_macs: int | None = None) -> list[Embedded]:
        """Compute up to `max_macs` multiplications, or one batch; gives what is complete now.

        At least one layer of a batch is computed, whatever it costs.
        """
        spent = 0
        if self._steps is None:
            self._begin()
        while self._steps is not None:
            try:
                next(self._steps)
            except StopIteration as end:
                return self._finish(end.value)
            spent += self._batch_tokens * self.encoder.config.macs_per_token
            if max_macs is not None and spent >= max_macs:
                break
        return []

    def _begin(self) -> None:
        """Fill a batch with the next texts of one kind of pooling."""
        pooling: Pooling | None = None
        for job in self._jobs.values():
            wanted = job.request.pooling or self.encoder.config.pooling
            if self._batch and wanted != pooling:
                break
            pooling = wanted
            while job.waiting:
                size = len(job.request.texts[job.waiting[0]])
                if self._batch and self._batch_tokens + size > BATCH_TOKENS:
                    break
                self._batch.append((job, job.waiting.popleft()))
                self._batch_tokens += size
            if job.waiting:
                break
        if self._batch:
            texts = [job.request.texts[index] for job, index in self._batch]
            self._steps = self.encoder.steps(texts, pooling)

    def _finish(self, vectors: F32Array) -> list[Embedded]:
        """Hand the rows of a batch to their requests."""
        batch, self._batch, self._batch_tokens, self._steps = self._batch, [], 0, None
        finished = []
        for (job, index), row in zip(batch, vectors, strict=True):
            request = job.request
            if self._jobs.get(request.request_id) is not job:  # aborted
                continue
            job.rows[index] = row
            if len(job.rows) == len(request.texts):
                del self._jobs[request.request_id]
                rows = np.stack([job.rows[i] for i in range(len(request.texts))])
                rows = shape_vectors(rows, request.dimensions, self.encoder.config.is_normalised)
                finished.append(Embedded(request.request_id, rows.astype("<f4").tobytes()))
        return finished

    def embed(self, request: Embed) -> F32Array:
        """Run one request to its end; for use without an engine around it."""
        self.submit(request)
        finished: Sequence[Embedded] = []
        while not finished:
            finished = self.advance()
        vectors = np.frombuffer(finished[0].vectors, "<f4").astype(np.float32)
        return vectors.reshape(len(request.texts), -1)


def shape_vectors(vectors: F32Array, dimensions: int | None, is_normalised: bool) -> F32Array:
    """Keep the first dimensions of vectors [S, C], and scale to length 1 what has to have it."""
    if dimensions is not None:
        vectors = vectors[:, :dimensions]
    if not is_normalised:
        return vectors
    # Row by row: how NumPy adds up a whole matrix could depend on its number of rows.
    lengths = [np.sqrt(np.dot(row, row)) for row in np.ascontiguousarray(vectors)]
    # As in torch's normalize, a vector of zeros stays one.
    divisors = np.maximum(np.array(lengths, np.float32), np.float32(1e-12))
    return np.asarray(vectors / divisors[:, None], np.float32)
