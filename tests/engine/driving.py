"""Running requests through an engine of the hash model, and what must hold whatever else runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from fake_engine import PATCH, VISION, HashRunner, make_engine, make_image
from outrider.engine.engine import Engine
from outrider.engine.protocol import SequenceOutput, Submit
from outrider.engine.sequence import Sequence
from outrider.engine.speculation import Speculation
from outrider.text.image_tiles import TiledImage
from outrider.types import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=8)
PREFIX = tuple(range(40))
MAX_MODEL_LEN = 120


@dataclass
class Answer:
    """Everything that came out for one choice."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, output: SequenceOutput) -> None:
        assert self.finish_reason is None, "an output after the last one"
        self.text += output.text
        self.token_ids += output.token_ids
        self.logprobs += output.logprobs
        self.finish_reason = output.finish_reason
        assert output.num_output_tokens == len(self.token_ids)


Answers = dict[tuple[str, int], Answer]


def step(engine: Engine, answers: Answers) -> list[SequenceOutput]:
    outputs = engine.step()
    engine.check_integrity()
    for output in outputs:
        answers.setdefault((output.request_id, output.index), Answer()).add(output)
    return outputs


def run(engine: Engine, *requests: Submit) -> Answers:
    answers: Answers = {}
    for request in requests:
        engine.submit(request)
    while engine.has_work:
        step(engine, answers)
    assert_idle(engine)
    return answers


def assert_idle(engine: Engine) -> None:
    stats = engine.stats()
    assert stats.num_free_blocks == stats.num_blocks
    assert (stats.num_running, stats.num_waiting) == (0, 0)
    engine.check_integrity()


def submit(*prompts: tuple[int, ...], sampling: SamplingParams = GREEDY, **fields: Any) -> Submit:
    return Submit(fields.pop("request_id", "a"), prompts, sampling, **fields)


def patches(*images: TiledImage) -> tuple[int, ...]:
    """Give the patch tokens of images, each between two other tokens."""
    tokens: tuple[int, ...] = ()
    for image in images:
        tokens += (1, *[PATCH] * (image.num_tiles * VISION.tokens_per_tile), 2)
    return tokens


def tile_bytes(num_tiles: int) -> int:
    """Give the bytes of the features of tiles."""
    return num_tiles * VISION.tokens_per_tile * HashRunner.hidden_size * 4


def limit_image_cache(engine: Engine, max_bytes: int) -> None:
    """Make the cache small, as the setting can't: it counts in MiB."""
    engine._images.cache.max_bytes = max_bytes


def alone(
    request: Submit, max_model_len: int = MAX_MODEL_LEN, chunk_sizes: tuple[int, ...] = (0,)
) -> Answers:
    """Run a request in an engine of its own, without pieces, pressure or reuse."""
    num_blocks = (512,) * len(chunk_sizes)
    runner = HashRunner(num_blocks, max_model_len, chunk_sizes, VISION)
    engine = make_engine(
        runner,
        max_num_batched_tokens=4096,
        max_num_seqs=64,
        prefix_cache=False,
        speculation="off",
    )
    return run(engine, request)


class Reckless(Speculation):
    """Verifies given numbers of guesses, whether that pays or not."""

    sizes: Iterator[int]

    def _choose(self, sequences: Items[Sequence], num_rows: int) -> list[int]:
        chosen = []
        for sequence in sequences:
            most = sequence.max_num_tokens - sequence.num_tokens - 1
            chosen.append(min(next(self.sizes), most, num_rows))
            num_rows -= chosen[-1]
        return chosen


def guess_recklessly(engine: Engine, sizes: Items[int] = (15,)) -> None:
    """Let an engine verify guesses of these sizes, over and over."""
    speculation = Reckless(engine._blocks, engine._scheduler.max_num_batched_tokens)
    speculation.sizes = itertools.cycle(sizes)
    engine._speculation = speculation


def spoil(token_ids: Items[int], every: int) -> list[int]:
    """Make every so many tokens of a prediction wrong."""
    return [
        token_id ^ 1 if index % every == every - 1 else token_id
        for index, token_id in enumerate(token_ids)
    ]


@dataclass
class Arrival:
    step: int
    abort_step: int | None
    request: Submit


@st.composite
def arrivals(draw: st.DrawFn, *, with_images: bool = False) -> list[Arrival]:
    result = []
    for number in range(draw(st.integers(1, 6))):
        images = ()
        if with_images and draw(st.booleans()):
            sizes = draw(st.lists(st.sampled_from([(1, 1), (1, 2)]), min_size=1, max_size=2))
            images = tuple(make_image(*size, seed=draw(st.integers(0, 2))) for size in sizes)
        prompts = tuple(
            PREFIX[: draw(st.sampled_from([0, 16, 31, 32, 40]))]
            + patches(*images)
            + tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=20 if images else 40)))
            for _ in range(1 if images else draw(st.sampled_from([1, 1, 2])))
        )
        request = Submit(
            f"request {number}",
            prompts,
            draw(samplings()),
            draw(st.sampled_from(["", "other"])),
            images=images,
            is_background=draw(st.booleans()),
        )
        result.append(
            Arrival(draw(st.integers(0, 20)), draw(st.none() | st.integers(0, 40)), request)
        )
    return result


@st.composite
def clocks(draw: st.DrawFn) -> Callable[[], float]:
    """Draw a clock that makes steps take anything, from nothing to many times the bound."""
    gaps = draw(st.lists(st.sampled_from([0.0, 1e-4, 0.01, 0.05, 0.3, 60.0]), min_size=1))
    return itertools.accumulate(itertools.cycle(gaps)).__next__


@st.composite
def samplings(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        temperature=draw(st.sampled_from([0.0, 0.8])),
        top_k=draw(st.sampled_from([0, 5])),
        seed=draw(st.integers(0, 5)),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        max_tokens=draw(st.sampled_from([1, 7, 40, None])),
        logprobs=draw(st.sampled_from([None, 2])),
        stop=draw(st.sampled_from([(), ("5", "Ab")])),
        n=draw(st.sampled_from([1, 1, 3])),
        ignore_eos=draw(st.booleans()),
    )


def check_load(engine: Engine, arrivals: list[Arrival]) -> None:
    """Run what arrives; every answer must be what it is in an engine of its own."""
    answers: Answers = {}
    number, last = 0, max(arrival.step for arrival in arrivals)
    while number <= last or engine.has_work:
        for arrival in arrivals:
            if arrival.step == number:
                engine.submit(arrival.request)
            if arrival.abort_step == number:
                engine.abort(arrival.request.request_id)
                engine.check_integrity()
        step(engine, answers)
        number += 1
        assert number < 5000, "the engine makes no progress"
    assert_idle(engine)
    chunk_sizes = tuple(engine.runner.chunk_sizes)
    for arrival in arrivals:
        for key, whole in alone(arrival.request, chunk_sizes=chunk_sizes).items():
            answer = answers.get(key, Answer())
            if answer.finish_reason is None:
                assert arrival.abort_step is not None, f"{key} was never finished"
                assert whole.token_ids[: len(answer.token_ids)] == answer.token_ids
            else:
                assert answer == whole
