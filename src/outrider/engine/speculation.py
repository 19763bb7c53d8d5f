"""Decides how many guessed tokens a step verifies: as many as make tokens come faster.

A step with guesses computes more rows. They pay where the tokens that are expected to be right are
worth more than the time of their rows, so both are learned while running: how often guesses were
right, and what steps of so many rows took. Without hope of gain nothing is guessed. Reads no
clock; knows no logits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence as Items

from outrider.engine.block_manager import BlockManager
from outrider.engine.drafter import Drafter, HitRates
from outrider.engine.scheduler import Plan
from outrider.engine.sequence import Sequence

MAX_GUESSES = 15  # of a sequence in a step
# Rows of a step with guesses; few numbers, as each is work of its own to prepare.
ROWS = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
MIN_GAIN = 1.05  # predicted; less is noise
# Whatever is predicted, a sequence's guesses may lose no more than a share of its time: what they
# cost is taken from its credit, what they win comes to it, up to a limit. In times of a token:
CREDIT_PER_TOKEN = 0.005
HINDSIGHT = 0.3  # for a guess that would have been right, but wasn't computed
MAX_CREDIT = 6.0
MIN_PRICE = 0.01  # of guesses, whatever was measured

# Rows of which a step's time is remembered; between them it is interpolated.
KNOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# In times of one row, before anything was measured. Better too little than too much: what is
# never tried is never learned.
FIRST_TIMES = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 9.0, 17.0, 33.0)
SPEED_FOLLOWS = 0.2  # of what a measured time was off by, for all numbers of rows alike
KNOT_FOLLOWS = 0.03  # … and for the measured one alone, once it is known well
MAX_SURPRISE = 2.0  # a step that took longer than expected by more counts as this much


class RowCosts:
    """What steps of so many rows take; follows a machine whose speed changes."""

    def __init__(self) -> None:
        self._times = list(FIRST_TIMES)
        self._weights = [0.0] * len(KNOTS)  # of measured steps, at each knot
        self._is_measured = False

    def time(self, num_rows: int) -> float:
        """Give the time of a step, in seconds once one was measured."""
        index, share = _between_knots(num_rows)
        low, high = self._times[index : index + 2]
        return low + (high - low) * share

    def observe(self, num_rows: int, time_s: float) -> None:
        """Learn from a step that was measured."""
        surprise = max(time_s, 1e-9) / self.time(num_rows)
        if not self._is_measured:
            self._is_measured = True
            self._times = [time * surprise for time in self._times]
            return
        surprise = min(max(surprise, 1 / MAX_SURPRISE), MAX_SURPRISE)
        common = surprise**SPEED_FOLLOWS
        self._times = [time * common for time in self._times]
        index, share = _between_knots(min(num_rows, KNOTS[-1]))
        self._follow(index, surprise, 1 - share)
        self._follow(index + 1, surprise, share)

    def _follow(self, knot: int, surprise: float, weight: float) -> None:
        """Correct one knot: much of what is new, little of what has been measured often."""
        self._weights[knot] += weight
        share = max(KNOT_FOLLOWS, 0.5 / (1 + self._weights[knot]))
        self._times[knot] *= surprise ** (share * weight)


class Speculation:
    """Guesses for all sequences of an engine."""

    def __init__(self, blocks: BlockManager, max_rows: int) -> None:
        """A step has at most `max_rows` rows; with 0 nothing is ever guessed."""
        self.costs = RowCosts()
        self.num_drafted_tokens = 0
        self.num_accepted_tokens = 0
        self._blocks = blocks
        self._max_rows = max_rows
        self._rates = HitRates()
        self._num_rows = 0  # of the step at hand, if it only decodes

    def draft(self, plan: Plan, sequences: Items[Sequence]) -> None:
        """Guess the next tokens of the sequences that a step gives tokens to."""
        num_rows = sum(plan.num_scheduled_tokens)
        is_decoding = num_rows == len(sequences) == len(plan.sequences)
        sizes = self._choose(sequences, self._max_rows - num_rows)
        if any(sizes):
            price = self._price(len(sequences), sum(sizes)) / sum(sizes)
            for sequence, size in zip(sequences, sizes, strict=True):
                if size and sequence.drafter is not None:
                    draft = sequence.drafter.guess(size)
                    sequence.draft = draft[: self._blocks.lend(sequence, len(draft))]
                    sequence.drafter.credit -= price * len(sequence.draft)
                    num_rows += len(sequence.draft)
                    self.num_drafted_tokens += len(sequence.draft)
        self._num_rows = num_rows if is_decoding else 0

    def settle(self, sequence: Sequence, num_new: int) -> None:
        """Take note of the tokens that a step gave a sequence: right guesses and one more."""
        was_drafted = bool(sequence.draft)
        if was_drafted:
            sequence.draft = array("i")
            self.num_accepted_tokens += num_new - 1
            self._blocks.settle(sequence, num_new - 1)
        if not self._max_rows:
            return
        if sequence.drafter is None:
            known = sequence.token_ids[:-num_new]
            sequence.drafter = Drafter(known, sequence.lookup, self._rates)
        drafter = sequence.drafter
        num_hits = sum(map(drafter.append, sequence.token_ids[-num_new:]))
        won = num_new - 1 if was_drafted else HINDSIGHT * num_hits
        drafter.credit = min(drafter.credit + won + CREDIT_PER_TOKEN * num_new, MAX_CREDIT)

    def observe(self, time_s: float) -> None:
        """Learn what the last step took."""
        if self._num_rows and time_s > 0:
            self.costs.observe(self._num_rows, time_s)

    def _choose(self, sequences: Items[Sequence], num_rows: int) -> list[int]:
        """Give the number of guesses for each sequence, `num_rows` of them at most."""
        sizes = [0] * len(sequences)
        if not sequences:
            return sizes
        row_price = self._price(len(sequences), MAX_GUESSES) / MAX_GUESSES
        hopes: list[tuple[float, int]] = []  # chance, negative, and sequence of each guess
        for index, sequence in enumerate(sequences):
            drafter = sequence.drafter
            if drafter is None or drafter.credit < row_price:
                continue
            # The last token of an answer needs no guesses after it.
            most = min(sequence.max_num_tokens - sequence.num_tokens - 1, MAX_GUESSES)
            most = min(most, int(drafter.credit / row_price))
            hopes += [(-chance, index) for chance in drafter.chances(most)]
        # Chances of a sequence fall, so the best guesses are always the first ones of theirs.
        hopes.sort()
        for _, index in hopes[: self._best_count(hopes, len(sequences), num_rows)]:
            sizes[index] += 1
        return sizes

    def _best_count(self, hopes: list[tuple[float, int]], num_seqs: int, num_rows: int) -> int:
        """Give how many of the best guesses make the most tokens per time."""
        best, best_rate = 0, MIN_GAIN * num_seqs / self.costs.time(num_seqs)
        count, tokens = 0, float(num_seqs)
        for rows in ROWS[bisect_right(ROWS, num_seqs) :]:
            if rows - num_seqs > min(len(hopes), num_rows):
                break
            tokens -= sum(chance for chance, _ in hopes[count : rows - num_seqs])
            count = rows - num_seqs
            rate = tokens / self.costs.time(rows)
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    def _price(self, num_seqs: int, num_guesses: int) -> float:
        """Give what guesses cost a step of decoding sequences, in times of one of its tokens."""
        alone = self.costs.time(num_seqs)
        more = self.costs.time(num_seqs + num_guesses) - alone
        return max(more * num_seqs / alone, MIN_PRICE)


def _between_knots(num_rows: int) -> tuple[int, float]:
    """Give the knot at or below a number of rows and how far it is to the next one."""
    index = min(bisect_right(KNOTS, num_rows), len(KNOTS) - 1) - 1
    low, high = KNOTS[index], KNOTS[index + 1]
    return index, (num_rows - low) / (high - low)
