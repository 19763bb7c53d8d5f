"""From logits to tokens: grammars, penalties, filters, seeded choice and logprobs.

Every sequence is sampled by operations on its own row only, and its random numbers are a function
of (seed, choice, output position). So a token depends neither on the batch nor on a preemption.
A grammar's mask comes before everything; then the order of the steps is that of `SamplingParams`,
and each filter sees what the former one left. All that touches a row of logits is a kernel.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.engine.grammar import Matcher
from outrider.errors import InvalidRequest
from outrider.types import SamplingParams, TokenAlternative, TokenLogprob

Row = NDArray[np.float32]  # [V]
Rows = NDArray[np.float32]  # [R, V]

NO_TOKEN = "no token of the model can go on"
NO_MASK = -1  # of a row without a grammar
NONE_ALLOWED = -2  # the kernel's word for a row whose mask leaves nothing

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class TokenBytes(Protocol):
    """The part of the tokenizer that logprobs need."""

    def token_bytes(self, token_id: int) -> bytes:
        """Give the bytes of one token."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token chosen for one row.

    `token_id` is None if the logits are not finite or if a grammar stands in the way; then
    `failure` says why.
    """

    token_id: int | None
    logprob: TokenLogprob | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The log-softmax of a row of raw logits, as far as an answer shows it."""

    log_total: float  # of the row: log-probability = logit - log_total
    token_ids: list[int]  # the best, best first
    logits: list[float]  # theirs


class SamplerState:
    """What sampling remembers of one sequence: its random stream, its penalties, its grammar.

    A sequence that is preempted keeps it: tokens are computed again but never sampled again.
    """

    __slots__ = ("is_greedy", "matcher", "params", "penalties", "rule", "stream")

    def __init__(
        self,
        params: SamplingParams,
        choice: int,
        prompt_token_ids: Items[int],
        matcher: Matcher | None = None,
    ) -> None:
        if matcher is not None and params.ignore_eos:
            raise InvalidRequest(
                "ignore_eos can't be kept by an answer that has to match a grammar; leave it out",
                "ignore_eos",
            )
        seed = secrets.randbits(64) if params.seed is None else params.seed
        self.params = params
        self.matcher = matcher
        self.stream = _mix((seed + _GOLDEN * (choice + 1)) & _MASK)
        self.penalties = Penalties(params, prompt_token_ids) if _has_penalties(params) else None
        # Whether the token is the best of the row as it is, with nothing else to do.
        self.is_greedy = (
            (params.temperature == 0 or params.top_k == 1)
            and self.penalties is None
            and params.logprobs is None
            and matcher is None
        )
        # The columns of the kernel's rules, up to the random number.
        self.rule = (
            params.temperature,
            float(params.top_k),
            params.top_p,
            params.min_p,
            params.top_a,
        )

    @property
    def has_memory(self) -> bool:
        """Whether a token depends on the tokens before it by more than its row of logits."""
        return self.penalties is not None or self.matcher is not None

    def observe(self, token_id: int) -> None:
        """Take note of a token that was added to the output."""
        if self.penalties is not None:
            self.penalties.count(token_id)
        if self.matcher is not None:
            self.matcher.advance(token_id)

    def uniform(self, position: int) -> float:
        """Give the random number in [0, 1) of one output position.

        Two rounds of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) as a counter-based hash.
        """
        return (_mix((self.stream + _GOLDEN * (position + 1)) & _MASK) >> 11) * 2.0**-53


class Penalties:
    """Logit bias and penalties over the tokens seen so far, kept as a table of unique tokens."""

    def __init__(self, params: SamplingParams, prompt_token_ids: Items[int]) -> None:
        bias = params.logit_bias
        seen = set(prompt_token_ids) if params.repetition_penalty != 1 else set()
        token_ids = sorted(seen | bias.keys())
        self._rows = {token_id: row for row, token_id in enumerate(token_ids)}
        self._token_ids = np.array(token_ids, np.int32)
        # Bias, whether it was seen, times in the output: of each token.
        self._table = np.zeros((len(token_ids), 3), np.float32)
        self._table[:, 0] = [bias.get(token_id, 0.0) for token_id in token_ids]
        self._table[:, 1] = [token_id in seen for token_id in token_ids]
        self._before: Row = np.empty(0, np.float32)
        # Bounds keep absurd penalties from making infinities.
        repetition = max(params.repetition_penalty, 1e-30)
        self._factors = np.array(
            [repetition, params.frequency_penalty, params.presence_penalty], np.float32
        )

    def count(self, token_id: int) -> None:
        """Add one output token."""
        row = self._rows.get(token_id)
        if row is None:
            row = self._add_row(token_id)
        self._table[row, 1] = 1
        self._table[row, 2] += 1

    def apply(self, logits: Row) -> None:
        """Change the logits of the tokens in the table, in place."""
        size = len(self._rows)
        if len(self._before) < size:
            self._before = np.empty(len(self._token_ids), np.float32)
        kernels.penalise(
            logits, self._token_ids[:size], self._table[:size], self._factors, self._before[:size]
        )

    def logit_before(self, token_id: int) -> float | None:
        """Give what the last `apply` found at a token; None if it left it alone."""
        row = self._rows.get(token_id)
        return None if row is None else float(self._before[row])

    def _add_row(self, token_id: int) -> int:
        row = len(self._rows)
        if row == len(self._token_ids):
            capacity = max(64, 2 * row)
            self._token_ids = np.resize(self._token_ids, capacity)
            table = np.zeros((capacity, 3), np.float32)
            table[:row] = self._table
            self._table = table
        self._token_ids[row] = token_id
        self._rows[token_id] = row
        return row


