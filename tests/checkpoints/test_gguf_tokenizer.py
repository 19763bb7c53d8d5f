"""Tokenizers built from GGUF metadata, against the `tokenizers` library's own parts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from outrider.checkpoints.gguf_tokenizer import GgufTokenizer, has_tokenizer
from outrider.errors import CheckpointError
from outrider.text.tokenizer import Tokenizer
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
    "gpt-4o": [
        pre_tokenizers.Split(Regex(O200K), "isolated"),
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


def test_whole_words_win_in_llama_3_and_4_only() -> None:
    # "the" is a token that no merge makes from "t" and "he" in this vocabulary.
    tokens = [*vocabulary(), "the"]
    types = np.array([3] * 3 + [1] * (len(tokens) - 3), np.int32)
    for pre in ("llama-bpe", "llama4"):
        whole = built(pre=pre, tokens=tokens, token_type=types)
        assert whole.encode("the", add_special_tokens=False).tokens == ["the"]
    assert built(tokens=tokens, token_type=types).encode("the").tokens == ["t", "he"]


def test_control_tokens_are_special_and_user_defined_ones_are_not() -> None:
    types = np.array([3, 4, 2] + [1] * (len(vocabulary()) - 3), np.int32)
    added = built(token_type=types).get_added_tokens_decoder()
    assert {token_id: token.special for token_id, token in added.items()} == {
        0: True, 1: False, 2: True,
    }  # fmt: skip


def llama4(names: list[str], at: int, **changes: Any) -> dict[str, Any]:
    """Byte-level metadata of Llama 4's kind: ranks first, then control tokens put in at `at`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "ab", "bc", "abc"]
    types = [1] * len(tokens)
    tokens[at:at] = names
    types[at:at] = [3] * len(names)
    merges = ["a b", "b c", "ab c", "a bc"]
    values = {"pre": "llama4", "tokens": tokens, "merges": merges, "bos_token_id": at}
    return byte_level(**values | {"token_type": np.array(types, np.int32)} | changes)


def test_control_tokens_at_the_end_are_no_words_of_the_vocabulary() -> None:
    metadata = llama4(["<|begin_of_text|>", "<|eot|>"], 259)
    parts = json.loads(GgufTokenizer(metadata, "x").to_json())
    assert len(parts["model"]["vocab"]) == 259
    library = tokenizers.Tokenizer.from_str(json.dumps(parts))
    assert library.token_to_id("<|eot|>") == 260
    assert library.encode("abcbc").ids == [259, 258, 257]
    tokenizer = Tokenizer(json.dumps(parts))
    assert tokenizer.special("<|eot|>") == 260
    assert tokenizer.decode(tokenizer.encode("<|eot|>")) == "<|eot|>"
    assert 260 not in tokenizer.encode("<|eot|>")


@pytest.mark.parametrize("at", [0, 100, 256, 258])
def test_control_tokens_elsewhere_keep_their_ids(at: int) -> None:
    names = ["<|begin_of_text|>", "<|eot|>"]
    text = GgufTokenizer(llama4(names, at), "x").to_json()
    tokenizer = Tokenizer(text)
    assert [tokenizer.special(name) for name in names] == [at, at + 1]
    assert tokenizer.decode(tokenizer.encode("abc<|eot|>")) == "abc<|eot|>"
    assert at + 1 not in tokenizer.encode("<|eot|>")


def test_added_tokens_that_merges_make_stay_in_the_vocabulary() -> None:
    types = np.array([1] * 256 + [4, 4, 4], np.int32)
    metadata = llama4([], 0, token_type=types, bos_token_id=None)
    parts = json.loads(GgufTokenizer(metadata, "x").to_json())
    assert parts["model"]["vocab"]["abc"] == 258


def test_padding_after_the_control_tokens_is_kept() -> None:
    metadata = llama4(["<|begin_of_text|>", "<|eot|>"], 259)
    metadata["tokenizer.ggml.tokens"] += ["[PAD261]", "[PAD262]"]
    types = [*metadata["tokenizer.ggml.token_type"], 5, 5]
    metadata["tokenizer.ggml.token_type"] = np.array(types, np.int32)
    tokenizer = Tokenizer(GgufTokenizer(metadata, "x").to_json())
    assert (tokenizer.special("<|eot|>"), tokenizer.vocab_size) == (260, 263)
    assert tokenizer.encode("abc") == [258]


def test_llama_4s_merges_are_reduced_to_one_per_token() -> None:
    # Every pair that makes a token, in the order of the tokens, as converters write them.
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "ba", "aba", "abab", "baba"]
    values = {
        "tokens": tokens,
        "token_type": np.array([1] * len(tokens), np.int32),
        "merges": ["a b", "b a", "a ba", "ab a", "ab ab", "aba b", "b aba", "ba ba"] * 40,
        "bos_token_id": None,
    }
    unsorted = json.loads(GgufTokenizer(byte_level(pre="llama4", **values), "x").to_json())
    assert len(unsorted["model"]["merges"]) == 320
    values["merges"] = sorted(values["merges"], key=lambda m: tokens.index(m.replace(" ", "")))
    reduced = json.loads(GgufTokenizer(byte_level(pre="llama4", **values), "x").to_json())
    assert reduced["model"]["merges"] == ["a b", "b a", "ab a", "ab ab", "b aba"]
    others = json.loads(GgufTokenizer(byte_level(pre="llama-bpe", **values), "x").to_json())
    assert len(others["model"]["merges"]) == 320


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, False),
        ({"general.name": "x"}, False),
        ({"tokenizer.chat_template": "x"}, False),
        ({"tokenizer.ggml.model": "no_vocab", "tokenizer.ggml.pre": "x"}, False),
        ({"tokenizer.ggml.model": "none"}, False),
        ({"tokenizer.ggml.tokens": ["a"]}, True),
        ({"tokenizer.ggml.model": "gpt2"}, True),
    ],
)
def test_a_file_without_vocabulary_is_recognised(metadata: dict[str, Any], expected: bool) -> None:
    assert has_tokenizer(metadata) is expected


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
