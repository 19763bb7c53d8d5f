"""Appends sampled tokens to a sequence and says what they add to its answer.

Owns the order in which a token reaches text, logprobs and sampler state, and the reasons to
finish: end token, stop string, length. Knows no blocks and no steps; a step may append several
tokens, and the answer is the same as if each came in one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from outrider.engine.detokenizer import TokenText
from outrider.engine.protocol import SequenceOutput
from outrider.engine.sampler import Sampled
from outrider.engine.sequence import Sequence
from outrider.types import FinishReason, TokenLogprob

NO_GUESS = -1


@dataclass(slots=True)
class Added:
    """What a step adds to a sequence, and why it can't go on, if so."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    failure: str | None = None

    def output(self, sequence: Sequence) -> SequenceOutput:
        """Give it in the form in which it leaves the engine."""
        return SequenceOutput(
            request_id=sequence.id.request_id,
            index=sequence.id.index,
            text=self.text,
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            finish_reason=self.finish_reason,
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached_tokens or 0,
            num_output_tokens=sequence.num_output_tokens,
            num_predicted_tokens=sequence.num_predicted_tokens,
        )


class Appender:
    """Appends to the sequences of one model."""

    def __init__(self, text: TokenText, eos_token_ids: frozenset[int]) -> None:
        self._text = text
        self._eos_token_ids = eos_token_ids

    def append(self, sequence: Sequence, draws: Iterator[Sampled]) -> Added:
        """Append the next token, and those after it as long as the guess before was right."""
        added = Added()
        for guess, sampled in zip((*sequence.draft, NO_GUESS), draws, strict=False):
            if sampled.token_id is None:
                added.failure = sampled.failure
                break
            self._append(sequence, sampled.token_id, sampled.logprob, added)
            if added.finish_reason is not None or sampled.token_id != guess:
                break
        return added

    def _append(
        self, sequence: Sequence, token_id: int, logprob: TokenLogprob | None, added: Added
    ) -> None:
        sequence.token_ids.append(token_id)
        sequence.sampler.observe(token_id)
        text, finish_reason, is_cut = self._detokenize(sequence, token_id)
        if sequence.logprobs is not None and logprob is not None:
            if not self._is_end(sequence, token_id):
                num_bytes = 0 if self._text.is_special(token_id) else len(logprob.token)
                sequence.logprobs.push(logprob, num_bytes)
            is_whole = finish_reason is not None and not is_cut
            added.logprobs += sequence.logprobs.release(text, everything=is_whole)
        added.token_ids.append(token_id)
        added.text += text
        added.finish_reason = finish_reason

    def _detokenize(
        self, sequence: Sequence, token_id: int
    ) -> tuple[str, FinishReason | None, bool]:
        """Give the new text, the reason to finish now, and whether a stop string cut the text."""
        if self._is_end(sequence, token_id):
            return sequence.detokenizer.flush(), "stop", False
        text, is_cut = sequence.detokenizer.push(token_id)
        if is_cut:
            return text, "stop", True
        if sequence.num_tokens >= sequence.max_num_tokens:
            return text + sequence.detokenizer.flush(), "length", False
        return text, None, False

    def _is_end(self, sequence: Sequence, token_id: int) -> bool:
        return token_id in self._eos_token_ids and not sequence.sampling.ignore_eos