class Sampler:
    """Chooses one token per row of logits, on the threads of `context` or on the caller's."""

    def __init__(self, tokenizer: TokenBytes, context: kernels.Context | None = None) -> None:
        self._tokenizer = tokenizer
        self._context = context or kernels.Context(1)
        self._masks = np.empty((0, 0), np.uint32)  # [R, words], of rows with grammars

    def sample(
        self, logits: Rows, states: Items[SamplerState], positions: Items[int]
    ) -> list[Sampled]:
        """Choose a token for each row; `positions` are the numbers of output tokens so far.

        logits [R, V], contiguous, may be overwritten.
        """
        num_rows = len(states)
        if all(state.is_greedy for state in states):
            rules = np.zeros((num_rows, 6))  # temperature 0
            rules[:, 2] = 1  # and no cut
            best = self._choose(logits, rules, np.full(num_rows, NO_MASK, np.int32)).tolist()
            return [Sampled(token_id if token_id >= 0 else None) for token_id in best]
        rankings = self._rank(logits, states)
        for row, state in enumerate(states):
            if state.penalties is not None:
                state.penalties.apply(logits[row])
        failures, masks_of_rows = self._fill_masks(logits.shape[1], states)
        rules = np.array(
            [
                (*state.rule, state.uniform(position) if state.rule[0] > 0 else 0.0)
                for state, position in zip(states, positions, strict=True)
            ],
            np.float64,
        ).reshape(num_rows, 6)
        sampled = []
        for row, token_id in enumerate(self._choose(logits, rules, masks_of_rows).tolist()):
            if token_id < 0:
                failure = failures.get(row, NO_TOKEN) if token_id == NONE_ALLOWED else ""
                sampled.append(Sampled(None, failure=failure))
            elif row in rankings:
                raw = _raw_logit(logits[row], states[row], token_id)
                sampled.append(Sampled(token_id, self._logprob(rankings[row], token_id, raw)))
            else:
                sampled.append(Sampled(token_id))
        return sampled

    def _fill_masks(
        self, vocab_size: int, states: Items[SamplerState]
    ) -> tuple[dict[int, str], NDArray[np.int32]]:
        """Ask grammars what may come next; gives why nothing may, and which mask each row has."""
        of_rows = np.full(len(states), NO_MASK, np.int32)
        matchers = [(row, state.matcher) for row, state in enumerate(states) if state.matcher]
        failures = {}
        if matchers:
            words = (-(-vocab_size // 32), *(matcher.num_words for _, matcher in matchers))
            if len(self._masks) < len(matchers) or self._masks.shape[1] != max(words):
                self._masks = np.empty((len(matchers), max(words)), np.uint32)
        for index, (row, matcher) in enumerate(matchers):
            of_rows[row] = index
            if failure := matcher.fill_mask(self._masks[index]):
                failures[row] = failure
        return failures, of_rows

    def _choose(
        self, logits: Rows, rules: NDArray[np.float64], of_rows: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        token_ids = np.empty(len(logits), np.int32)
        kernels.choose_tokens(self._context, logits, rules, of_rows, self._masks, token_ids)
        return token_ids

    def _rank(self, logits: Rows, states: Items[SamplerState]) -> dict[int, Ranking]:
        """Rank the raw logits of the rows whose log-probabilities are wanted."""
        counts = {
            row: state.params.logprobs
            for row, state in enumerate(states)
            if state.params.logprobs is not None
        }
        if not counts:
            return {}
        rows = np.array(list(counts), np.int32)
        token_ids = np.empty((len(rows), max(1, *counts.values())), np.int32)
        totals = np.empty(len(rows), np.float64)
        kernels.rank_tokens(self._context, logits, rows, token_ids, totals)
        rankings = {}
        for (row, count), ids, total in zip(counts.items(), token_ids, totals, strict=True):
            if ids[0] < 0:
                continue  # not finite: there will be no token either
            log_total = float(logits[row, ids[0]]) + math.log(total)
            best = ids[: min(count, logits.shape[1])]
            rankings[row] = Ranking(log_total, best.tolist(), logits[row, best].tolist())
        return rankings

    def _logprob(self, ranking: Ranking, token_id: int, logit: float) -> TokenLogprob:
        token_bytes = self._tokenizer.token_bytes
        top = tuple(
            TokenAlternative(other, token_bytes(other), value - ranking.log_total)
            for other, value in zip(ranking.token_ids, ranking.logits, strict=True)
        )
        return TokenLogprob(token_id, token_bytes(token_id), logit - ranking.log_total, top)


def _raw_logit(logits: Row, state: SamplerState, token_id: int) -> float:
    """Give the model's own logit of a token that was chosen, so one that no mask took away."""
    before = None if state.penalties is None else state.penalties.logit_before(token_id)
    return float(logits[token_id]) if before is None else before


def _has_penalties(params: SamplingParams) -> bool:
    return (
        bool(params.logit_bias)
        or params.repetition_penalty != 1
        or params.frequency_penalty != 0
        or params.presence_penalty != 0
    )


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
