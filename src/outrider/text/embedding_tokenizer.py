"""Texts to the token ids that an embedding model reads, [CLS] and [SEP] included.

As in `Tokenizer`, all of a text is content: the name of a control token in it stays text. A text
that is empty or too long is refused, never cut; the error names its place in the request.
"""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers

from outrider.errors import CheckpointError, InputTooLong, InvalidRequest
from outrider.text.tokenizer import BareErrors, check_unicode

# No real text has so many characters per token; longer ones aren't tokenised, whatever they are.
MAX_CHARS_PER_TOKEN = 200
TEXTS_AT_ONCE = 64  # what the library keeps of one text while it works is many times its length

Text = str | Sequence[int]


class EmbeddingTokenizer:
    """The vocabulary of one embedding model; safe to share between threads."""

    def __init__(self, tokenizer_json: str, max_model_len: int, vocab_size: int) -> None:
        with BareErrors():
            library = tokenizers.Tokenizer.from_str(tokenizer_json)
        library.no_truncation()
        library.no_padding()
        library.encode_special_tokens = True
        self._library = library
        self._vocab_size = vocab_size
        self.max_model_len = max_model_len
        with BareErrors():
            ends = library.encode("", add_special_tokens=True).ids
        if len(ends) != 2 or library.get_vocab_size(with_added_tokens=True) > vocab_size:
            raise CheckpointError(
                "the tokenizer doesn't fit an embedding model: it has to put one token before a "
                f"text and one after it, and at most {vocab_size:,} in all; fetch the model again"
            )
        self._first, self._last = ends

    def encode(self, texts: Sequence[Text], param: str = "input") -> list[list[int]]:
        """Give the token ids of texts, or of lists of ids, which may have their ends already.

        `param` is the field of the request that holds the texts.
        """
        names = [param] if len(texts) == 1 else [f"{param}[{i}]" for i in range(len(texts))]
        encoded: list[list[int]] = []
        for begin in range(0, len(texts), TEXTS_AT_ONCE):
            some = slice(begin, begin + TEXTS_AT_ONCE)
            encoded += self._encode_some(texts[some], names[some])
        return encoded

    def _encode_some(self, texts: Sequence[Text], names: Sequence[str]) -> list[list[int]]:
        strings = []
        for text, name in zip(texts, names, strict=True):
            if isinstance(text, str):
                self._check_text(text, name)
                strings.append(text)
        # The batch call releases the GIL and keeps no offsets.
        found = iter(self._library.encode_batch_fast(strings, add_special_tokens=True))
        results = []
        for text, name in zip(texts, names, strict=True):
            token_ids = next(found).ids if isinstance(text, str) else self._enclose(text, name)
            if len(token_ids) <= 2:
                raise InvalidRequest("the text is empty; send at least one token", name)
            if len(token_ids) > self.max_model_len:
                raise InputTooLong(len(token_ids), self.max_model_len, name)
            results.append(token_ids)
        return results

    def _check_text(self, text: str, name: str) -> None:
        limit = self.max_model_len * MAX_CHARS_PER_TOKEN
        if len(text) > limit:
            raise InvalidRequest(
                f"the text has {len(text):,} characters; at most {limit:,} are read, and "
                f"{self.max_model_len:,} tokens: cut it into shorter texts",
                name,
            )
        check_unicode(text, name)

    def _enclose(self, token_ids: Sequence[int], name: str) -> list[int]:
        low, high = min(token_ids, default=0), max(token_ids, default=0)
        if low < 0 or high >= self._vocab_size:
            raise InvalidRequest(
                f"token id {low if low < 0 else high} is not in the vocabulary; ids are 0 to "
                f"{self._vocab_size - 1}",
                name,
            )
        has_ends = len(token_ids) > 1 and (token_ids[0], token_ids[-1]) == (self._first, self._last)
        return list(token_ids) if has_ends else [self._first, *token_ids, self._last]
