"""Background sequences: they use what others leave, and give their places up for them."""

from __future__ import annotations

import itertools

import pytest

from engine.driving import GREEDY, Answers, run, step, submit
from engine.test_scheduler import advance, by_id, make_scheduler, numbered_sequence
from fake_engine import HashRunner, make_engine
from outrider.engine.background import SHARE, BackgroundShare
from outrider.engine.scheduler import Scheduler
from outrider.engine.sequence import Sequence
from outrider.types import SamplingParams


def background(seq_id: int, num_tokens: int) -> Sequence:
    sequence = numbered_sequence(seq_id, num_tokens)
    sequence.is_background = True
    return sequence


def timed(scheduler: Scheduler, time_s: float) -> dict[int, int]:
    """Make a step that takes so long."""
    plan = scheduler.schedule()
    scheduler.observe(plan, time_s)
    sampled = plan.sampled()
    scheduler.commit(plan)
    for sequence in sampled:
        sequence.token_ids.append(7)
    return by_id(plan)


def test_a_younger_sequence_takes_the_slot_of_a_background_one() -> None:
    scheduler, _ = make_scheduler(max_num_seqs=2)
    for seq_id in (0, 1):
        scheduler.add(background(seq_id, 5))
    assert advance(scheduler) == {0: 5, 1: 5}
    scheduler.add(numbered_sequence(2, 9))
    assert advance(scheduler) == {2: 9}
    assert [s.id.seq_id for s in scheduler.running] == [2, 0]
    assert [s.id.seq_id for s in scheduler.waiting] == [1]


def test_a_younger_sequence_takes_the_blocks_of_background_ones() -> None:
    scheduler, _ = make_scheduler(num_full_blocks=6)
    for seq_id in (0, 1):
        scheduler.add(background(seq_id, 30))
    assert advance(scheduler) == {0: 30, 1: 30}
    scheduler.add(numbered_sequence(2, 60))
    assert advance(scheduler) == {2: 60}
    assert [s.id.seq_id for s in scheduler.waiting] == [0, 1]


def test_background_sequences_never_take_the_place_of_others() -> None:
    scheduler, _ = make_scheduler(5, 5, max_num_seqs=2)
    advance(scheduler)
    scheduler.add(background(2, 5))
    assert advance(scheduler) == {0: 1, 1: 1}
    assert scheduler.num_preemptions == 0


def test_all_run_together_where_steps_take_no_time() -> None:
    scheduler, _ = make_scheduler(5)
    scheduler.add(background(1, 6))
    assert advance(scheduler) == {0: 5}  # who waits comes first, alone
    assert advance(scheduler) == {0: 1, 1: 6}
    assert advance(scheduler) == {0: 1, 1: 1}


def test_beside_others_background_sequences_get_their_share_of_the_time() -> None:
    scheduler, _ = make_scheduler(5)
    for seq_id in (1, 2, 3):
        scheduler.add(background(seq_id, 5))
    timed(scheduler, 1.0)
    timed(scheduler, 1.0)  # their prompts
    time_s = {True: 0.0, False: 0.0}  # of steps with and without them
    for _ in range(300):
        is_alone = len(timed(scheduler, 1.0)) == 1
        time_s[not is_alone] += 1.0
    # Three of four rows of a step are theirs.
    assert time_s[True] * 0.75 / time_s[False] == pytest.approx(SHARE, rel=0.1)


def test_alone_they_take_part_in_every_step() -> None:
    scheduler, _ = make_scheduler()
    scheduler.add(background(1, 5))
    assert all(timed(scheduler, 1.0) for _ in range(20))


def test_nothing_is_saved_up_while_no_background_sequence_is_there() -> None:
    share = BackgroundShare()
    for _ in range(100):
        share.observe(0.0, 1.0)
    share.observe(0.5, 1.0)
    turns = [share.has_turn]
    for _ in range(3):
        share.observe(0.0, 1.0)
        turns.append(share.has_turn)
    assert turns == [False, False, False, True]


def test_a_background_answer_is_the_same_as_any_other() -> None:
    prompt = tuple(range(30))
    long = SamplingParams(temperature=0, max_tokens=30)
    whole = run(make_engine(HashRunner(100)), submit(prompt, sampling=long))
    engine = make_engine(HashRunner(100), clock=itertools.count().__next__, max_num_seqs=2)
    answers: Answers = {}
    engine.submit(submit(prompt, sampling=long, is_background=True))
    for number in range(4):
        step(engine, answers)
        request = submit((number, 1, 2), sampling=GREEDY, request_id=str(number))
        engine.submit(request)
    while engine.has_work:
        step(engine, answers)
    assert answers["a", 0] == whole["a", 0]
    assert engine.stats().num_preemptions > 0


def test_choices_of_a_background_request_are_background_sequences() -> None:
    engine = make_engine(HashRunner(100))
    sampling = SamplingParams(n=3, max_tokens=2)
    engine.submit(submit((1, 2), sampling=sampling, is_background=True))
    (first,) = engine._scheduler.waiting
    assert all(choice.is_background for choice in [first, *first.siblings])
