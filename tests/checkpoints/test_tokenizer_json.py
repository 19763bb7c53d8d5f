"""The shared parts of tokenizers: which merges are enough, and what is left alone."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from outrider.checkpoints.tokenizer_json import (
    BYTES,
    LLAMA4_SPLIT,
    added_token,
    bpe,
    byte_alphabet,
    compact,
    fewest_merges,
    merge_lines,
    merges_by_rank,
    split,
    to_text,
)
from outrider.errors import CheckpointError

Ranks = dict[str, int]


def rank_greedy(text: str, ranks: Ranks) -> list[int]:
    """Merge the neighbours of lowest rank until none are left: what tiktoken defines."""
    parts = list(text)
    while True:
        pairs = enumerate(left + right for left, right in pairwise(parts))
        found = [(ranks[token], at) for at, token in pairs if token in ranks]
        if not found:
            return [ranks[part] for part in parts]
        _, at = min(found)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@st.composite
def reachable_ranks(draw: st.DrawFn) -> Ranks:
    """A vocabulary over few letters whose tokens can all be made by merging."""
    ranks = {char: rank for rank, char in enumerate("abc")}
    for left, right in draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)))):
        known = list(ranks)
        token = known[left % len(known)] + known[right % len(known)]
        if token not in ranks and len(token) < 12:
            ranks[token] = len(ranks)
    # Ranks out of order, as in Llama 4's vocabulary, where some parts come after their whole.
    order = draw(st.permutations(list(ranks)[3:]))
    ranks = {token: rank for rank, token in enumerate([*"abc", *order])}
    while unreachable := [t for t in ranks if len(rank_greedy(t, ranks)) > 1]:
        ranks = {t: rank for rank, t in enumerate(t for t in ranks if t not in unreachable)}
    return ranks


def all_pairs(ranks: Ranks) -> list[tuple[str, str]]:
    """List the merges as published files do: every pair that makes a token, by the token's id."""
    return [
        (token[:at], token[at:])
        for token in sorted(ranks, key=ranks.__getitem__)
        for at in range(1, len(token))
        if token[:at] in ranks and token[at:] in ranks
    ]


def library(ranks: Ranks, merges: Any) -> tokenizers.Tokenizer:
    parts = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "decoder": None}
    return tokenizers.Tokenizer.from_str(
        to_text(parts | {"post_processor": None, "model": bpe(ranks, merges)})
    )


@given(ranks=reachable_ranks(), text=st.text("abc", max_size=30))
def test_one_merge_per_token_gives_the_ids_of_merging_by_rank(ranks: Ranks, text: str) -> None:
    merges = merges_by_rank(ranks, "x")
    assert len(merges) == len(ranks) - 3
    assert library(ranks, merges).encode(text).ids == rank_greedy(text, ranks)


@given(ranks=reachable_ranks())
def test_a_list_of_all_pairs_is_reduced(ranks: Ranks) -> None:
    listed = all_pairs(ranks)
    reduced = fewest_merges(ranks, listed, "x")
    if len(listed) > len(ranks):
        assert list(reduced) == merges_by_rank(ranks, "x")
    else:
        assert reduced is listed


RANKS: Ranks = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4, "abab": 5, "baba": 6}


def test_lists_of_another_kind_stay_as_they_are() -> None:
    listed = all_pairs(RANKS)
    assert len(fewest_merges(RANKS, listed, "x")) == 5 < len(listed)
    others = {
        "not by id": listed[::-1],
        "an unknown token": [*listed, ("abab", "ab")],
        "a merge is missing": [merge for merge in listed if merge != ("a", "b")] * 2,
    }
    for name, merges in others.items():
        assert fewest_merges(RANKS, merges, "x") is merges, name
    unreachable = RANKS | {"bb": 7, "abba": 8}
    del unreachable["ba"]
    longer = [*listed, ("ab", "ba")] * 2
    assert fewest_merges(unreachable, longer, "x") is longer


def test_vocabulary_with_an_unreachable_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="token 3 can't be made from others by merging"):
        merges_by_rank({"a": 0, "b": 1, "c": 2, "abc": 3}, "x")


def test_merges_with_spaces_in_tokens_keep_the_longer_form() -> None:
    assert merge_lines([("a", "b"), ("c", "d")]) == ["a b", "c d"]
    assert merge_lines([("a", "b"), (" ", "d")]) == [("a", "b"), (" ", "d")]


def test_byte_alphabet_is_the_librarys() -> None:
    assert sorted(byte_alphabet()) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    encoder = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = byte_alphabet()
    for char in "a é\n日\x7f\xad":
        [(written, _)] = encoder.pre_tokenize_str(char)
        assert written == "".join(alphabet[byte] for byte in char.encode())


def published(**changes: Any) -> dict[str, Any]:
    model = bpe(RANKS, []) | {"merges": [list(pair) for pair in all_pairs(RANKS)]}
    steps = {"type": "Sequence", "pretokenizers": [split(LLAMA4_SPLIT), BYTES]}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "pre_tokenizer": steps, "post_processor": None, "decoder": BYTES,
        "added_tokens": [added_token(7, "<|eot|>")], "model": model,
    } | changes  # fmt: skip


def test_llama_4s_json_is_written_shorter() -> None:
    text = json.dumps(published(), indent=2)
    parts = json.loads(compact(text, "x"))
    assert parts["model"].pop("merges") == ["a b", "b a", "ab a", "ab ab", "b aba"]
    expected = published()
    del expected["model"]["merges"]
    assert parts == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(r"\p{L}+"), BYTES]}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": 5}},
        {"model": None},
        {"model": {"type": "Unigram", "vocab": [["a", 0.5]]}},
        {"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a a"]}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a", "a"]]}},
        {"model": {"type": "BPE", "vocab": {"\ud800": 0}, "merges": []}},
    ],
)
def test_any_other_json_stays_as_it_is(changes: dict[str, Any]) -> None:
    text = json.dumps(published(**changes))
    assert compact(text, "x") is text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_what_is_no_json_object_stays_as_it_is(text: str) -> None:
    assert compact(text, "x") is text
