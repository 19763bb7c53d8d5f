"""Predicting steps, and cutting prompts so that running streams don't wait for them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.make_sequences import make_sequence
from outrider.engine.block_manager import BlockManager, KvLayout
from outrider.engine.scheduler import Plan, Scheduler
from outrider.engine.sequence import Sequence
from outrider.engine.step_time import (
    MIN_PROMPT_SHARE,
    MIN_PROMPT_TOKENS,
    Allowance,
    Budget,
    StepTimes,
    Work,
    num_attended,
)

MAX_STEP_S = 0.06
MAX_TOKENS = 128


@dataclass
class Machine:
    """Takes time as real ones do; the default is about a small model on two cores."""

    step_s: float = 6e-3
    row_s: float = 280e-6
    position_s: float = 250e-9

    def time_s(self, work: Work) -> float:
        rates = (self.row_s * work.num_rows, self.position_s * work.num_attended)
        return self.step_s + sum(rates)


MACHINES = st.builds(
    Machine,
    step_s=st.floats(1e-3, 0.5),
    row_s=st.floats(50e-6, 20e-3),
    position_s=st.floats(0, 1e-6),
)


def work_of(*parts: tuple[int, int]) -> Work:
    work = Work()
    for start, count in parts:
        work.add(start, count)
    return work


def some_work(rng: random.Random) -> Work:
    piece = (rng.randrange(2000), rng.choice([16, 50, 100, 200, 500]))
    return work_of(piece, *[(rng.randrange(1000), 1)] * rng.randrange(5))


def experienced(machine: Machine, num_steps: int = 60) -> StepTimes:
    """Give what is known after some steps of a machine."""
    times, rng = StepTimes(), random.Random(0)
    for _ in range(num_steps):
        work = some_work(rng)
        times.observe(work, machine.time_s(work))
    return times


def error(times: StepTimes, machine: Machine, work: Work) -> float:
    return times.predict_s(work) / machine.time_s(work) - 1


@given(st.integers(0, 50), st.integers(1, 50))
def test_work_counts_each_position_that_a_token_sees(start: int, count: int) -> None:
    seen = sum(position + 1 for position in range(start, start + count))
    assert num_attended(start, count) == seen
    assert work_of((start, count)) == Work(count, seen)


@given(MACHINES)
@settings(max_examples=30, deadline=None)
def test_the_rates_of_a_machine_are_found(machine: Machine) -> None:
    times, rng = experienced(machine), random.Random(1)
    for _ in range(20):
        assert abs(error(times, machine, some_work(rng))) < 0.1


def test_a_machine_that_becomes_slower_is_followed_within_some_steps() -> None:
    machine, rng = Machine(), random.Random(2)
    times = experienced(machine)
    slower = Machine(*(1.5 * rate for rate in (machine.step_s, machine.row_s, machine.position_s)))
    for _ in range(4):
        work = some_work(rng)
        times.observe(work, slower.time_s(work))
    assert abs(error(times, slower, work_of((500, 150)))) < 0.1


def test_a_step_that_took_far_too_long_moves_the_prediction_only_so_far() -> None:
    machine, work = Machine(), work_of((500, 150))
    times = experienced(machine)
    times.observe(work, 100 * machine.time_s(work))
    assert error(times, machine, work) < 0.5
    for _ in range(4):
        times.observe(work, machine.time_s(work))
    assert abs(error(times, machine, work)) < 0.1


@given(st.lists(st.tuples(st.integers(1, 600), st.floats(1e-6, 100)), min_size=1, max_size=30))
def test_whatever_is_measured_no_rate_is_negative_or_lost(steps: list[tuple[int, float]]) -> None:
    times = StepTimes()
    for count, time_s in steps:
        times.observe(work_of((count, count)), time_s)
        empty, more = times.predict_s(work_of()), times.predict_s(work_of((0, count)))
        assert 0 <= empty <= more < math.inf


@given(MACHINES, st.integers(0, 3000), st.integers(1, 300), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_what_fits_is_the_most_that_is_predicted_to_fit(
    machine: Machine, start: int, count: int, limit_s: float
) -> None:
    times, work = experienced(machine, 8), work_of((100, 1))
    fitting = times.num_fitting(work, start, count, limit_s)
    assert 0 <= fitting <= count
    if fitting:
        assert times.predict_s(work_of((100, 1), (start, fitting))) <= limit_s + 1e-9
    if fitting < count:
        assert times.predict_s(work_of((100, 1), (start, fitting + 1))) > limit_s - 1e-9


def test_before_anything_is_measured_a_prompt_gets_the_least_number_of_tokens() -> None:
    budget = Budget(512)
    budget.limit_time(StepTimes(), work_of((10, 1)), MAX_STEP_S)
    assert budget.fit(0, 300) == MIN_PROMPT_TOKENS
    assert budget.fit(0, 3) == 3
    budget.take(0, MIN_PROMPT_TOKENS)
    assert budget.is_spent


def test_an_allowance_is_spent_when_another_part_would_not_fit() -> None:
    times = iter([0.0, 1.0, 2.5, 3.9])
    allowance = Allowance(times.__next__, 4.0)
    assert [allowance.has_time() for _ in range(3)] == [True, True, False]


def make_scheduler(max_step_s: float = MAX_STEP_S) -> Scheduler:
    blocks = BlockManager(KvLayout(16, num_full_blocks=1000, num_batched_tokens=MAX_TOKENS))
    return Scheduler(blocks, 8, MAX_TOKENS, max_step_s)


def add(scheduler: Scheduler, seq_id: int, num_tokens: int) -> Sequence:
    sequence = make_sequence(range(num_tokens), seq_id, seq_id)
    scheduler.add(sequence)
    return sequence


def advance(scheduler: Scheduler, machine: Machine) -> Plan:
    """Make a step that takes what the machine needs for it."""
    plan = scheduler.schedule()
    finish(scheduler, plan, machine)
    return plan


def finish(scheduler: Scheduler, plan: Plan, machine: Machine) -> None:
    sampled = plan.sampled()
    scheduler.observe(plan, machine.time_s(plan.work()))
    scheduler.commit(plan)
    for sequence in sampled:
        sequence.token_ids.append(7)


def pieces_of(plan: Plan) -> list[tuple[Sequence, int]]:
    return list(zip(plan.sequences, plan.num_scheduled_tokens, strict=True))


@given(
    machine=MACHINES,
    arrivals=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 400)), min_size=1, max_size=8),
    max_step_s=st.sampled_from([0.01, 0.06, 0.2]),
)
@example(
    machine=Machine(step_s=0.25, row_s=0.015625, position_s=0.0),
    arrivals=[(0, 1), (0, 18)],
    max_step_s=0.01,
)
@settings(max_examples=60, deadline=None)
def test_steps_keep_to_their_bound_and_no_prompt_starves(
    machine: Machine, arrivals: list[tuple[int, int]], max_step_s: float
) -> None:
    scheduler = make_scheduler(max_step_s)
    scheduler.step_times = experienced(machine)
    prompts = dict(enumerate(sorted(arrivals)))
    computed: dict[Sequence, int] = {}
    for number in range(2000):
        for seq_id in [key for key, (step, _) in prompts.items() if step <= number]:
            computed[add(scheduler, seq_id, prompts.pop(seq_id)[1])] = 0
        plan = scheduler.schedule()
        check_step(plan, scheduler.step_times, max_step_s)
        for sequence, count in pieces_of(plan):
            assert computed[sequence] == sequence.num_computed_tokens
            computed[sequence] += count
        finish(scheduler, plan, machine)
        if not prompts and all(done >= s.num_prompt_tokens for s, done in computed.items()):
            break
    else:
        pytest.fail("a prompt is still not computed")


def check_step(plan: Plan, times: StepTimes, max_step_s: float) -> None:
    # A prompt of one token that has just been admitted is no stream that waits.
    decoding = [s for s, count in pieces_of(plan) if count == 1 and s.num_computed_tokens]
    prompts = [(s, count) for s, count in pieces_of(plan) if s not in decoding]
    num_tokens = sum(count for _, count in prompts)
    if not prompts or not decoding:
        return
    alone_s = times.predict_s(work_of(*[(s.num_computed_tokens, 1) for s in decoding]))
    limit_s = max(max_step_s, alone_s / (1 - MIN_PROMPT_SHARE))
    assert num_tokens <= MIN_PROMPT_TOKENS or times.predict_s(plan.work()) <= limit_s + 1e-9
    sequence, count = prompts[0]
    left = sequence.num_tokens - sequence.num_computed_tokens
    assert count >= min(left, MIN_PROMPT_TOKENS, MAX_TOKENS - len(decoding))


def test_a_prompt_gets_full_steps_while_nobody_decodes() -> None:
    scheduler, machine = make_scheduler(0.001), Machine()
    add(scheduler, 0, 3 * MAX_TOKENS)
    for _ in range(3):
        assert advance(scheduler, machine).num_scheduled_tokens == [MAX_TOKENS]
    add(scheduler, 1, 3 * MAX_TOKENS)
    assert advance(scheduler, machine).num_scheduled_tokens == [1, MIN_PROMPT_TOKENS]


def test_a_waiting_prompt_is_not_admitted_to_a_step_that_is_spent() -> None:
    scheduler, machine = make_scheduler(), Machine()
    add(scheduler, 0, 10)
    advance(scheduler, machine)
    scheduler.step_times = experienced(machine)
    add(scheduler, 1, 1000)
    second = add(scheduler, 2, 1000)
    plan = advance(scheduler, machine)
    assert [s.id.seq_id for s in plan.sequences] == [0, 1]
    assert scheduler.waiting == [second]


def test_between_steps_others_get_half_of_the_bound_or_as_long_as_a_step_takes() -> None:
    scheduler = make_scheduler()
    add(scheduler, 0, 10)
    assert scheduler.side_time_s == math.inf
    advance(scheduler, Machine())
    assert scheduler.side_time_s == MAX_STEP_S / 2
    advance(scheduler, Machine(step_s=0.4))
    assert 0.4 < scheduler.side_time_s < 0.45
    assert make_scheduler(0).side_time_s == math.inf


def test_what_else_took_time_is_missing_for_prompts() -> None:
    scheduler, machine = make_scheduler(), Machine()
    add(scheduler, 0, 10)
    advance(scheduler, machine)
    scheduler.step_times = experienced(machine)
    add(scheduler, 1, 1000)
    plan = scheduler.schedule(spent_s=0.03)
    assert 0.025 < machine.time_s(plan.work()) < 0.031


def test_without_a_bound_nothing_is_learned() -> None:
    scheduler, machine = make_scheduler(0), Machine()
    add(scheduler, 0, 10)
    advance(scheduler, machine)
    add(scheduler, 1, 3 * MAX_TOKENS)
    assert advance(scheduler, machine).num_scheduled_tokens == [1, MAX_TOKENS - 1]
    assert not scheduler.step_times.is_known
