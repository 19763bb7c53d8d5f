"""Grammars that answers must match: compiled once, then one matcher per sequence.

Puts llguidance, which is imported when it is needed, over the model's own vocabulary. A grammar
that can't be compiled is refused; what compiling may cost is for `grammar_check`. A matcher that
can't go on says so and lets no token through: no answer is ever half constrained.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider.engine.grammar_check import (
    check_form,
    check_size,
    one_line,
    parser_limits,
    refusal,
    to_source,
)
from outrider.errors import InvalidRequest
from outrider.machine import trim_heap
from outrider.types import Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

NUM_CACHED = 32
PART_TOKENS = 8192  # whose bytes are read at once: about 10 ms


class Vocabulary(Protocol):
    """The part of the tokenizer that grammars need."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Tokenise content."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Give the bytes of one token."""
        ...

    def is_special(self, token_id: int) -> bool:
        """Say whether a token controls the model and stands for no text."""
        ...


class Matcher:
    """How far one sequence has come in its grammar."""

    __slots__ = ("_matcher", "num_words", "param")

    def __init__(self, matcher: LLMatcher, vocab_size: int, param: str) -> None:
        self.param = param  # the request's field that asked for the grammar
        self.num_words = -(-vocab_size // 32)
        self._matcher = matcher

    def fill_mask(self, words: NDArray[np.uint32]) -> str:
        """Set bit t % 32 of word t // 32 if token t may come next, and clear the other bits.

        Gives "" or why nothing may come next; then the answer has failed. `words` has at least
        `num_words`; ids beyond the tokenizer's vocabulary, which pad a model's own, can't come.
        """
        matcher = self._matcher
        matcher.unsafe_compute_mask_ptr(words.ctypes.data, 4 * self.num_words)
        words[self.num_words :] = 0
        if not matcher.is_error():
            return ""
        words[:] = 0  # of a matcher that gave up, the library would let end tokens through
        return one_line(matcher.get_error())

    def advance(self, token_id: int) -> None:
        """Take note of the token that was chosen; one that doesn't fit fails the next mask."""
        self._matcher.consume_token(token_id)


class Grammars:
    """Compiles grammars for one vocabulary; keeps the last ones."""

    def __init__(self, tokenizer: Vocabulary | None, eos_token_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = sorted(eos_token_ids)
        self._vocabulary: LLTokenizer | None = None
        self._preparation = self._prepare()
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()

    def prepare(self) -> bool:
        """Do a part of what has to be done before the first grammar; say whether more is left.

        The library holds the GIL over it, so a thread would stop everything for all of it.
        """
        return next(self._preparation, False)

    def matcher(self, grammar: Grammar) -> Matcher:
        """Give a matcher at the beginning of a grammar; raises `InvalidRequest`."""
        if self._tokenizer is None:
            raise InvalidRequest(
                "this model has no tokenizer, which a grammar needs", grammar.param
            )
        compiled = self._compiled.pop(grammar, None)
        if compiled is None:
            compiled = self._compile(grammar, self._tokenizer)
            if len(self._compiled) == NUM_CACHED:
                self._compiled.popitem(last=False)
        self._compiled[grammar] = compiled
        return Matcher(compiled.deep_copy(), self._tokenizer.vocab_size, grammar.param)

    def _compile(self, grammar: Grammar, tokenizer: Vocabulary) -> LLMatcher:
        check_size(grammar)
        check_form(grammar)
        while self.prepare():
            pass
        if self._vocabulary is None:
            raise InvalidRequest(
                "this model has no end token, which a grammar needs", grammar.param
            )
        from llguidance import LLMatcher

        try:
            source = to_source(grammar)
        except ValueError as error:
            raise refusal(str(error), grammar.param) from error
        compiled = LLMatcher(self._vocabulary, source, log_level=0, limits=parser_limits())
        # Some limits show with the first mask only; better now than in the middle of a batch.
        bits = b"" if compiled.is_error() else compiled.compute_bitmask()
        if compiled.is_error():
            raise refusal(compiled.get_error(), grammar.param)
        if not any(bits):
            raise refusal("nothing matches it", grammar.param)
        return compiled

    def _prepare(self) -> Iterator[bool]:
        """Build the tries of all tokens in parts; gives True after each but the last."""
        tokenizer = self._tokenizer
        if tokenizer is None:
            return
        known = [token_id for token_id in self._eos_token_ids if token_id < tokenizer.vocab_size]
        if not known:
            return
        from llguidance import LLTokenizer, TokenizerWrapper

        yield True
        tokens: list[bytes] = []
        while len(tokens) < tokenizer.vocab_size:
            end = min(len(tokens) + PART_TOKENS, tokenizer.vocab_size)
            tokens += map(tokenizer.token_bytes, range(len(tokens), end))
            yield True
        view = _TokenizerView(tokenizer, known, tokens)
        view.vocabulary = LLTokenizer(TokenizerWrapper(view), eos_token=known, slices=[])
        yield True
        view.vocabulary = view.vocabulary.with_slices(LLTokenizer.general_slices())
        self._vocabulary = view.vocabulary
        trim_heap()


class _TokenizerView:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, tokenizer: Vocabulary, eos_token_ids: list[int], tokens: list[bytes]
    ) -> None:
        self.eos_token_id = eos_token_ids[0]
        self.tokens = tokens
        self.special_token_ids = list(filter(tokenizer.is_special, range(len(tokens))))
        self._tokenizer = tokenizer
        self.vocabulary: LLTokenizer | None = None  # that is built over this view

    def __call__(self, text: bytes) -> list[int]:
        """Tokenise text; it decides between spellings of what the grammar forces."""
        token_ids = self._tokenizer.encode(text.decode("utf-8"))
        # Vocabularies of the SentencePiece kind put a space before every text.
        is_exact = b"".join(self.tokens[token_id] for token_id in token_ids) == text
        if is_exact or self.vocabulary is None:
            return token_ids
        return self.vocabulary.greedy_tokenize(text.decode("utf-8"))
