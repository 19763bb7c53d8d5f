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

# Tokens guessed at a time; few sizes, as every number of rows is work of its own to prepare.
SIZES = (1, 3, 7, 15)
MIN_GAIN = 1.05  # predicted; less is noise

# Rows of which a step's time is remembered; between them it is interpolated.
KNOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FIRST_ROW_COST = 0.2  # of another row, in times of the first, before anything was measured
SPEED_FOLLOWS = 0.2  # of what a measured time was off by, for all numbers of rows alike
KNOT_FOLLOWS = 0.1  # … and for the measured one alone
MAX_SURPRISE = 2.0  # a step that took longer than expected by more counts as this much


class RowCosts:
    """What steps of so many rows take; follows a machine whose speed changes."""

    def __init__(self) -> None:
        self._times = [1 + FIRST_ROW_COST * (knot - 1) for knot in KNOTS]
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
        self._times[index] *= surprise ** (KNOT_FOLLOWS * (1 - share))
        self._times[index + 1] *= surprise ** (KNOT_FOLLOWS * share)


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
        for sequence, size in zip(sequences, sizes, strict=True):
            if size and sequence.drafter is not None:
                draft = sequence.drafter.guess(size)
                sequence.draft = draft[: self._blocks.lend(sequence, len(draft))]
                num_rows += len(sequence.draft)
                self.num_drafted_tokens += len(sequence.draft)
        self._num_rows = num_rows if is_decoding else 0

    def settle(self, sequence: Sequence, num_new: int) -> None:
        """Take note of the tokens that a step gave a sequence: right guesses and one more."""
        if sequence.draft:
            sequence.draft = array("i")
            self.num_accepted_tokens += num_new - 1
            self._blocks.settle(sequence, num_new - 1)
        if not self._max_rows:
            return
        if sequence.drafter is None:
            known = sequence.token_ids[:-num_new]
            sequence.drafter = Drafter(known, sequence.lookup, self._rates)
        for token_id in sequence.token_ids[-num_new:]:
            sequence.drafter.append(token_id)

    def observe(self, time_s: float) -> None:
        """Learn what the last step took."""
        if self._num_rows and time_s > 0:
            self.costs.observe(self._num_rows, time_s)

    def _choose(self, sequences: Items[Sequence], num_rows: int) -> list[int]:
        """Give the number of guesses for each sequence."""
        upgrades = []  # (tokens per row, negative; sequence; new size; tokens that it adds)
        for index, sequence in enumerate(sequences):
            # The last token of an answer needs no guesses after it.
            most = min(sequence.max_num_tokens - sequence.num_tokens - 1, SIZES[-1])
            if sequence.drafter is None or not (chances := sequence.drafter.chances(most)):
                continue
            size = 0
            for larger in SIZES:
                if larger > most:
                    break
                gain = sum(chances[size:larger])
                upgrades.append((-gain / (larger - size), index, larger, gain))
                size = larger
        if not upgrades:
            return [0] * len(sequences)
        return self._spend(sorted(upgrades), len(sequences), num_rows)

    def _spend(
        self, upgrades: list[tuple[float, int, int, float]], num_seqs: int, num_rows: int
    ) -> list[int]:
        """Take the best upgrades, as many as give the most tokens per time."""
        sizes = [0] * num_seqs
        best, best_rate = list(sizes), MIN_GAIN * num_seqs / self.costs.time(num_seqs)
        rows, tokens = num_seqs, float(num_seqs)
        for _, index, size, gain in upgrades:
            rows += size - sizes[index]
            tokens += gain
            if rows > num_seqs + num_rows:
                break
            sizes[index] = size
            rate = tokens / self.costs.time(rows)
            if rate > best_rate:
                best, best_rate = list(sizes), rate
        return best


def _between_knots(num_rows: int) -> tuple[int, float]:
    """Give the knot at or below a number of rows and how far it is to the next one."""
    index = min(bisect_right(KNOTS, num_rows), len(KNOTS) - 1) - 1
    low, high = KNOTS[index], KNOTS[index + 1]
    return index, (num_rows - low) / (high - low)
