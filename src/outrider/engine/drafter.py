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

NGRAMS = (3, 2)  # tokens that are looked up; the longer first
MIN_TABLE_BITS, MAX_TABLE_BITS = 10, 18  # 1 MiB at most; longer texts lose older n-grams
NOWHERE = -1

# How likely a guess is right depends on how many tokens before it agreed; classes of that number.
LEVELS = (0, 1, 2, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 7)
MAX_MATCHED = len(LEVELS) - 1
# A text that was followed for so long and then differs may go on behind that: a changed name.
MIN_TRUSTED = 4
MAX_SKIPPED = 2

# Odd constants of a multiplicative hash; the first is 2^64 / golden ratio (Knuth, TAOCP 6.4).
FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_MASK = (1 << 64) - 1


class HitRates:
    """How often guesses of each level were right; what is long ago fades."""

    # Before anything is known, of the levels above; from texts and answers of a small model.
    FIRST = (0.3, 0.4, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
    FIRST_WEIGHT = 4.0  # tries that a base counts as
    MEMORY = 64  # tries of a level after which they count half

    __slots__ = ("_base", "_hits", "_tries")

    def __init__(self, base: HitRates | None = None) -> None:
        """`base` is what is known from other sequences; it learns from this one as well."""
        self._base = base
        self._hits = [0.0] * len(self.FIRST)
        self._tries = [0.0] * len(self.FIRST)

    def rate(self, level: int) -> float:
        """Give the share of right guesses."""
        first = self.FIRST[level] if self._base is None else self._base.rate(level)
        hits = self._hits[level] + self.FIRST_WEIGHT * first
        return hits / (self._tries[level] + self.FIRST_WEIGHT)

    def count(self, level: int, is_hit: bool) -> None:
        """Note whether a guess was right."""
        if self._base is not None:
            self._base.count(level, is_hit)
        self._hits[level] += is_hit
        self._tries[level] += 1
        if self._tries[level] >= self.MEMORY:
            self._hits[level] /= 2
            self._tries[level] /= 2


class Drafter:
    """Follows one sequence: `append` all its tokens, ask `guess` at any time."""

    __slots__ = ("_cursor", "_matched", "_num_skipped", "_rates", "_shift", "_table", "_tokens")

    def __init__(self, token_ids: Items[int], lookup: Items[int], rates: HitRates) -> None:
        """`lookup` is a text that the answer to `token_ids` is expected to be like."""
        self._tokens = array("i", lookup)
        self._tokens.extend(token_ids)
        self._rates = HitRates(rates)
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

    def append(self, token_id: int) -> None:
        """Take note of the sequence's next token."""
        is_hit = False
        if self._cursor != NOWHERE:
            is_hit = self._tokens[self._cursor] == token_id
            self._rates.count(LEVELS[self._matched], is_hit)
        self._tokens.append(token_id)
        if is_hit:
            self._cursor += 1
            self._matched = min(self._matched + 1, MAX_MATCHED)
        if not is_hit or self._matched < max(NGRAMS):
            self._find() or is_hit or self._skip()
        self._insert()

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
        """Give how likely the first, the first two … guesses are all right."""
        if self._cursor == NOWHERE:
            return []
        chances, chance = [], 1.0
        for matched in range(self._matched, self._matched + count):
            chance *= self._rates.rate(LEVELS[min(matched, MAX_MATCHED)])
            chances.append(chance)
        return chances

    def _skip(self) -> bool:
        """Go on behind a token that differs, if the text agreed well before it."""
        is_trusted = self._matched >= MIN_TRUSTED and self._cursor != NOWHERE
        self._num_skipped = 0 if is_trusted else self._num_skipped + 1
        if not is_trusted and (self._cursor == NOWHERE or self._num_skipped >= MAX_SKIPPED):
            self._cursor = NOWHERE
        else:
            self._cursor += 1
        self._matched = 0
        return self._cursor != NOWHERE

    def _find(self) -> bool:
        """Go to where the last tokens occurred last, if they did."""
        tokens, size = self._tokens, len(self._tokens)
        for length in NGRAMS:
            end = self._table[self._slot(size, length)] if size > length else 0
            if end and tokens[end - length : end] == tokens[size - length :]:
                most = min(MAX_MATCHED, end)
                while length < most and tokens[end - length - 1] == tokens[size - length - 1]:
                    length += 1
                self._cursor, self._matched, self._num_skipped = end, length, 0
                return True
        return False

    def _slot(self, end: int, length: int) -> int:
        """Give the place in the table of the n-gram before position `end`."""
        grams = zip(self._tokens[end - length : end], FACTORS, strict=False)
        return (sum(token_id * factor for token_id, factor in grams) & _MASK) >> self._shift

    def _insert(self) -> None:
        """Make the n-grams that end with the last token known."""
        size = len(self._tokens)
        if 4 * size > len(self._table) and len(self._table) < 1 << MAX_TABLE_BITS:
            self._index(size)
            return
        for length in NGRAMS:
            if size >= length:
                self._table[self._slot(size, length)] = size

    def _index(self, size: int) -> None:
        """Make a table of all n-grams of the first `size` tokens."""
        bits = min(max((4 * size).bit_length(), MIN_TABLE_BITS), MAX_TABLE_BITS)
        self._shift = 64 - bits
        self._table = array("i", [0]) * (1 << bits)
        table = np.frombuffer(self._table, np.int32)
        tokens = np.array(self._tokens[:size], np.uint64)
        for length in NGRAMS:
            count = max(0, size - length + 1)
            keys = np.zeros(count, np.uint64)
            for offset in range(length):  # arithmetic of 64 bits wraps as `_slot` does
                keys += tokens[offset : offset + count] * np.uint64(FACTORS[offset])
            # Of equal n-grams the last one stays.
            table[keys >> np.uint64(self._shift)] = np.arange(length, size + 1, dtype=np.int32)
