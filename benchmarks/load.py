"""Load on a server, and what came back as figures.

Open loop: requests are sent when a seeded Poisson process says so, whether earlier ones are done or
not, and time counts from when they were due, so that a slow server can't hide by slowing its
clients. Closed loop: N clients, each sends its next request when it has the last answer.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import TypeVar

import uvloop
from http_stream import Answer, Server, Stream, Work

PERCENTILES = (50, 90, 99)
# The limits of MLPerf Inference's interactive scenario for an 8B model, as a familiar measure.
GOOD_TTFT_S, GOOD_ITL_S = 0.5, 0.03
MILLI = 1e3

Figures = dict[str, float]
T = TypeVar("T")


def poisson_arrivals(rate_per_s: float, count: int, rng: random.Random) -> list[float]:
    """Give the times of `count` independent arrivals, the first of them at once."""
    times = [0.0]
    while len(times) < count:
        times.append(times[-1] + rng.expovariate(rate_per_s))
    return times[:count]


async def open_loop(
    server: Server, works: Sequence[Work], arrivals: Sequence[float]
) -> list[Answer]:
    """Send each request when it is due."""
    begin = time.perf_counter()

    async def send(work: Work, arrival: float) -> Answer:
        await asyncio.sleep(begin + arrival - time.perf_counter())
        return await Stream(server, work, begin + arrival).wait()

    return await asyncio.gather(*map(send, works, arrivals))


async def closed_loop(server: Server, clients: Iterable[Sequence[Work]]) -> list[Answer]:
    """Let each client work through its requests, one after the other."""

    async def run(works: Sequence[Work]) -> list[Answer]:
        return [await Stream(server, work).wait() for work in works]

    answers = await asyncio.gather(*map(run, clients))
    return [answer for done in answers for answer in done]


def run(work: Coroutine[None, None, T]) -> T:
    """Run a client; Python's garbage collection waits until it is done."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.enable()


def percentile(values: Sequence[float], percent: float) -> float:
    """Give a percentile, linear between the two nearest values."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def in_ms(name: str, values: Sequence[float]) -> Figures:
    """Give percentiles and maximum of seconds as `{name}_p50_ms` …; nothing of nothing."""
    if not values:
        return {}
    figures = {f"{name}_p{p}_ms": percentile(values, p) * MILLI for p in PERCENTILES}
    return {**figures, f"{name}_max_ms": max(values) * MILLI}


def tokens_per_s(answers: Sequence[Answer]) -> float:
    """Give the generated tokens per second, from the first request to the last answer."""
    begin, end = min(a.due_s for a in answers), max(a.end_s for a in answers)
    return sum(answer.output_tokens for answer in answers) / (end - begin)


def decode_tokens_per_s(answers: Sequence[Answer]) -> float:
    """Give the tokens per second while all answers run: after the last one's first token."""
    begin, end = max(a.token_s[0] for a in answers), min(a.token_s[-1] for a in answers)
    if end <= begin:
        return 0.0
    num_tokens = sum(a.tokens_per_piece for a in answers for at in a.token_s if begin < at <= end)
    return num_tokens / (end - begin)


def tokens_per_piece(answers: Sequence[Answer]) -> float:
    """Give how many tokens the pieces of text held on average; gaps are those between pieces."""
    return sum(a.output_tokens for a in answers) / sum(len(a.token_s) for a in answers)


def summarise(answers: Sequence[Answer]) -> Figures:
    """Give the figures of one round; failed answers count as errors and as nothing else."""
    good = [answer for answer in answers if not answer.error]
    figures: Figures = {"requests": len(answers), "errors": len(answers) - len(good)}
    if not good:
        return figures
    duration_s = max(a.end_s for a in good) - min(a.due_s for a in good)
    is_fast = [a.ttft_s <= GOOD_TTFT_S and a.mean_itl_s <= GOOD_ITL_S for a in good]
    return {
        **figures,
        **in_ms("ttft", [answer.ttft_s for answer in good]),
        **in_ms("itl", [gap for answer in good for gap in answer.itl_s]),
        **in_ms("e2e", [answer.end_s - answer.due_s for answer in good]),
        "tokens_per_piece": tokens_per_piece(good),
        "tokens_per_s": tokens_per_s(good),
        "requests_per_s": len(good) / duration_s,
        "good_requests_per_s": sum(is_fast) / duration_s,
        # How late this client itself was: if this isn't small, it measured itself.
        "client_late_max_ms": max(a.sent_s - a.due_s for a in good) * MILLI,
    }


def require(answers: Sequence[Answer]) -> None:
    """End the benchmark if an answer of a row that allows no failures failed."""
    for answer in answers:
        if answer.error:
            raise SystemExit(f"a request failed: {answer.error}")


def combine(rounds: Sequence[Figures]) -> dict[str, Figures]:
    """Give median, minimum and maximum of each figure over the rounds that have it."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    combined = {}
    for name in names:
        values = [figures[name] for figures in rounds if name in figures]
        combined[name] = {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
    return combined
