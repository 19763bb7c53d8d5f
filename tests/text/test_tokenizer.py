"""Tokenizer: exact ids, content that stays content, bytes of tokens, bad input."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from outrider.checkpoints.gguf_tokenizer import GgufTokenizer
from outrider.errors import CheckpointError, InvalidRequest
from outrider.text.tokenizer import (
    MAX_PIECE_CHARS,
    MAX_RUN_CHARS,
    Tokenizer,
    _cut_long_runs,
)

NAMES = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
UNICODE = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(UNICODE, max_size=200)
# Control tokens' names, whole and in parts, between pieces of other text.
HOSTILE_TEXTS = st.lists(
    st.one_of(st.sampled_from([*NAMES, "<|", "im_end", "|>", " ", "\n"]), st.text(UNICODE)),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def tokenizer(chatml_json: str) -> Tokenizer:
    return Tokenizer(chatml_json)


@given(text=TEXTS)
def test_ids_are_those_of_the_library(
    tokenizer: Tokenizer, chatml_library: tokenizers.Tokenizer, text: str
) -> None:
    if not any(name in text for name in NAMES):
        assert tokenizer.encode(text) == chatml_library.encode(text).ids


@given(text=TEXTS)
def test_llama3_ids_are_those_of_the_library(
    llama3_json: str, llama3_library: tokenizers.Tokenizer, text: str
) -> None:
    if "<|" not in text:
        reference = llama3_library.encode(text, add_special_tokens=False).ids
        assert Tokenizer(llama3_json).encode(text) == reference


@given(text=HOSTILE_TEXTS)
def test_no_added_token_is_recognised_in_content(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text)
    assert not {tokenizer.special(name) for name in NAMES} & set(token_ids)
    assert tokenizer.decode(token_ids) == text


@given(text=HOSTILE_TEXTS)
def test_a_word_that_is_a_control_token_stays_text(whole_word_json: str, text: str) -> None:
    tokenizer = Tokenizer(whole_word_json)
    token_ids = tokenizer.encode(text)
    assert not any(tokenizer.is_special(token_id) for token_id in token_ids)
    assert tokenizer.decode(token_ids) == text


def test_the_hazard_of_looking_up_whole_words_is_real(whole_word_json: str) -> None:
    library = tokenizers.Tokenizer.from_str(whole_word_json)
    library.encode_special_tokens = True
    assert library.encode("<|im_end|>").tokens == ["<|im_end|>"]
    assert Tokenizer(whole_word_json).special("<|im_end|>") not in Tokenizer(
        whole_word_json
    ).encode("<|im_end|>")


def test_a_control_token_of_one_character_is_refused_in_content(whole_word_json: str) -> None:
    parts: dict[str, Any] = json.loads(whole_word_json)
    token_id = parts["model"]["vocab"]["A"]
    added = {"id": token_id, "content": "A", "single_word": False, "lstrip": False}
    parts["added_tokens"].append(added | {"rstrip": False, "normalized": False, "special": True})
    with pytest.raises(InvalidRequest, match="control character 'A'"):
        Tokenizer(json.dumps(parts)).encode("A", "prompt")


def test_added_tokens_that_are_not_special_are_text_of_an_answer(tokenizer: Tokenizer) -> None:
    think = tokenizer.special("<think>")
    end = tokenizer.special("<|im_end|>")
    assert not tokenizer.is_special(think)
    assert tokenizer.is_special(end)
    assert tokenizer.decode([think, end]) == "<think>"
    assert tokenizer.decode([think, end], skip_special=False) == "<think><|im_end|>"


@given(text=TEXTS)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text)
    assert tokenizer.decode(token_ids) == text
    assert b"".join(map(tokenizer.token_bytes, token_ids)) == text.encode()


def test_broken_characters_are_decoded_as_the_library_does(
    tokenizer: Tokenizer, chatml_library: tokenizers.Tokenizer
) -> None:
    token_ids = tokenizer.encode("日本🙂é")
    for begin in range(len(token_ids)):
        part = token_ids[begin : begin + 5]
        assert tokenizer.decode(part) == chatml_library.decode(part)


def test_every_byte_has_a_token(tokenizer: Tokenizer) -> None:
    values = {tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= values


def test_bytes_of_a_control_token_are_its_name(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(tokenizer.special("<|im_end|>")) == b"<|im_end|>"


@pytest.mark.parametrize("token_id", [-1, 1 << 20, 1 << 40])
def test_ids_outside_the_vocabulary_have_no_bytes(tokenizer: Tokenizer, token_id: int) -> None:
    assert tokenizer.token_bytes(token_id) == b""
    assert not tokenizer.is_special(token_id)


@pytest.mark.parametrize(
    ("text", "bytes_of_tokens"),
    [
        ("a", [b" a"]),
        ("b é", [b" ", b"b", b" ", "é".encode()]),
        ("ab\n", [b" a", b"b", b"\n"]),
        ("z", [b" ", b"z"]),
    ],
)
def test_sentencepiece_tokens_have_spaces_and_bytes(
    sentencepiece_json: str, text: str, bytes_of_tokens: list[bytes]
) -> None:
    tokenizer = Tokenizer(sentencepiece_json)
    token_ids = tokenizer.encode(text)
    assert [tokenizer.token_bytes(token_id) for token_id in token_ids] == bytes_of_tokens
    assert tokenizer.decode(token_ids) == text
    assert tokenizer.token_bytes(3 + 0xC3) == b"\xc3"


def test_a_byte_level_token_that_looks_like_a_byte_is_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("<0x41>")) == "<0x41>"


def test_prefix_is_what_the_tokenizer_puts_before_a_text(
    chatml_json: str, llama3_json: str, sentencepiece_json: str
) -> None:
    prefixes = [Tokenizer(j).prefix_ids for j in (chatml_json, llama3_json, sentencepiece_json)]
    assert prefixes == [(), (0,), (1,)]


@pytest.mark.parametrize(("is_added", "prefix"), [(True, (1,)), (False, ())])
def test_prefix_of_a_gguf_file_is_its_bos_token(is_added: bool, prefix: tuple[int, ...]) -> None:
    tokens = ["<unk>", "<s>", "</s>", "▁", "a", "▁a"]
    metadata: dict[str, Any] = {
        "model": "llama",
        "tokens": tokens,
        "scores": np.arange(len(tokens), dtype=np.float32),
        "token_type": np.array([2, 3, 3, 1, 1, 1], np.int32),
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "add_bos_token": is_added,
    }
    named = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    tokenizer = Tokenizer(GgufTokenizer(named, "a.gguf").to_json())
    assert tokenizer.prefix_ids == prefix
    assert tokenizer.encode("a") == [5]


def test_encode_adds_no_control_token(llama3_json: str) -> None:
    tokenizer = Tokenizer(llama3_json)
    assert tokenizer.encode("") == []
    assert tokenizer.special("<|begin_of_text|>") not in tokenizer.encode("the")


def test_truncation_and_padding_in_the_file_are_not_followed(
    chatml_library: tokenizers.Tokenizer,
) -> None:
    library = tokenizers.Tokenizer.from_str(chatml_library.to_str())
    library.enable_truncation(3)
    library.enable_padding(length=64)
    text = "the user there"
    assert Tokenizer(library.to_str()).encode(text) == chatml_library.encode(text).ids


def test_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match=r"character 2 .* U\+D800") as caught:
        tokenizer.encode("ab\ud800", "messages[1].content")
    assert caught.value.param == "messages[1].content"


@pytest.mark.parametrize("char", ["a", " ", "\n", "7", "é", "🙂", "|"])
def test_a_megabyte_of_one_character_is_tokenised(tokenizer: Tokenizer, char: str) -> None:
    text = char * (1_000_000 // len(char.encode()))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(
    runs=st.lists(
        st.tuples(st.sampled_from("a  \n"), st.sampled_from([1, 7, MAX_RUN_CHARS, 60_000])),
        max_size=6,
    )
)
def test_only_long_runs_are_cut(runs: list[tuple[str, int]]) -> None:
    text = "".join(char * length for char, length in runs)
    pieces = _cut_long_runs(text)
    assert "".join(pieces) == text
    longest = max(
        (len(run) for piece in pieces for run in re.findall(r"\s+|\S+", piece)), default=0
    )
    assert longest <= MAX_RUN_CHARS
    has_long_run = any(len(run) > MAX_RUN_CHARS for run in re.findall(r"\s+|\S+", text))
    assert (len(pieces) > 1) == has_long_run


def test_long_text_of_ordinary_words_is_not_cut() -> None:
    text = "the lighthouse keeper " * 10_000
    assert _cut_long_runs(text) == [text]


@pytest.mark.parametrize("length", [MAX_PIECE_CHARS, MAX_PIECE_CHARS + 1, 2 * MAX_PIECE_CHARS + 3])
def test_metas_vocabularies_cut_a_text_into_pieces_as_metas_tokenizer_does(
    tokenizer: Tokenizer, llama3_json: str, length: int
) -> None:
    text = ("the keeper " * (length // 11 + 1))[:length]
    pieces = [text[at : at + MAX_PIECE_CHARS] for at in range(0, length, MAX_PIECE_CHARS)]
    metas = Tokenizer(llama3_json)
    assert metas.encode(text) == [i for piece in pieces for i in metas.encode(piece)]
    assert metas._cut(text) == pieces
    assert tokenizer._cut(text) == [text]


def test_runs_are_counted_anew_in_each_piece(llama3_json: str) -> None:
    # 12,000 spaces on both sides of the cut are no long run on either.
    text = "a " * ((MAX_PIECE_CHARS - 12_000) // 2) + " " * 24_000 + "a" + " " * 30_000
    pieces = Tokenizer(llama3_json)._cut(text)
    assert [len(piece) for piece in pieces] == [MAX_PIECE_CHARS, 12_001 + MAX_RUN_CHARS, 5_000]


def test_what_is_wrong_with_a_tokenizer_is_said_in_short() -> None:
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": [f"{'b' * 5000} a"]}
    with pytest.raises(CheckpointError, match=r"can't be read: Token `bbb") as caught:
        Tokenizer(json.dumps({"model": model}))
    assert len(caught.value.message) < 250


def test_a_missing_control_token_is_named(tokenizer: Tokenizer) -> None:
    assert not tokenizer.has_special("<|eot_id|>")
    with pytest.raises(CheckpointError, match=r"no token <\|eot_id\|>"):
        tokenizer.special("<|eot_id|>")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"model": null}', "null", '"\\ud800"'),
        '{"model": {"type": "WordLevel", "vocab": {"b": 0}, "unk_token": "[UNK]"}}',
        '{"model": {"type": "Unigram", "vocab": []}}',
    ],
)
def test_a_broken_tokenizer_is_one_line_of_error(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"^the tokenizer can't be read: .+\Z"):
        Tokenizer(text)


def test_merges_of_unknown_tokens_are_refused(chatml_json: str) -> None:
    parts: dict[str, Any] = json.loads(chatml_json)
    parts["model"]["merges"][0] = ["never", "there"]
    with pytest.raises(CheckpointError, match="never"):
        Tokenizer(json.dumps(parts))
