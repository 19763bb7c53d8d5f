"""Meta's `tokenizer.model` of Llama 4, as JSON of the `tokenizers` library.

The file is tiktoken's: a line per token with its bytes in base64 and its rank, which is the order
of merging and the token's id. The control tokens aren't in the file; their names and order are
those of llama-models (llama4/tokenizer.py). Files of Llama 2 and 3 have the same name and are
refused. Free of NumPy.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from outrider.checkpoints.tokenizer_json import (
    BYTES,
    LLAMA4_SPLIT,
    Json,
    added_token,
    begins_with,
    bpe,
    byte_alphabet,
    merges_by_rank,
    split,
    to_text,
)
from outrider.errors import CheckpointError

TOKENIZER_FILE = "tokenizer.model"
NUM_SPECIAL_TOKENS = 2048
_MAX_FILE_BYTES = 1 << 26
_NUM_LLAMA3_RANKS = 128_000


def meta_tokenizer_json(path: Path, vocab_size: int | None = None) -> str:
    """Build the tokenizer; control tokens from id `vocab_size` on are left out."""
    ranks = _read_ranks(path)
    names = special_tokens()
    if vocab_size is not None:
        if vocab_size <= len(ranks):
            raise CheckpointError(
                f"{path} has {len(ranks)} tokens but the model's vocabulary is {vocab_size}; use "
                "the tokenizer that belongs to the model"
            )
        names = islice(names, vocab_size - len(ranks))
    added = [added_token(len(ranks) + index, name) for index, name in enumerate(names)]
    model: Json = bpe(ranks, merges_by_rank(ranks, str(path))) | {"ignore_merges": True}
    return to_text(
        {
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [split(LLAMA4_SPLIT), BYTES],
            },
            "post_processor": begins_with(added[0]["content"], added[0]["id"]),
            "decoder": BYTES | {"use_regex": True},
            "model": model,
        }
    )


def special_tokens() -> Iterator[str]:
    """Give the names of the control tokens in the order of their ids."""
    for name in ("begin_of_text", "end_of_text", "fim_prefix", "fim_middle", "fim_suffix"):
        yield f"<|{name}|>"
    yield from _text_tokens()
    yield from _vision_tokens()
    yield from _reserved("reasoning_", 0, 8)
    yield "<|reasoning_thinking_start|>"
    yield "<|reasoning_thinking_end|>"
    yield from _reserved("", 0, NUM_SPECIAL_TOKENS - 5 - 75 - 1054 - 10)


def _text_tokens() -> Iterator[str]:
    for name in ("header_start", "header_end", "eom", "eot", "step"):
        yield f"<|{name}|>"
    yield from _reserved("text_post_train_", 0, 6)
    for name in ("python_start", "python_end", "finetune_right_pad"):
        yield f"<|{name}|>"
    yield from _reserved("text_post_train_", 8, 69)  # 6 and 7 were never given out


def _vision_tokens() -> Iterator[str]:
    yield "<|image_start|>"
    yield "<|image_end|>"
    yield from _reserved("vision_", 0, 2)
    yield "<|tile_x_separator|>"
    yield "<|tile_y_separator|>"
    yield from _reserved("vision_", 2, 6)
    yield "<|image|>"
    yield from _reserved("vision_", 6, 7)
    yield "<|patch|>"
    yield from _reserved("vision_", 7, 1048)


def _reserved(kind: str, begin: int, end: int) -> Iterator[str]:
    return (f"<|{kind}reserved_special_token_{number}|>" for number in range(begin, end))


def _read_ranks(path: Path) -> dict[str, int]:
    """Give the rank of every token, its bytes written as the library's byte alphabet."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise CheckpointError(f"{path} has more than {_MAX_FILE_BYTES} bytes; fetch it again")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    alphabet = byte_alphabet()
    ranks: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            token, rank = _parse(path, number, line)
            ranks["".join([alphabet[byte] for byte in token])] = rank
    _check_ranks(path, ranks, alphabet)
    return ranks


def _parse(path: Path, number: int, line: bytes) -> tuple[bytes, int]:
    try:
        encoded, rank = line.split()
        token = binascii.a2b_base64(encoded, strict_mode=True)
        if token and rank.isdigit() and len(rank) < 10:
            return token, int(rank)
    except ValueError:  # binascii.Error is one of them
        pass
    raise CheckpointError(
        f"{path}: line {number} isn't a token in base64 and its rank; Outrider reads Llama 4's "
        "tokenizer.model or any tokenizer.json: fetch the model again"
    )


def _check_ranks(path: Path, ranks: dict[str, int], alphabet: Sequence[str]) -> None:
    if len(ranks) == _NUM_LLAMA3_RANKS:
        raise CheckpointError(
            f"{path} has {len(ranks)} tokens as Llama 3's has, whose rules are others; fetch the "
            "model's tokenizer.json"
        )
    # A token that occurs twice leaves a gap as well: its first rank is lost.
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise CheckpointError(
            f"{path}: the ranks aren't 0 to {len(ranks) - 1}, each once; fetch the model again"
        )
    missing = [byte for byte, char in enumerate(alphabet) if char not in ranks]
    if missing:
        raise CheckpointError(
            f"{path}: byte {missing[0]} has no token, so not every text could be written; fetch "
            "the model again"
        )
