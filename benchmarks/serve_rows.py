"""What is measured of a server beyond plain load: what HTTP costs, stalls and cached prefixes.

Each function is one round of one row and gives its figures. Those that compare with the engine in
this process give both the same texts, which neither has seen before; who goes first is drawn. While
one of the two computes the other sleeps.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from http_stream import Answer, Server, Stream, Work
from load import (
    MILLI,
    Figures,
    closed_loop,
    combine,
    decode_tokens_per_s,
    in_ms,
    percentile,
    require,
    run,
    tokens_per_piece,
    tokens_per_s,
)
from prompts import TextMaker
from servers import Running

from outrider.engine.engine import Engine
from outrider.engine.protocol import Submit
from outrider.text.prompt import PromptEncoder
from outrider.types import SamplingParams

NUM_CLIENTS, CLIENT_PROMPT_TOKENS, CLIENT_TOKENS = 16, 64, 96
NUM_CLIENT_TURNS = 4  # a round; even, so that each side is first as often as the other
TTFT_PROMPT_TOKENS = (16, 512)
NUM_TTFT_PAIRS = 7
NUM_KNOWN_PAIRS = 3  # after each of those, with the same text
NUM_RUNNING, RUNNING_PROMPT_TOKENS, RUNNING_TOKENS, CALM_TOKENS = 4, 32, 2000, 32
NEWCOMER_TOKENS = 2000
# Whole steps of 512, so that the last step of the whole prompt computes just the new tokens.
PREFIX_TOKENS, NEW_TOKENS = 1536, 100
NUM_PREFIX_PAIRS = 3


class InProcess:
    """The engine in this process, given the same requests as a server, text to text."""

    def __init__(self, engine: Engine, encoder: PromptEncoder) -> None:
        self._engine = engine
        self._encoder = encoder

    def run(self, works: Sequence[Work]) -> list[Answer]:
        """Run requests together; each piece of text gets the time at which its step was done."""
        begin = time.perf_counter()
        answers = {str(number): Answer(begin, begin) for number in range(len(works))}
        for request_id, work in zip(answers, works, strict=True):
            assert isinstance(work.prompt, str)
            prompt = self._encoder.text(work.prompt)
            sampling = SamplingParams(temperature=0, max_tokens=work.max_tokens, ignore_eos=True)
            self._engine.submit(Submit(request_id, (prompt,), sampling))
        while self._engine.has_work:
            outputs = self._engine.step()
            now = time.perf_counter()
            for output in outputs:
                answer = answers[output.request_id]
                if output.text:
                    answer.token_s.append(now)
                answer.output_tokens, answer.end_s = output.num_output_tokens, now
        return list(answers.values())

    def last_step_s(self, work: Work) -> float:
        """Compute a prompt of several steps; give the time of the last one."""
        assert isinstance(work.prompt, str)
        sampling = SamplingParams(temperature=0, max_tokens=1)
        self._engine.submit(Submit("prompt", (self._encoder.text(work.prompt),), sampling))
        begin = end = 0.0
        while self._engine.has_work:
            begin, _ = time.perf_counter(), self._engine.step()
            end = time.perf_counter()
        return end - begin


@dataclass(frozen=True)
class Bench:
    """One server, and a maker of texts for it; ours also has our engine to compare with."""

    running: Running
    texts: TextMaker
    engine: InProcess | None = None

    def served(self, works: Sequence[Work]) -> list[Answer]:
        """Run requests together through HTTP."""
        answers = run(closed_loop(self.running.server, [[work] for work in works]))
        require(answers)
        return answers

    def works(self, count: int, num_tokens: int, rng: random.Random, generate: int) -> list[Work]:
        """Make requests with prompts of the same length."""
        return [Work(self.texts.make(num_tokens, rng), generate) for _ in range(count)]


def in_any_order(rng: random.Random, *actions: Callable[[], object]) -> None:
    """Do things one after the other, in an order that is drawn."""
    for action in rng.sample(actions, len(actions)):
        action()


def streaming_clients(bench: Bench, rng: random.Random) -> Figures:
    """Measure what sixteen clients get through HTTP, and what our engine gives by itself.

    Both take short turns of a second or two, since the machine drifts; shares are those of one
    turn of each, and every figure is the median of the turns.
    """
    is_served_first = rng.random() < 0.5
    turns = []
    for _ in range(NUM_CLIENT_TURNS):
        turns.append(clients_turn(bench, rng, is_served_first))
        is_served_first = not is_served_first
    return {name: figure["median"] for name, figure in combine(turns).items()}


def clients_turn(bench: Bench, rng: random.Random, is_served_first: bool = True) -> Figures:
    """Give the figures of one turn of the sixteen clients and, with the same texts, our engine."""
    works = bench.works(NUM_CLIENTS, CLIENT_PROMPT_TOKENS, rng, CLIENT_TOKENS)
    if bench.engine is None:
        return _served_turn(bench, works)
    if is_served_first:
        figures, own = _served_turn(bench, works), bench.engine.run(works)
    else:
        own, figures = bench.engine.run(works), _served_turn(bench, works)
    figures["engine_tokens_per_s"] = tokens_per_s(own)
    figures["engine_decode_tokens_per_s"] = decode_tokens_per_s(own)
    figures["engine_itl_p50_ms"] = in_ms("", _gaps(own))["_p50_ms"]
    figures["share"] = figures["tokens_per_s"] / figures["engine_tokens_per_s"]
    decoding = figures["decode_tokens_per_s"], figures["engine_decode_tokens_per_s"]
    if all(decoding):
        figures["decode_share"] = decoding[0] / decoding[1]
    return figures


def _served_turn(bench: Bench, works: Sequence[Work]) -> Figures:
    before, client_s = bench.running.cpu_s(), time.process_time()
    answers = bench.served(works)
    used = {"client": time.process_time() - client_s}
    used |= {name: after - before[name] for name, after in bench.running.cpu_s().items()}
    num_tokens = sum(answer.output_tokens for answer in answers)
    return {
        "tokens_per_s": tokens_per_s(answers),
        "decode_tokens_per_s": decode_tokens_per_s(answers),
        "tokens_per_piece": tokens_per_piece(answers),
        **in_ms("itl", _gaps(answers)),
        **{f"{name}_cpu_us_per_token": s / num_tokens * 1e6 for name, s in used.items()},
    }


def first_token(bench: Bench, rng: random.Random) -> Figures:
    """Measure the time to first token of one request at a time, and what HTTP adds to ours.

    From step to step the machine's speed changes by more than HTTP costs. So that is also measured
    with prompts that both have just computed: everything but the step takes as long as before.
    """
    figures: Figures = {}
    for num_tokens in TTFT_PROMPT_TOKENS:
        works = bench.works(NUM_TTFT_PAIRS, num_tokens, rng, 2)
        if bench.engine is None:
            times = [bench.served([work])[0].ttft_s for work in works]
            figures[f"ttft_{num_tokens}_ms"] = statistics.median(times) * MILLI
            continue
        new, known = [], []
        for work in works:
            new.append(_ttft_pair(bench, work, rng))
            known += [_ttft_pair(bench, work, rng) for _ in range(NUM_KNOWN_PAIRS)]
        for name, values in (
            ("ttft", [served for served, _ in new]),
            ("engine_ttft", [engine for _, engine in new]),
            ("added", [served - engine for served, engine in new]),
            ("known_added", [served - engine for served, engine in known]),
        ):
            figures[f"{name}_{num_tokens}_ms"] = statistics.median(values) * MILLI
    return figures


def _ttft_pair(bench: Bench, work: Work, rng: random.Random) -> tuple[float, float]:
    """Give the time to first token through HTTP and of the engine by itself."""
    assert bench.engine is not None
    engine, times = bench.engine, {}

    def by_itself() -> None:
        times["engine"] = engine.run([work])[0].ttft_s

    def served() -> None:
        times["served"] = bench.served([work])[0].ttft_s

    in_any_order(rng, served, by_itself)
    return times["served"], times["engine"]


def newcomer(bench: Bench, rng: random.Random) -> Figures:
    """Measure running streams before and while a long prompt arrives."""
    works = bench.works(NUM_RUNNING, RUNNING_PROMPT_TOKENS, rng, RUNNING_TOKENS)
    (long,) = bench.works(1, NEWCOMER_TOKENS, rng, 2)
    running, late = run(_run_newcomer(bench.running.server, works, long))
    require([*running, late])
    calm = [gap for answer in running for gap in gaps_between(answer, 0.0, late.due_s)]
    busy = [gap for answer in running for gap in gaps_between(answer, late.due_s, late.token_s[0])]
    if min(answer.token_s[-1] for answer in running) < late.token_s[0]:
        raise SystemExit(
            "running streams ended before the long prompt was computed; make them longer"
        )
    return {
        **in_ms("calm_itl", calm),
        **in_ms("itl", busy),
        "newcomer_ttft_ms": late.ttft_s * MILLI,
    }


async def _run_newcomer(
    server: Server, works: Sequence[Work], long: Work
) -> tuple[list[Answer], Answer]:
    streams = [Stream(server, work) for work in works]
    tasks = [asyncio.create_task(stream.wait()) for stream in streams]
    while any(stream.num_events < CALM_TOKENS for stream in streams):
        if any(task.done() for task in tasks):  # failed; its answer says why
            break
        await asyncio.sleep(0.002)
    late = await Stream(server, long).wait()
    # A round trip more, so that each stream has a token after the first one of the prompt.
    counts = [stream.num_events for stream in streams]
    while not any(task.done() for task in tasks) and any(
        stream.num_events == count for stream, count in zip(streams, counts, strict=True)
    ):
        await asyncio.sleep(0.002)
    for stream in streams:
        stream.stop()
    return [await task for task in tasks], late


def gaps_between(answer: Answer, begin_s: float, end_s: float) -> list[float]:
    """Give the gaps between pieces of text that touch a time span."""
    return [
        after - before
        for before, after in pairwise(answer.token_s)
        if after > begin_s and before < end_s
    ]


def cached_prefix(bench: Bench, rng: random.Random) -> Figures:
    """Measure a prompt with a cached prefix against one that is only as long as its new tokens.

    These see less context, so ours is also compared with the step of our engine that computes the
    same new tokens behind the same prefix when nothing is cached.
    """
    prefix = bench.texts.make(PREFIX_TOKENS, rng)
    number = PREFIX_TOKENS + NEW_TOKENS
    (first,) = bench.served([Work(bench.texts.make(number, rng, prefix), 2)])
    cached: list[Answer] = []
    alone: list[Answer] = []
    steps_s: list[float] = []
    for _ in range(NUM_PREFIX_PAIRS):
        with_prefix = Work(bench.texts.make(number, rng, prefix), 2)
        only_new, unknown = (
            Work(bench.texts.make(length, rng), 2) for length in (NEW_TOKENS, number)
        )
        actions = [
            lambda work=with_prefix: cached.extend(bench.served([work])),
            lambda work=only_new: alone.extend(bench.served([work])),
        ]
        if engine := bench.engine:
            actions.append(partial(_add_last_step, engine, unknown, steps_s))
        in_any_order(rng, *actions)
    ttft_s = {
        "cached": percentile([answer.ttft_s for answer in cached], 50),
        "new_only": percentile([answer.ttft_s for answer in alone], 50),
    }
    figures = {
        "nothing_cached_ttft_ms": first.ttft_s * MILLI,
        **{f"{name}_ttft_ms": value * MILLI for name, value in ttft_s.items()},
        "cached_tokens": min(answer.cached_tokens for answer in cached),
    }
    if steps_s:
        step_s = percentile(steps_s, 50)
        figures["engine_new_tokens_ms"] = step_s * MILLI
        figures["over_new_tokens_ms"] = (ttft_s["cached"] - step_s) * MILLI
    return figures


def _add_last_step(engine: InProcess, work: Work, steps_s: list[float]) -> None:
    steps_s.append(engine.last_step_s(work))


def _gaps(answers: Sequence[Answer]) -> list[float]:
    return [gap for answer in answers for gap in answer.itl_s]
