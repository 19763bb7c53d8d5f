"""Llama 4's own vocabulary: ids equal to Meta's on 2,600 texts, and bad files.

What takes Meta's tokenizer itself is in parity/test_llama4_tokenizer.py.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.llama4_tokens import (
    as_published,
    read_golden,
    texts_digest,
    token_line,
    tokenizer_model,
)
from golden.tokenizer_texts import texts
from outrider.checkpoints.gguf_tokenizer import GgufTokenizer
from outrider.checkpoints.meta_tokenizer import meta_tokenizer_json, special_tokens
from outrider.errors import CheckpointError
from outrider.text.tokenizer import Tokenizer

Json = dict[str, Any]


@pytest.fixture(scope="module")
def meta_json() -> str:
    return meta_tokenizer_json(tokenizer_model())


@pytest.fixture(scope="module")
def meta(meta_json: str) -> Tokenizer:
    return Tokenizer(meta_json)


def check_golden(tokenizer: Tokenizer) -> None:
    digest, lines = read_golden()
    assert digest == texts_digest(), "the texts have changed: make the goldens anew"
    for text, line in zip(texts(), lines, strict=True):
        token_ids = tokenizer.encode(text)
        assert token_line(token_ids) == line, ascii(text[:80])
        assert tokenizer.decode(token_ids) == text


def test_ids_from_metas_file_are_metas(meta: Tokenizer) -> None:
    check_golden(meta)


@pytest.mark.slow
def test_ids_from_a_gguf_file_are_metas(meta_json: str) -> None:
    published = as_published(meta_json)
    vocab, added = published["model"]["vocab"], published["added_tokens"]
    tokens = [*vocab, *(token["content"] for token in added)]
    values = {
        "model": "gpt2",
        "pre": "llama4",
        "tokens": tokens,
        "token_type": np.array([1] * len(vocab) + [3] * len(added), np.int32),
        "merges": [f"{left} {right}" for left, right in published["model"]["merges"]],
        "bos_token_id": 200000,
        "eos_token_id": 200008,
    }
    metadata = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    begin = time.perf_counter()
    found = GgufTokenizer(metadata, "x.gguf").to_json()
    assert time.perf_counter() - begin < 60  # takes 4 s; the bound only catches a slow path
    assert json.loads(found) == json.loads(meta_json)  # whose ids are checked above


def test_control_tokens_have_metas_ids(meta: Tokenizer) -> None:
    ids = {
        "<|begin_of_text|>": 200000, "<|end_of_text|>": 200001, "<|fim_suffix|>": 200004,
        "<|header_start|>": 200005, "<|header_end|>": 200006, "<|eom|>": 200007,
        "<|eot|>": 200008, "<|step|>": 200009, "<|python_start|>": 200016,
        "<|python_end|>": 200017, "<|finetune_right_pad|>": 200018,
        "<|text_post_train_reserved_special_token_68|>": 200079, "<|image_start|>": 200080,
        "<|image_end|>": 200081, "<|tile_x_separator|>": 200084, "<|tile_y_separator|>": 200085,
        "<|image|>": 200090, "<|patch|>": 200092, "<|vision_reserved_special_token_1047|>": 201133,
        "<|reasoning_reserved_special_token_0|>": 201134, "<|reasoning_thinking_start|>": 201142,
        "<|reasoning_thinking_end|>": 201143, "<|reserved_special_token_0|>": 201144,
        "<|reserved_special_token_903|>": 202047,
    }  # fmt: skip
    assert {name: meta.special(name) for name in ids} == ids
    assert (meta.vocab_size, meta.prefix_ids) == (202048, (200000,))
    assert len(set(special_tokens())) == 2048


def test_control_tokens_beyond_the_models_vocabulary_are_left_out(tmp_path: Path) -> None:
    path = write_ranks(tmp_path, small_ranks())
    whole, cut = (Tokenizer(meta_tokenizer_json(path, size)) for size in (None, 260 + 1136))
    assert (whole.vocab_size, cut.vocab_size) == (260 + 2048, 260 + 1136)
    assert cut.special("<|patch|>") == whole.special("<|patch|>") == 260 + 92
    assert not cut.has_special("<|reserved_special_token_0|>")
    with pytest.raises(CheckpointError, match=r"260 tokens but the model's vocabulary is 260"):
        meta_tokenizer_json(path, 260)


def test_tokens_merge_by_rank(tmp_path: Path) -> None:
    # "ab" comes before "bc", so "abc" is made of "ab" and "c", and "abcb" can't be "a", "bc", "b".
    tokenizer = Tokenizer(meta_tokenizer_json(write_ranks(tmp_path, small_ranks())))
    assert tokenizer.encode("abc") == [258]
    assert tokenizer.encode("abcb") == [258, ord("b")]
    assert tokenizer.encode("bcd") == [257, ord("d")]
    assert tokenizer.encode("abab") == [256, 256]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ranks: ranks | {b"zq": 999}, "ranks aren't 0 to 260"),
        (lambda ranks: ranks | {b"zq": 7}, "ranks aren't 0 to 260"),
        (lambda ranks: ranks | {b"abcx": 260, b"qrst": 261}, "token 261 can't be made from others"),
        (lambda ranks: ranks | {b"z" * 20_000: 260}, "longest token has 20000 bytes"),
        (
            lambda ranks: {(b"%d!" % rank if rank == 65 else token): rank
                           for token, rank in ranks.items()},
            "byte 65 has no token",
        ),
        (
            lambda ranks: ranks | {b"%05d" % i: 260 + i for i in range(128_000 - 260)},
            "128000 tokens as Llama 3's",
        ),
    ],
    ids=["gap", "twice", "unreachable", "long", "no_byte", "llama3"],
)  # fmt: skip
def test_ranks_that_do_not_hold_together_are_refused(
    tmp_path: Path, change: Any, message: str
) -> None:
    path = write_ranks(tmp_path, change(small_ranks()))
    with pytest.raises(CheckpointError, match=message) as caught:
        meta_tokenizer_json(path)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"AA==", b"AA== 0 1", b"AA== x", b"AA== -1", b"A 0", b"!! 0", b"== 0",
     b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02", b"AA== 99999999999999999999999"],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.model") as caught:
        meta_tokenizer_json(path)
    assert caught.value.message.isprintable()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't be read: No such file"):
        meta_tokenizer_json(tmp_path / "tokenizer.model")


def small_ranks() -> dict[bytes, int]:
    """The 256 bytes in an order of their own, and four tokens more."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    return ranks | {b"ab": 256, b"bc": 257, b"abc": 258, b"  ": 259}


def write_ranks(folder: Path, ranks: dict[bytes, int]) -> Path:
    path = folder / "tokenizer.model"
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in ranks.items()]
    path.write_text("\n".join(lines) + "\n")
    return path
