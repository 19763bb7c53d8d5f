"""The tokens of a step's rows: sampled, and of guessed ones only as far as they come true.

A sequence with guesses has several rows of logits; each but the first belongs to it only if the
guess before it is what was sampled. Rows that depend on nothing but themselves are sampled at
once; where a grammar or penalties remember tokens, a row is sampled when the one before it is
known. So a guess never touches a sequence's state, and every token is what it would be without.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from outrider.engine.sampler import Sampled, Sampler
from outrider.engine.sequence import Sequence


class Draws:
    """What is sampled from the logits of one step."""

    def __init__(
        self, sampler: Sampler, logits: NDArray[np.float32], sequences: Items[Sequence]
    ) -> None:
        """Sample all rows that can be sampled now; logits [R, V] may be overwritten."""
        self._sampler = sampler
        self._logits = logits
        self._rows: list[range] = []  # of each sequence
        self._sampled: dict[int, Sampled] = {}
        rows, states, positions = [], [], []
        first = 0
        for sequence in sequences:
            count = 1 + len(sequence.draft)
            self._rows.append(range(first, first + count))
            for offset in range(1 if sequence.sampler.has_memory else count):
                rows.append(first + offset)
                states.append(sequence.sampler)
                positions.append(sequence.num_output_tokens + offset)
            first += count
        chosen = logits if len(rows) == len(logits) else logits[rows]
        for row, result in zip(rows, sampler.sample(chosen, states, positions), strict=True):
            self._sampled[row] = result

    def of(self, index: int, sequence: Sequence) -> Iterator[Sampled]:
        """Give the tokens of one sequence, which must have each before the next is asked for."""
        for row in self._rows[index]:
            sampled = self._sampled.get(row)
            if sampled is None:
                logits = self._logits[row : row + 1]
                position = sequence.num_output_tokens
                (sampled,) = self._sampler.sample(logits, [sequence.sampler], [position])
            yield sampled
