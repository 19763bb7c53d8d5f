"""Texts of an exact length in tokens, for a tokenizer of words and one of bytes."""

from __future__ import annotations

import importlib
import random

import pytest

from outrider.text.prompt import PromptEncoder


class Words:
    """Counts words, and gives them back with an ending that has to be cut."""

    def encode(self, text: str, param: str | None = None) -> list[int]:
        del param
        self.words = text.split(" ") if text else []
        return list(range(len(self.words)))

    def decode(self, token_ids: list[int]) -> str:
        return " ".join(self.words[token] for token in token_ids)


class Grumpy(Words):
    """Reads every text as longer than it was."""

    def encode(self, text: str, param: str | None = None) -> list[int]:
        return super().encode(text + " and more", param)


class NoPrefix:
    def raw_prefix(self, tokenizer: object) -> list[int]:
        del tokenizer
        return []


def encoder(tokenizer: Words) -> PromptEncoder:
    return PromptEncoder(tokenizer, NoPrefix(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_tokens", [1, 2, 100])
def test_a_text_has_the_length_asked_for_and_comes_from_its_seed(num_tokens: int) -> None:
    maker = importlib.import_module("prompts").TextMaker(encoder(Words()))
    text = maker.make(num_tokens, random.Random(3))
    assert maker.count(text) == num_tokens
    assert text == maker.make(num_tokens, random.Random(3))
    if num_tokens > 1:
        assert text != maker.make(num_tokens, random.Random(4))


def test_a_text_can_go_on_from_a_beginning() -> None:
    maker = importlib.import_module("prompts").TextMaker(encoder(Words()))
    beginning = maker.make(20, random.Random(0))
    text = maker.make(30, random.Random(1), beginning)
    assert text.startswith(beginning + " ")
    assert maker.count(text) == 30


def test_a_tokenizer_that_never_agrees_is_refused() -> None:
    maker = importlib.import_module("prompts").TextMaker(encoder(Grumpy()))
    with pytest.raises(SystemExit, match="no text of 5 tokens"):
        maker.make(5, random.Random(0))


@pytest.mark.real_model
def test_texts_for_the_default_model_have_their_length(model_path: object) -> None:
    from outrider import LLM

    llm = LLM(str(model_path), max_model_len=256)
    maker = importlib.import_module("prompts").TextMaker(llm._prompts)
    for num_tokens in (1, 16, 200):
        assert len(llm.tokenize(maker.make(num_tokens, random.Random(5)))) == num_tokens
    llm.close()
