"""Guesses the next tokens of one sequence: what followed when its last tokens occurred before.

Looks up the end of the text in the text so far (prompt lookup: Yang et al. 2023, "Inference with
Reference"; Saxena 2023) and follows the place it finds for as long as the text repeats it. Every
token is compared with the guess for it, drafted or not, so to know how often guesses are right
costs no drafts. Guesses decide nothing; a step with them gives the tokens that it would give
without.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Items

import numpy as np

NGRAM = 3  # tokens that are looked up; two more often lead astray, four find less
MIN_TABLE_BITS, MAX_TABLE_BITS = 10, 18  # 1 MiB at most; longer texts lose older n-grams
NOWHERE = -1

# How likely a guess is right depends on how many tokens before it agreed; classes of that number.
LEVELS = (0, 1, 2, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 7)
MAX_MATCHED = len(LEVELS) - 1
# A text that was followed for so long and then differs may go on behind that: a changed name.
MIN_TRUSTED = 4
MAX_SKIPPED = 2

LOOKUP_CREDIT = 2.0  # in times of a token; see `Drafter.credit`
MIN_CHANCE = 0.03  # of the last guess in a row that is worth thinking of

# Odd constants of a multiplicative hash; the first is 2^64 / golden ratio (Knuth, TAOCP 6.4).
FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_MASK = (1 << 64) - 1


class HitRates:
    """How often guesses of each level were right, over all sequences; what is long ago fades."""

    # Before anything is known, and the tries that it counts as (docs/LOG.md, 2026-11-21).
    FIRST = (0.15, 0.5, 0.5, 0.55, 0.65, 0.8, 0.85, 0.95)
    FIRST_WEIGHT = 4.0
    MEMORY = 256  # tries of a level after which they count half

    def __init__(self) -> None:
        self._hits = [self.FIRST_WEIGHT * first for first in self.FIRST]
        self._tries = [self.FIRST_WEIGHT] * len(self.FIRST)

    def rate(self, level: int) -> float:
        """Give the share of right guesses."""
        return self._hits[level] / self._tries[level]

    def count(self, level: int, is_hit: bool) -> None:
        """Note whether a guess was right."""
        self._hits[level] += is_hit
        self._tries[level] += 1
        if self._tries[level] >= self.MEMORY:
            self._hits[level] /= 2
            self._tries[level] /= 2


class Luck:
    """How the guesses of one sequence do beside what is expected of their levels."""

    WEIGHT = 2.0  # hits and misses as expected that come before the first
    MEMORY = 64  # tries after which the oldest are forgotten, about

    __slots__ = ("_hits", "_hits_expected", "_misses", "_misses_expected")

    def __init__(self) -> None:
        self._hits = self._hits_expected = self.WEIGHT
        self._misses = self._misses_expected = self.WEIGHT

    @property
    def odds(self) -> float:
        """Give the factor by which the odds of a hit differ."""
        return self._hits / self._hits_expected * self._misses_expected / self._misses

    def count(self, rate: float, is_hit: bool) -> None:
        """Note a hit or a miss where hits were expected at a rate."""
        keep, start = 1 - 1 / self.MEMORY, self.WEIGHT / self.MEMORY
        self._hits = self._hits * keep + start + is_hit
        self._hits_expected = self._hits_expected * keep + start + rate
        self._misses = self._misses * keep + start + (not is_hit)
        self._misses_expected = self._misses_expected * keep + start + 1 - rate


class Drafter:
    """Follows one sequence: `append` all its tokens, ask `guess` at any time."""

    __slots__ = (
        "_came_true", "_cursor", "_luck", "_matched", "_num_skipped", "_rates", "_shift", "_table",
        "_tokens", "credit", "num_predicted",
    )  # fmt: skip

    def __init__(self, token_ids: Items[int], lookup: Items[int], rates: HitRates) -> None:
        """`lookup` is a text that the answer to `token_ids` is expected to be like."""
        self.credit = (
            LOOKUP_CREDIT if lookup else 0.0
        )  # what guesses may cost before they win, in times of a token
        self.num_predicted = 0  # tokens of `lookup` that came true, computed as guesses or not
        self._came_true = bytearray(len(lookup))
        self._tokens = array("i", lookup)
        self._tokens.extend(token_ids)
        self._rates = rates
        self._luck = Luck()
        # Where the token is that the next one is expected to equal, and how many before it agreed.
        self._cursor = NOWHERE
        self._matched = 0
        self._num_skipped = 0
        self._table = array("i")  # where an n-gram last ended, by its hash; 0: nowhere
        self._shift = 64
        self._index(len(self._tokens) - 1)
        self._find()
        self._insert()
        if lookup:
            self._cursor, self._matched = 0, MIN_TRUSTED

    def append(self, token_id: int) -> bool:
        """Take note of the sequence's next token; says whether it is what was expected."""
        is_hit = False
        if self._cursor != NOWHERE:
            is_hit = self._tokens[self._cursor] == token_id
            level = LEVELS[self._matched]
            self._luck.count(self._rates.rate(level), is_hit)
            self._rates.count(level, is_hit)
        self._tokens.append(token_id)
        if is_hit:
            if self._cursor < len(self._came_true) and not self._came_true[self._cursor]:
                self._came_true[self._cursor] = 1
                self.num_predicted += 1
            self._cursor += 1
            self._matched = min(self._matched + 1, MAX_MATCHED)
        if (not is_hit or self._matched < NGRAM) and not self._find() and not is_hit:
            self._skip()
        self._insert()
        return is_hit

    def guess(self, count: int) -> array[int]:
        """Give up to `count` tokens that may come next; none if nothing is known."""
        guess = array("i")
        if self._cursor == NOWHERE:
            return guess
        # A text that runs into its own end goes on as it began there: it goes round in circles.
        while len(guess) < count:
            guess += self._tokens[self._cursor : self._cursor + count - len(guess)]
        return guess

    def chances(self, count: int) -> list[float]:
        """Give how likely the first, the first two … guesses are all right, until hardly so."""
        if self._cursor == NOWHERE:
            return []
        chances, chance, odds = [], 1.0, self._luck.odds
        for matched in range(self._matched, self._matched + count):
            rate = self._rates.rate(LEVELS[min(matched, MAX_MATCHED)])
            chance *= rate * odds / (rate * odds + 1 - rate)
            if chance < MIN_CHANCE:
                break
            chances.append(chance)
        return chances

    def _skip(self) -> None:
        """Go on behind a token that differs, if the text agreed well before it."""
        is_trusted = self._matched >= MIN_TRUSTED
        self._num_skipped = 0 if is_trusted else self._num_skipped + 1
        self._matched = 0
        if self._cursor != NOWHERE:
            self._cursor = NOWHERE if self._num_skipped >= MAX_SKIPPED else self._cursor + 1

    def _find(self) -> bool:
        """Go to where the last tokens occurred last, if they did."""
        tokens, size = self._tokens, len(self._tokens)
        end = self._table[self._slot(size)] if size > NGRAM else 0
        if not end or tokens[end - NGRAM : end] != tokens[size - NGRAM :]:
            return False
        length, most = NGRAM, min(MAX_MATCHED, end)
        while length < most and tokens[end - length - 1] == tokens[size - length - 1]:
            length += 1
        self._cursor, self._matched, self._num_skipped = end, length, 0
        return True

    def _slot(self, end: int) -> int:
        """Give the place in the table of the n-gram before position `end`."""
        a, b, c = self._tokens[end - NGRAM : end]
        return ((a * FACTORS[0] + b * FACTORS[1] + c * FACTORS[2]) & _MASK) >> self._shift

    def _insert(self) -> None:
        """Make the n-gram that ends with the last token known."""
        size = len(self._tokens)
        if 2 * size > len(self._table) and len(self._table) < 1 << MAX_TABLE_BITS:
            self._index(size)
        elif size >= NGRAM:
            self._table[self._slot(size)] = size

    def _index(self, size: int) -> None:
        """Make a table of all n-grams of the first `size` tokens, with room for as many more."""
        bits = min(max((2 * size).bit_length() + 1, MIN_TABLE_BITS), MAX_TABLE_BITS)
        self._shift = 64 - bits
        self._table = array("i", [0]) * (1 << bits)
        if size < NGRAM:
            return
        tokens = np.array(self._tokens[:size], np.uint64)
        count = size - NGRAM + 1
        keys = np.zeros(count, np.uint64)
        for offset, factor in enumerate(FACTORS):  # in 64 bits, as in `_slot`
            keys += tokens[offset : offset + count] * np.uint64(factor)
        # Of equal n-grams the last one stays.
        ends = np.arange(NGRAM, size + 1, dtype=np.int32)
        np.frombuffer(self._table, np.int32)[keys >> np.uint64(self._shift)] = ends
