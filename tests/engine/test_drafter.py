"""What a drafter guesses, what it believes of its guesses, and what it may cost."""

from __future__ import annotations

import random
from collections.abc import Sequence as Items

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.make_sequences import make_sequence
from outrider.engine.drafter import MAX_TABLE_BITS, NGRAM, Drafter, HitRates
from outrider.engine.scheduler import Plan
from outrider.engine.sequence import Sequence
from outrider.engine.speculation import KNOTS, RowCosts, Speculation


def follow(token_ids: Items[int], more: Items[int] = (), lookup: Items[int] = ()) -> Drafter:
    drafter = Drafter(token_ids, lookup, HitRates())
    for token_id in more:
        drafter.append(token_id)
    return drafter


def test_it_guesses_what_followed_the_last_time() -> None:
    drafter = follow([1, 2, 3, 4, 5, 1, 2, 3, 8, 9, 7], [1, 2, 3])
    assert drafter.guess(3).tolist() == [8, 9, 7]
    assert len(drafter.chances(3)) == 3
    drafter.append(8)
    assert drafter.guess(2).tolist() == [9, 7]


def test_what_never_occurred_gives_no_guess() -> None:
    drafter = follow([1, 2, 3, 4, 5], [2, 3])
    assert drafter.guess(3).tolist() == []
    assert drafter.chances(3) == []


def test_a_text_that_goes_round_in_circles_is_followed_beyond_its_end() -> None:
    assert follow([5], [1, 2, 1, 2, 1]).guess(5).tolist() == [2, 1, 2, 1, 2]


def test_a_prediction_is_followed_from_its_beginning_and_behind_a_changed_token() -> None:
    drafter = follow([1, 2], lookup=[11, 12, 13, 14, 15, 16])
    assert drafter.guess(4).tolist() == [11, 12, 13, 14]
    drafter.append(11)
    drafter.append(99)
    assert drafter.guess(3).tolist() == [13, 14, 15]
    drafter.append(98)
    drafter.append(97)
    assert drafter.guess(3).tolist() == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 60))
def test_a_prompt_is_known_like_tokens_that_came_one_by_one(text: list[int], cut: int) -> None:
    whole, pieces = follow(text), follow(text[:cut], text[cut:])
    for drafter in (whole, pieces):
        guess = drafter.guess(1).tolist()
        if any(text[end - NGRAM : end] == text[-NGRAM:] for end in range(NGRAM, len(text))):
            assert len(guess) == 1
    assert whole._table == pieces._table


def test_the_more_tokens_agreed_the_more_a_guess_is_believed() -> None:
    text = list(range(100))
    short, long = follow(text, text[:3]).chances(8), follow(text, text[:30]).chances(8)
    assert len(long) == 8
    assert all(a < b for a, b in zip(short, long, strict=False))
    assert short == sorted(short, reverse=True)


def test_guesses_that_fail_are_believed_less_and_in_their_own_sequence_least() -> None:
    text = list(range(100))
    rates = HitRates()
    unlucky, other = Drafter(text, (), rates), Drafter(text, (), rates)
    before = follow(text, text[:3]).chances(1)[0]
    for start in range(0, 90, 6):
        for token_id in (*text[start : start + 3], 200 + start):
            unlucky.append(token_id)
    for drafter in (unlucky, other):
        for token_id in text[:3]:
            drafter.append(token_id)
    assert 2 * unlucky.chances(1)[0] < other.chances(1)[0] < before


def test_the_index_of_a_long_text_is_bounded() -> None:
    draw = random.Random(0).randrange
    drafter = follow([draw(1000) for _ in range(300_000)], [1, 2, 3, 4, 5, 1, 2, 3])
    assert len(drafter._table) == 1 << MAX_TABLE_BITS
    assert drafter.guess(2).tolist() == [4, 5]


class Room:
    """Blocks for any number of guesses."""

    def lend(self, sequence: Sequence, count: int) -> int:
        return count

    def settle(self, sequence: Sequence, count: int) -> None:
        assert count == 0, "no guess of this test comes true"


@pytest.mark.parametrize("lookup", [(), tuple(range(500, 600))])
def test_a_sequence_pays_for_guesses_with_what_it_has_earned(lookup: tuple[int, ...]) -> None:
    """Phrases of three tokens come again and again, and never go on as they did."""
    speculation = Speculation(Room(), 512)
    for level in range(len(HitRates.FIRST)):
        for _ in range(20):
            speculation._rates.count(level, True)  # other sequences were lucky
    sequence = make_sequence((1, 2, 3))
    sequence.lookup = lookup
    spent = 0.0
    for number in range(600):
        is_phrase = number % 12 < 3
        sequence.token_ids.append(10 + number % 12 if is_phrase else 10_000 + number)
        speculation.settle(sequence, 1)
        speculation.draft(Plan([sequence], [1]), [sequence])
        rows = 1 + len(sequence.draft)
        spent += speculation.costs.time(rows) / speculation.costs.time(1) - 1
    assert speculation.num_drafted_tokens > 0
    assert spent < 0.01 * 600 + (2 if lookup else 0)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_costs_of_rows_are_learned_on_a_machine_that_changes_its_speed(factor: float) -> None:
    costs, true = RowCosts(), {1: 1.0, 4: 1.9, 16: 6.0, 100: 50.0}
    for number in range(400):
        speed = 0.003 * (factor if number > 200 else 1)
        rows = list(true)[number % 4]
        costs.observe(rows, true[rows] * speed)
    for rows, time in true.items():
        assert costs.time(rows) == pytest.approx(time * 0.003 * factor, rel=0.15)
    for number in range(400):  # one kind of step alone, while the machine changes again
        costs.observe(1, 0.003 if number > 200 else 0.003 * factor)
    assert costs.time(4) / costs.time(1) == pytest.approx(1.9, rel=0.3)


def test_a_step_that_hangs_is_hardly_believed() -> None:
    costs = RowCosts()
    for _ in range(50):
        costs.observe(8, 0.005)
    before = costs.time(8)
    costs.observe(8, 60.0)
    assert costs.time(8) < 1.3 * before
    assert costs.time(KNOTS[-1] + 50) > costs.time(KNOTS[-1])
