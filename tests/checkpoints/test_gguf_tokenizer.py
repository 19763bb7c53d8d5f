"""Tokenizers built from GGUF metadata, against the `tokenizers` library's own parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from outrider.checkpoints.gguf_tokenizer import GgufTokenizer
from outrider.errors import CheckpointError
from tiny_models import MERGES, SPECIAL_TOKENS, tokenizer, vocabulary

LETTERS = st.sampled_from("ab 'stre\n\t 129.é日🎉<|>/")
TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), LETTERS), max_size=40)


def byte_level(**changes: Any) -> dict[str, Any]:
    tokens = vocabulary()
    special = len(SPECIAL_TOKENS)
    values = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": np.array([3] * special + [1] * (len(tokens) - special), np.int32),
        "merges": list(MERGES),
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    values |= changes
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def built(**changes: Any) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(GgufTokenizer(byte_level(**changes), "x.gguf").to_json())


@given(TEXTS)
def test_smollm_tokenizer_equals_the_librarys_own(text: str) -> None:
    expected = tokenizer().encode(text)
    found = SMOLLM.encode(text)
    assert found.ids == expected.ids
    assert SMOLLM.decode(found.ids) == tokenizer().decode(expected.ids)


SMOLLM = built()
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
    "llama-bpe": [
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
    "llama4": [
        pre_tokenizers.Split(Regex(O200K), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}
BUILT = {pre: built(pre=pre) for pre in SPLITS}


@pytest.mark.parametrize("pre", SPLITS)
@given(text=TEXTS)
def test_known_splits_equal_the_librarys_own(pre: str, text: str) -> None:
    own = pre_tokenizers.Sequence(SPLITS[pre])
    assert BUILT[pre].pre_tokenizer.pre_tokenize_str(text) == own.pre_tokenize_str(text)


def test_default_split_cuts_punctuation_and_digits_in_threes() -> None:
    pieces = built(pre="default").pre_tokenizer.pre_tokenize_str("a,,b 12345")
    assert [piece for piece, _ in pieces] == ["a", ",,", "b", "Ġ", "123", "45"]


def test_whole_words_win_in_llama_3_only() -> None:
    # "the" is a token that no merge makes from "t" and "he" in this vocabulary.
    tokens = [*vocabulary(), "the"]
    types = np.array([3] * 3 + [1] * (len(tokens) - 3), np.int32)
    whole = built(pre="llama-bpe", tokens=tokens, token_type=types)
    assert whole.encode("the", add_special_tokens=False).tokens == ["the"]
    assert built(tokens=tokens, token_type=types).encode("the").tokens == ["t", "he"]


def test_control_tokens_are_special_and_user_defined_ones_are_not() -> None:
    types = np.array([3, 4, 2] + [1] * (len(vocabulary()) - 3), np.int32)
    added = built(token_type=types).get_added_tokens_decoder()
    assert {token_id: token.special for token_id, token in added.items()} == {
        0: True, 1: False, 2: True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"add_bos_token": True}, 0),
        ({"pre": "llama-bpe"}, 0),
        ({"pre": "llama-bpe", "add_bos_token": False}, None),
        ({"pre": "llama-bpe", "bos_token_id": None}, None),
    ],
)
def test_prompts_begin_with_bos_where_the_file_or_the_family_says_so(
    changes: dict[str, Any], expected: int | None
) -> None:
    assert GgufTokenizer(byte_level(**changes), "x").bos_token_id() == expected


def test_library_adds_bos_by_itself_only_where_prompts_begin_with_it() -> None:
    assert built(add_bos_token=True).encode("in").tokens == ["<|endoftext|>", "in"]
    assert built().encode("in").tokens == ["in"]
    assert built(add_bos_token=True, bos_token_id=10**6).encode("in").tokens == ["in"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "t5"}, "tokenizer 't5' isn't supported"),
        ({"model": None}, "tokenizer.ggml.model is missing"),
        ({"model": 3}, "tokenizer.ggml.model isn't a string"),
        ({"pre": None}, "tokenizer.ggml.pre is missing"),
        ({"pre": "jais"}, "text split 'jais'"),
        ({"tokens": ["a", "a"]}, "a token twice"),
        ({"tokens": [1, 2]}, "isn't a list of strings"),
        ({"tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"merges": ["a b c"]}, "merges has 'a b c'"),
        ({"merges": ["q z"]}, "merges has 'q z'"),
        ({"merges": ["nothing here"]}, "isn't two tokens"),
        ({"token_type": np.array([1, 2])}, "one number per token"),
    ],
)
def test_bad_tokenizer_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        GgufTokenizer(byte_level(**changes), "x.gguf").to_json()


PIECES = [
    "<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "<0xA9>", "▁", "a", "b", "c", "ab", "▁ab", "bc",
    "▁a", "abc",
]  # fmt: skip
SCORES = [0, 0, 0, 0, 0, 0, -20, -21, -22, -23, -1, -2, -3, -4, -5]


def sentence_piece(**changes: Any) -> GgufTokenizer:
    values = {
        "model": "llama",
        "tokens": PIECES,
        "scores": np.array(SCORES, np.float32),
        "token_type": np.array([2, 3, 3, 6, 6, 6] + [1] * 9, np.int32),
        "unknown_token_id": 0,
        "bos_token_id": 1,
    }
    return GgufTokenizer({f"tokenizer.ggml.{k}": v for k, v in (values | changes).items()}, "x")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ab", ["▁ab"]),
        ("abc", ["▁ab", "c"]),  # "ab" scores higher than "abc", which "▁ab" then hides
        ("bc a", ["▁", "bc", "▁a"]),
        ("a\né", ["▁a", "<0x0A>", "<0xC3>", "<0xA9>"]),
        ("", []),
    ],
)
def test_sentence_piece_merges_by_score_and_falls_back_to_bytes(
    text: str, tokens: list[str]
) -> None:
    built = tokenizers.Tokenizer.from_str(sentence_piece().to_json())
    encoding = built.encode(text, add_special_tokens=False)
    assert encoding.tokens == tokens
    assert built.decode(encoding.ids) == text
    assert sentence_piece().bos_token_id() == 1


def test_sentence_piece_without_a_space_in_front() -> None:
    built = sentence_piece(add_space_prefix=False).to_json()
    encoding = tokenizers.Tokenizer.from_str(built).encode("ab ab", add_special_tokens=False)
    assert encoding.tokens == ["ab", "▁ab"]


def test_hostile_sentence_piece_vocabulary_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no unknown token 99"):
        sentence_piece(unknown_token_id=99).to_json()
    with pytest.raises(CheckpointError, match=r"has 5000 characters"):
        sentence_piece(tokens=[*PIECES[:-1], "a" * 5000]).to_json()
