"""What the engines on this machine did in the last minutes, sampled by a clock.

A ring per model, so it takes the same memory for ever. Rates are those of the last ten seconds:
an engine tells its counters about once a second, and shorter ones would jump.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from outrider.gateway.local import LocalProvider


INTERVAL_S = 2
NUM_SAMPLES = 300  # ten minutes
RATE_SAMPLES = 5

Clock = Callable[[], float]  # Unix time


class Sample(NamedTuple):
    """An engine at one moment; tokens are counted since its start."""

    time_s: float
    num_running: int
    num_waiting: int
    kv_use: float
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


class EngineSeries(msgspec.Struct, kw_only=True):
    """One engine: lists have a place for each sample, oldest first; `times_s` are Unix times.

    A share of prompt tokens found cached is null where there were no prompts.
    """

    model: str
    is_ready: bool
    times_s: list[float]
    batch_size: list[int]
    queue: list[int]
    kv_use: list[float]
    prefix_hits: list[float | None]
    output_tokens_per_s: list[float]
    prompt_tokens_per_s: list[float]


class EnginesAnswer(msgspec.Struct, kw_only=True):
    """All engines."""

    interval_s: float
    engines: list[EngineSeries]


class EngineHistory:
    """Samples engines until `close`; `engines` gives those there are at that moment."""

    def __init__(
        self, engines: Callable[[], Iterable[LocalProvider]], clock: Clock = time.time
    ) -> None:
        self._engines = engines
        self._clock = clock
        self._rings: dict[str, deque[Sample]] = {}
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sample."""
        self._sampling = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        if self._sampling is not None:
            self._sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampling

    def sample(self) -> None:
        """Take note of every engine, and forget those that are gone."""
        rings = {}
        for engine in self._engines():
            ring = self._rings.get(engine.name) or deque(maxlen=NUM_SAMPLES)
            ring.append(_sample(engine, self._clock()))
            rings[engine.name] = ring
        self._rings = rings

    def answer(self) -> EnginesAnswer:
        """Give what was sampled."""
        engines = [
            _series(engine, list(self._rings.get(engine.name, ()))) for engine in self._engines()
        ]
        return EnginesAnswer(interval_s=INTERVAL_S, engines=engines)

    async def _run(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(INTERVAL_S)


def _sample(engine: LocalProvider, now_s: float) -> Sample:
    stats = engine.stats
    used = stats.num_blocks - stats.num_free_blocks
    return Sample(
        round(now_s, 1),
        stats.num_running,
        stats.num_waiting,
        round(used / stats.num_blocks, 4) if stats.num_blocks else 0.0,
        stats.num_prompt_tokens,
        stats.num_cached_tokens,
        stats.num_output_tokens,
    )


def _series(engine: LocalProvider, samples: Sequence[Sample]) -> EngineSeries:
    before = [samples[max(0, place - RATE_SAMPLES)] for place in range(len(samples))]
    pairs = list(zip(before, samples, strict=True))
    return EngineSeries(
        model=engine.name,
        is_ready=engine.is_ready,
        times_s=[each.time_s for each in samples],
        batch_size=[each.num_running for each in samples],
        queue=[each.num_waiting for each in samples],
        kv_use=[each.kv_use for each in samples],
        prefix_hits=[_hits(old, new) for old, new in pairs],
        output_tokens_per_s=[
            _rate(old, new, new.num_output_tokens - old.num_output_tokens) for old, new in pairs
        ],
        prompt_tokens_per_s=[
            _rate(old, new, new.num_prompt_tokens - old.num_prompt_tokens) for old, new in pairs
        ],
    )


def _rate(old: Sample, new: Sample, count: int) -> float:
    """Give tokens per second; none over a restart, when counters begin anew."""
    elapsed_s = new.time_s - old.time_s
    return round(count / elapsed_s, 1) if count > 0 and elapsed_s > 0 else 0.0


def _hits(old: Sample, new: Sample) -> float | None:
    prompt = new.num_prompt_tokens - old.num_prompt_tokens
    cached = new.num_cached_tokens - old.num_cached_tokens
    return round(cached / prompt, 4) if prompt > 0 and cached >= 0 else None
