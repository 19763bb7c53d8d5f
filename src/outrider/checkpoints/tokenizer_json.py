"""Tokenizers as JSON of the `tokenizers` library: the parts that several file formats share.

A vocabulary of 200,000 tokens is parsed at every start, so its JSON has the fewest merges that
give the same ids, in their shorter form: half the time and a quarter of the memory of a published
tokenizer.json. Free of NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from outrider.errors import CheckpointError

Json = dict[str, Any]
Pair = tuple[str, str]

# Merging a token takes quadratic time; those of Llama 4 need a tenth of this in all.
MAX_MERGE_STEPS = 1 << 28
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# How Llama 4 cuts text before it merges (llama-models, llama4/tokenizer.py). llama.cpp's own
# pattern for "llama4" lacks the marks \p{M} and most of the classes.
LLAMA4_SPLIT = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES: Json = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


def to_text(parts: Json) -> str:
    """Write a whole tokenizer; `parts` are the fields that aren't the same in all of ours."""
    return json.dumps(
        {"version": "1.0", "truncation": None, "padding": None, **parts},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def split(pattern: str) -> Json:
    """Give the step that cuts text into the matches of a pattern."""
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def bpe(vocab: Mapping[str, int], merges: Iterable[Pair]) -> Json:
    """Give a BPE model."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merge_lines(merges),
    }


def merge_lines(merges: Iterable[Pair]) -> list[str] | list[Pair]:
    """Give merges in the library's older form, which takes half the memory to parse."""
    merges = list(merges)
    if any(" " in left or " " in right for left, right in merges):
        return merges
    return [f"{left} {right}" for left, right in merges]


def added_token(token_id: int, content: str, special: bool = True) -> Json:
    """Give the entry of a token that isn't made by merging."""
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def begins_with(token: str, token_id: int) -> Json:
    """Give the step that puts a token before every text."""
    bos = {"SpecialToken": {"id": token, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, second],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }


def byte_alphabet() -> list[str]:
    """Give the character that stands for each byte in a vocabulary (GPT-2's alphabet).

    Printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def merges_by_rank(ranks: Mapping[str, int], label: str) -> list[Pair]:
    """Give the merges of a vocabulary whose ids are the order of merging (tiktoken's files).

    A tokenizer of that kind merges the neighbours whose union has the lowest rank. Within the
    bytes of a token it always does so in the same order, whatever stands around them, because
    nothing merges across the token's borders before it is whole. So each token has exactly one
    last merge, and no other pair that makes the same token is ever chosen: one merge per token is
    enough. `ranks` are by text of one character per byte.
    """
    if sum(len(token) ** 2 for token in ranks) > MAX_MERGE_STEPS:
        raise CheckpointError(
            f"{label}: the longest token has {max(map(len, ranks))} bytes, more than any real one; "
            "fetch the model again"
        )
    never = max(ranks.values(), default=0) + 1
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            parts = _last_parts(token, ranks, never)
            if len(parts) > 2:
                raise CheckpointError(
                    f"{label}: token {ranks[token]} can't be made from others by merging; fetch "
                    "the model again"
                )
            merges.append((parts[0], parts[1]))
    return merges


def _last_parts(token: str, ranks: Mapping[str, int], never: int) -> list[str]:
    """Merge until two parts are left, or nothing merges any more."""
    parts = list(token)
    rank_of = ranks.get
    while len(parts) > 2:
        found = [rank_of(left + right, never) for left, right in pairwise(parts)]
        lowest = min(found)
        if lowest == never:
            break
        at = found.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def fewest_merges(ranks: Mapping[str, int], merges: Sequence[Pair], label: str) -> Sequence[Pair]:
    """Reduce the merges of a file that lists all pairs for each token, in the order of its id.

    What isn't such a list stays as it is, for instance one where ids aren't the order of merging.
    """
    if len(merges) <= len(ranks):
        return merges  # one per token already
    order = [ranks.get(left + right, -1) for left, right in merges]
    if -1 in order or any(later < rank for rank, later in pairwise(order)):
        return merges
    try:
        reduced = merges_by_rank(ranks, label)
    except CheckpointError:
        return merges  # a token that only a text of just this word becomes
    return reduced if set(reduced) <= set(merges) else merges


class _Bpe(msgspec.Struct):
    vocab: dict[str, int]
    merges: list[str | Pair]


def compact(text: str, label: str) -> str:
    """Write a published tokenizer.json of Llama 4 in its shorter form; others stay as they are."""
    try:
        parts = json.loads(text)
        if not isinstance(parts, dict) or not _splits_as_llama4(parts.get("pre_tokenizer")):
            return text
        model = msgspec.convert(parts.get("model"), _Bpe, str_keys=True)
        pairs = [pair for pair in map(_pair, model.merges) if pair is not None]
        if len(pairs) != len(model.merges):
            return text  # the library will name what is wrong
        parts["model"]["merges"] = merge_lines(fewest_merges(model.vocab, pairs, label))
        shorter = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        shorter.encode()  # JSON can hold halves of surrogate pairs, which aren't text
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return text
    return shorter


def _pair(merge: str | Pair) -> Pair | None:
    if not isinstance(merge, str):
        return merge
    parts = merge.split(" ")
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _splits_as_llama4(pre_tokenizer: object) -> bool:
    steps = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    return isinstance(steps, list) and steps == [split(LLAMA4_SPLIT), BYTES]
