"""From logits to tokens: grammars, penalties, filters, seeded choice and logprobs.

Every sequence is sampled by operations on its own row only, and its random numbers are a function
of (seed, choice, output position). So a token depends neither on the batch nor on a preemption.
A grammar's mask comes before everything; then the order of the steps is that of `SamplingParams`,
and each filter sees what the former one left.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider.engine.grammar import Matcher
from outrider.errors import InvalidRequest
from outrider.types import SamplingParams, TokenAlternative, TokenLogprob

Row = NDArray[np.float32]  # [V]
Ids = NDArray[np.int64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_CHUNK = 128  # entries per partial sum of the two-level inverse CDF
# Weights (relative to the best token) above which candidates are looked for, before all of V.
_THRESHOLDS = (0.05, 2e-3, 1e-4, 1e-6)


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


class SamplerState:
    """What sampling remembers of one sequence: its random stream, its penalties, its grammar.

    A sequence that is preempted keeps it: tokens are computed again but never sampled again.
    """

    __slots__ = ("is_greedy", "matcher", "params", "penalties", "stream")

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
        is_argmax = params.temperature == 0 or params.top_k == 1
        # Whether the token is the argmax of the row as it is, with nothing else to do.
        self.is_greedy = (
            is_argmax and self.penalties is None and params.logprobs is None and matcher is None
        )

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
        self._params = params
        bias = params.logit_bias
        seen = set(prompt_token_ids) if params.repetition_penalty != 1 else set()
        token_ids = sorted(seen | bias.keys())
        self._rows = {token_id: row for row, token_id in enumerate(token_ids)}
        self._size = len(token_ids)
        self._token_ids = np.array(token_ids, np.int64)
        self._bias = np.array([bias.get(token_id, 0.0) for token_id in token_ids], np.float32)
        self._is_seen = np.array([token_id in seen for token_id in token_ids], np.bool_)
        self._counts = np.zeros(self._size, np.float32)  # in the output

    def count(self, token_id: int) -> None:
        """Add one output token."""
        row = self._rows.get(token_id)
        if row is None:
            row = self._add_row(token_id)
        self._is_seen[row] = True
        self._counts[row] += 1

    def apply(self, logits: Row) -> None:
        """Change the logits of the tokens in the table, in place."""
        size = self._size
        token_ids, counts = self._token_ids[:size], self._counts[:size]
        x = logits[token_ids] + self._bias[:size]
        # Bounds keep absurd penalties from making infinities, which would look like a broken model.
        repetition = np.float32(max(self._params.repetition_penalty, 1e-30))
        if repetition != 1:
            with np.errstate(over="ignore"):
                penalised = np.where(x > 0, x / repetition, x * repetition)
            x = np.where(self._is_seen[:size], penalised.clip(-1e30, 1e30), x)
        x -= np.float32(self._params.frequency_penalty) * counts
        x -= np.float32(self._params.presence_penalty) * (counts > 0)
        logits[token_ids] = x

    def _add_row(self, token_id: int) -> int:
        row = self._size
        if row == len(self._token_ids):
            capacity = max(64, 2 * row)
            for name in ("_token_ids", "_bias", "_is_seen", "_counts"):
                old = getattr(self, name)
                new = np.zeros(capacity, old.dtype)
                new[:row] = old
                setattr(self, name, new)
        self._token_ids[row] = token_id
        self._rows[token_id] = row
        self._size += 1
        return row


class Sampler:
    """Chooses one token per row of logits."""

    def __init__(self, tokenizer: TokenBytes) -> None:
        self._tokenizer = tokenizer

    def sample(
        self, logits: NDArray[np.float32], states: Items[SamplerState], positions: Items[int]
    ) -> list[Sampled]:
        """Choose a token for each row; `positions` are the numbers of output tokens so far.

        logits [R, V] may be overwritten.
        """
        if all(state.is_greedy for state in states):
            return _argmax_rows(logits)
        return [
            self._sample_row(logits[row], state, positions[row]) for row, state in enumerate(states)
        ]

    def _sample_row(self, row: Row, state: SamplerState, position: int) -> Sampled:
        params = state.params
        best = int(row.argmax())
        if not math.isfinite(row[best]):
            return Sampled(None)
        if state.is_greedy:
            return Sampled(best)
        raw = row
        if params.logprobs is not None and (state.matcher or state.penalties):
            raw = row.copy()
        if state.matcher is not None:
            if failure := state.matcher.mask(row):
                return Sampled(None, failure=failure)
            best = int(row.argmax())
            if not math.isfinite(row[best]):
                return Sampled(None)
        if state.penalties is not None:
            state.penalties.apply(row)
            best = int(row.argmax())
        token_id = best
        if params.temperature > 0 and params.top_k != 1:
            weights = _weights(row, best, params.temperature)
            token_id = choose(weights, params, state.uniform(position))
        if params.logprobs is None:
            return Sampled(token_id)
        return Sampled(token_id, self._logprob(raw, token_id, params.logprobs))

    def _logprob(self, row: Row, token_id: int, num_top: int) -> TokenLogprob:
        """Give log-softmax values of the raw logits [V]."""
        best = int(row.argmax())
        weights = _weights(row, best, 1.0)
        log_total = float(row[best]) + math.log(float(weights.sum(dtype=np.float64)))
        token_bytes = self._tokenizer.token_bytes
        top = tuple(
            TokenAlternative(other, token_bytes(other), float(row[other]) - log_total)
            for other in (_top_k(weights, num_top).tolist() if num_top else [])
        )
        logprob = float(row[token_id]) - log_total
        return TokenLogprob(token_id, token_bytes(token_id), logprob, top)


def choose(weights: Row, params: SamplingParams, uniform: float) -> int:
    """Filter the weights [V] (the best is 1) and choose by inverse CDF in the order of ids."""
    is_filtered = _has_top_k(weights, params) or params.top_p < 1
    if not is_filtered and params.min_p == 0 and params.top_a == 0:
        return _choose_from_all(weights, uniform)
    total = float(weights.sum(dtype=np.float64))
    token_ids = _candidates(weights, params, total)
    kept = weights[token_ids]
    descending = np.sort(kept)[::-1]
    size = _count_kept(descending, params, total, _has_top_k(weights, params))
    is_kept = kept >= descending[size - 1]
    num_extra = int(np.count_nonzero(is_kept)) - size
    if num_extra:  # of equal weights the lower ids stay
        is_kept[np.flatnonzero(kept == descending[size - 1])[-num_extra:]] = False
    cdf = kept[is_kept].cumsum(dtype=np.float64)
    return int(token_ids[is_kept][_pick(cdf, uniform * float(cdf[-1]))])


def _has_top_k(weights: Row, params: SamplingParams) -> bool:
    return 0 < params.top_k < len(weights)


def _candidates(weights: Row, params: SamplingParams, total: float) -> Ids:
    """Give ids, ascending, of the best weights: at least those that pass the filters."""
    if _has_top_k(weights, params):
        return _find_above(weights, params.top_k, 0.0)
    if params.top_p < 1:
        return _find_above(weights, 1, params.top_p * total)
    return np.flatnonzero(weights >= np.float32(params.min_p))


def _find_above(weights: Row, count: int, mass: float) -> Ids:
    """Give the ids above the first threshold that leaves `count` weights and `mass`, or all."""
    for threshold in _THRESHOLDS:
        token_ids = np.flatnonzero(weights >= np.float32(threshold))
        if len(token_ids) >= count and (
            mass == 0 or float(weights[token_ids].sum(dtype=np.float64)) >= mass
        ):
            return token_ids
    return np.arange(len(weights))


def _count_kept(descending: Row, params: SamplingParams, total: float, has_top_k: bool) -> int:
    """Count the best weights that pass all filters; each filter sees what the former left."""
    size = min(params.top_k, len(descending)) if has_top_k else len(descending)
    cdf = descending[:size].cumsum(dtype=np.float64)
    if params.top_p < 1:
        mass = params.top_p * (float(cdf[-1]) if has_top_k else total)
        size = min(int(cdf.searchsorted(mass)) + 1, size)
    size = _count_at_least(descending[:size], params.min_p)
    return _count_at_least(descending[:size], params.top_a / float(cdf[size - 1]))


def _choose_from_all(weights: Row, uniform: float) -> int:
    """Choose among all V in the order of ids, by sums of chunks first and then inside one."""
    main = len(weights) - len(weights) % _CHUNK
    sums = weights[:main].reshape(-1, _CHUNK).sum(axis=1, dtype=np.float64)
    if main < len(weights):
        sums = np.append(sums, weights[main:].sum(dtype=np.float64))
    cdf = sums.cumsum()
    target = uniform * float(cdf[-1])
    chunk = _pick(cdf, target)
    before = float(cdf[chunk - 1]) if chunk else 0.0
    start = chunk * _CHUNK
    inside = weights[start : start + _CHUNK].cumsum(dtype=np.float64)
    return start + _pick(inside, target - before)


def _pick(cdf: NDArray[np.float64], target: float) -> int:
    """Find the first entry of the sums above `target`, never one that adds nothing."""
    last = int(cdf.searchsorted(cdf[-1]))
    return min(int(cdf.searchsorted(target, side="right")), last)


def _top_k(weights: Row, k: int) -> Ids:
    """Give the ids of the k best weights, best first; ties by id."""
    token_ids = _find_above(weights, k, 0.0)
    kept = weights[token_ids]
    if len(kept) > 4 * k:
        is_kept = kept >= np.partition(kept, len(kept) - k)[len(kept) - k]
        token_ids, kept = token_ids[is_kept], kept[is_kept]
    return token_ids[np.argsort(-kept, kind="stable")[:k]]


def _count_at_least(descending: Row, threshold: float) -> int:
    return max(1, int((-descending).searchsorted(-np.float32(threshold), side="right")))


def _weights(logits: Row, best: int, temperature: float) -> Row:
    """Give exp((x - max) / temperature), whose largest entry is 1."""
    x = logits - logits[best]
    if temperature != 1:
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf
            x *= np.float32(min(1 / temperature, 3e38))
        x[best] = 0
    weights: Row = np.exp(x, out=x)
    return weights


def _argmax_rows(logits: NDArray[np.float32]) -> list[Sampled]:
    # argmax finds the first NaN if there is one, so this sees every broken row.
    token_ids = logits.argmax(axis=1).tolist()
    return [
        Sampled(token_id if math.isfinite(logits[row, token_id]) else None)
        for row, token_id in enumerate(token_ids)
    ]


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
